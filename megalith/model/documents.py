"""Attention within documents, of which a sample holds several or pieces (Megatron-LM's `reset-attention-mask`).

`starts` (B, T) is for each token the place in its sample at which its document begins: two tokens are of one document
where theirs are the same, and a token's position in its document is its place less this.

On a CPU each document of some length attends by itself, so that the work falls from T² to the sum of the documents'
squares; short ones side by side share a mask. Elsewhere the whole sample is under one mask, which torch's kernels take.
"""

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.kernels import causal_attention

ALONE = 128  # tokens from which a document attends by itself; those of shorter ones, together, at most


def document_positions(starts: Tensor) -> Tensor:
    """Positions of the tokens in their documents, (B, T)."""
    return torch.arange(starts.shape[1], device=starts.device) - starts


def document_mask(starts: Tensor, window: int | None = None) -> Tensor:
    """Which keys each token sees, (B, 1, T, T): those of its document up to itself, within a sliding window."""
    same = (starts.unsqueeze(2) == starts.unsqueeze(1)).tril_()
    return (same if window is None else same.triu_(1 - window)).unsqueeze(1)


def document_attention(
    q: Tensor, k: Tensor, v: Tensor, starts: Tensor, window: int | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(q·kᵀ / √D)·v of each token over its document up to itself, all (B, H, T, D)."""
    if q.device.type != "cpu" or dropout or window is not None or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=document_mask(starts, window), dropout_p=dropout)
    samples = []
    for sample, (own, *each) in enumerate(zip(starts, *(torch.split(x, 1) for x in (q, k, v)), strict=True)):
        counts = pieces(own)
        places = [slice(end - count, end) for count, end in zip(counts, itertools.accumulate(counts), strict=True)]
        found = []
        for place, queries, keys, values in zip(places, *(torch.split(x, counts, dim=2) for x in each), strict=True):
            within = starts[sample : sample + 1, place]
            if bool((within == within[0, 0]).all()):
                found.append(causal_attention(queries, keys, values))
            else:
                found.append(F.scaled_dot_product_attention(queries, keys, values, attn_mask=document_mask(within)))
        samples.append(found[0] if len(found) == 1 else torch.cat(found, dim=2))
    return samples[0] if len(samples) == 1 else torch.cat(samples)


def pieces(starts: Tensor) -> list[int]:
    """Tokens of each piece of a sample that attends by itself: a long document, or short ones side by side.

    `starts` (T) are those of one sample.
    """
    found = [0]
    for count in torch.unique_consecutive(starts, return_counts=True)[1].tolist():
        if found[-1] + count <= ALONE:
            found[-1] += count
        else:
            found.append(count)
    return found if found[0] else found[1:]
