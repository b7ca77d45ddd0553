"""Weights that several ranks hold alike, compared by their digests.

Data-parallel replicas, the norms of tensor-parallel ranks and a tied embedding hold the same numbers to the bit, since
all of them move by the same gradient. Where they do not, a bit has flipped in one of them, or a rank computes wrongly.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megalith.console import note
from megalith.errors import ResourceError
from megalith.parallel import DistributedModel
from megalith.parallel.master_weights import region
from megalith.training.run_state import GoBack, Run

MEND = "Look after its machine; the same command goes on from the last checkpoint."
Digests = Mapping[str, int]
"""By the name and place of a piece of a weight."""
_BLOCK = 2**20
_ODD = 0x1E3779B97F4A7C15


@dataclass(frozen=True)
class _Suspect:
    """Weights that did not agree, until their steps are replayed."""

    step: int
    ranks: list[Digests]
    own: dict[str, Tensor]
    """Copies of this rank's pieces that are held otherwise elsewhere."""


class ReplicaCheck:
    """Compares the weights every so many steps, and again after the steps since the last checkpoint were replayed."""

    def __init__(self) -> None:
        self._suspect: _Suspect | None = None

    def is_due(self, run: Run, *, saves: bool) -> bool:
        """Whether to compare after this step: before a save, every so many steps, and when it has been replayed."""
        interval = run.train.replica_check_interval
        if not interval or run.ranks.count == 1:
            return False
        replayed = self._suspect is not None and self._suspect.step == run.progress.step
        return saves or replayed or run.progress.step % interval == 0

    def compare(self, run: Run) -> GoBack | None:
        """Ask to go back where the weights differ. Every rank must call it.

        Steps in a layout are the same to the bit, so that the replayed weights tell whose were wrong. Raises
        ResourceError where they differ again.
        """
        step, ranks = run.progress.step, run.ranks.gather(_digests(run.model))
        names = differing(ranks)
        suspect, self._suspect = self._suspect, None
        if suspect is not None and suspect.step == step:
            if names:
                raise _persistent(step, ranks, names)
            self._tell(run, suspect)
            return None
        if not names:
            return None
        self._suspect = _Suspect(step, ranks, {name: each.clone() for name, each in _pieces(run.model, names)})
        if run.ranks.is_rank_zero:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            note(
                f"step {step:,}: ranks that hold {names[0]}{more} alike do not agree; the steps since the last "
                "checkpoint are replayed."
            )
        wrong = outvoted(ranks)
        who = f"rank {', '.join(map(str, wrong))} holds" if wrong else "one of the ranks holds"
        return GoBack(None, ResourceError(f"{who} wrong weights at step {step}, and no checkpoint stands.", mend=MEND))

    def _tell(self, run: Run, suspect: _Suspect) -> None:
        """Name the ranks whose weights had been wrong.

        Their gradients have moved the others too, but much less than what was wrong.
        """
        right = dict(_pieces(run.model, suspect.own))
        off = [float((right[name] - each).abs().nan_to_num(torch.inf).max()) for name, each in suspect.own.items()]
        far = run.ranks.gather(max(off, default=0.0))
        culprits = outvoted(suspect.ranks) or [rank for rank, each in enumerate(far) if 2 * each > max(far)]
        event = {"step": suspect.step, "event": "weights differed", "cause": "transient", "ranks": culprits}
        run.progress.events.append(event)
        if run.ranks.is_rank_zero:
            who = ", ".join(map(str, culprits))
            note(f"the weights of rank {who} had been wrong at step {suspect.step:,}; replayed, they agree.")


def _persistent(step: int, ranks: Sequence[Digests], names: Sequence[str]) -> ResourceError:
    wrong = outvoted(ranks) or [rank for rank, digests in enumerate(ranks) if names[0] in digests]
    return ResourceError(
        f"the weights of ranks that hold them alike differ at step {step}, also when it is replayed: rank "
        f"{' or '.join(map(str, wrong))} computes wrongly again and again.",
        mend=MEND,
    )


def _pieces(model: DistributedModel, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
    """This rank's pieces of the weights, or those of them that are named, by parameter and place."""
    for master in model.masters:
        name = f"{master.name} at {','.join(str(part.start) for part in region(master.parameter))}"
        if names is None or name in names:
            yield name, master.value.detach()


def _digests(model: DistributedModel) -> Digests:
    return {name: digest(piece) for name, piece in _pieces(model)}


def differing(ranks: Sequence[Digests]) -> list[str]:
    """The pieces whose holders do not agree."""
    held: dict[str, set[int]] = {}
    for digests in ranks:
        for name, value in digests.items():
            held.setdefault(name, set()).add(value)
    return sorted(name for name, values in held.items() if len(values) > 1)


def outvoted(ranks: Sequence[Digests]) -> list[int]:
    """The ranks that hold a piece in which most of its holders agree against them."""
    found: set[int] = set()
    for name in differing(ranks):
        votes = Counter(digests[name] for digests in ranks if name in digests)
        value, most = votes.most_common(1)[0]
        if 2 * most > votes.total():
            found.update(rank for rank, digests in enumerate(ranks) if digests.get(name, value) != value)
    return sorted(found)


def digest(tensor: Tensor) -> int:
    """A 64-bit digest of a tensor's bits: every single bit, and its place, changes it.

    Each 32-bit word counts by its row and column in blocks, modulo 2⁶⁴, with odd factors.
    """
    words = tensor.contiguous().reshape(-1).view(torch.int32)
    total = torch.zeros((), dtype=torch.int64, device=words.device)
    for number, block in enumerate(torch.split(words, _BLOCK)):
        places = torch.arange(len(block), device=words.device, dtype=torch.int64)
        total += (block * (2 * places + 1)).sum() * (2 * number + 1)
    return int(total) * _ODD % 2**64
