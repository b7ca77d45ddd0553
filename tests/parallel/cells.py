"""Cells of the parity table: a model, a layout, a precision; and which of them are looked at."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig

SEQUENCES, LENGTH, VOCAB, RANKS = 16, 12, 303, 8
SHAPE = {
    "num_layers": 3,
    "hidden_size": 32,
    "num_heads": 4,
    "vocab_size": VOCAB - 2,
    "vocab_multiple": 3,  # 303 rows are no multiple of 2 or 4 ranks
    "sequence_length": LENGTH,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt": {},
    "llama": {
        "num_kv_heads": 4,
        "num_heads": 8,
        "ffn_hidden_size": 44,
        "positions": "rotary",
        "norm": "rmsnorm",
        "activation": "swiglu",
        "bias": False,
    },
    "qwen3": {  # the heads of keys are shared by two of four ranks
        "num_kv_heads": 2,
        "head_size": 10,
        "query_key_norm": "head",
        "positions": "rotary",
        "rotary_scaling": {"kind": "llama3", "factor": 4, "original_length": 8},
        "norm": "rmsnorm",
        "activation": "swiglu",
        "bias": False,
        "qkv_bias": True,
    },
    "olmo2": {  # a rank's queries share the heads of keys unevenly
        "num_heads": 12,
        "num_kv_heads": 3,
        "head_size": 4,
        "query_key_norm": "whole",
        "layer_norm": "reordered",
        "positions": "rotary",
        "norm": "rmsnorm",
        "activation": "swiglu",
        "bias": False,
    },
    "pythia": {
        "positions": "rotary",
        "rotary_fraction": 0.5,
        "parallel_residual": True,
        "activation": "gelu_exact",
    },
    "mistral": {"num_kv_heads": 1, "sliding_window": 5, "norm_epsilon": 1e-3},
    "gopher": {"num_heads": 4, "num_kv_heads": 2, "positions": "relative", "norm": "rmsnorm", "bias": False},
    "bert": {"family": "bert"},
    "post-norm bert": {"family": "bert", "layer_norm": "post"},
}
TRAINED: dict[str, dict[str, Any]] = {
    "": {},
    "z-loss": {"z_loss": 0.01},
    "documents": {"document_mask": True},
    "muon": {"optimizer": "muon"},
}
"""Settings of `train` beside the oracle's."""
TYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Cell:
    """One layout of one model."""

    family: str = "gpt"
    tied: bool = True
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    context: int = 1
    zero: int = 0
    zero_shard: int | None = None
    schedule: str = "1f1b"
    sequence_parallel: bool = False
    recompute: str = "none"
    precision: str = "fp64"
    trained: str = ""
    """Key of TRAINED."""
    bare_ends: bool = False
    """Whether the first stage has the embedding alone and the last the logits."""

    @property
    def world(self) -> int:
        return self.tensor * self.pipeline * self.data * self.context

    @property
    def micro_batch(self) -> int:
        """Sequences; small where there are stages: two micro-batches for each, so that a pipeline comes into its steady
        state."""
        return max(2, SEQUENCES // (2 * self.pipeline * self.data)) if self.pipeline > 1 else 4

    @property
    def virtual_stages(self) -> int:
        return 2 if self.schedule == "interleaved-1f1b" else 1

    @property
    def model(self) -> ModelConfig:
        stages = max(2, self.pipeline) * self.virtual_stages
        layers = {"num_layers": stages - 2 if self.bare_ends else stages + 1}  # no multiple of its stages
        return ModelConfig.model_validate(SHAPE | layers | FAMILIES[self.family] | {"tie_embeddings": self.tied})

    @property
    def parallel(self) -> ParallelConfig:
        return ParallelConfig.model_validate(
            {
                name: getattr(self, name)
                for name in (
                    "tensor", "pipeline", "data", "context", "zero", "zero_shard", "schedule", "virtual_stages",
                    "sequence_parallel", "recompute",
                )
            }
        )  # fmt: skip

    @property
    def layout(self) -> tuple[str, ...]:
        """One row of the table."""
        zero = f"{self.zero} over {self.zero_shard}" if self.zero_shard else str(self.zero)
        return (
            f"{self.family}, {self.trained}" if self.trained else self.family,
            "tied" if self.tied else "untied",
            f"{self.tensor} × {self.pipeline} × {self.data}" + (f" × {self.context}" if self.context > 1 else ""),
            zero if self.data * self.context > 1 else "",
            (f"{self.schedule} v2" if self.virtual_stages > 1 else self.schedule) * (self.pipeline > 1)
            + ", bare ends" * self.bare_ends,
            "yes" if self.sequence_parallel else "",
            self.recompute if self.recompute != "none" else "",
            self.precision,
        )

    def __str__(self) -> str:
        return ", ".join(word for word in self.layout if word)


HEADINGS = (
    "model", "embeddings", "tensor × pipeline × data (× context)", "ZeRO", "schedule", "sequence", "recompute", "type",
)  # fmt: skip


def placements() -> Iterator[Cell]:
    """Every layout of one model that fits into 8 ranks: 121 of them."""
    for tensor, pipeline, data in itertools.product((1, 2, 4), (1, 2, 4), (1, 2)):
        if tensor * pipeline * data <= RANKS:
            zeros = (0, 1, 2, 3) if data > 1 else (0,)
            schedules = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1") if pipeline > 1 else ("1f1b",)
            for zero, schedule, split in itertools.product(zeros, schedules, (False, True) if tensor > 1 else (False,)):
                cell = Cell(tensor=tensor, pipeline=pipeline, data=data, zero=zero)
                yield replace(cell, schedule=schedule, sequence_parallel=split)


def covering(cells: Iterable[Cell], strength: int) -> list[Cell]:
    """A few of `cells`, in which any `strength` choices that can go together do so at least once."""
    left = {cell: _choices(cell, strength) for cell in cells}
    open_choices = set().union(*left.values())
    found = []
    while open_choices:
        best = max(left, key=lambda cell: (len(left[cell] & open_choices) / (2 + cell.world), -cell.world, str(cell)))
        open_choices -= left.pop(best)
        found.append(best)
    return found


def _choices(cell: Cell, strength: int) -> set[tuple[tuple[int, str], ...]]:
    made: list[Any] = [(cell.family, cell.tied), cell.tensor, cell.pipeline, cell.data, cell.zero]
    made += [cell.schedule, cell.sequence_parallel]
    return set(itertools.combinations([(place, str(choice)) for place, choice in enumerate(made)], strength))


def whole_table() -> list[Cell]:
    """A tied gpt in every layout; each other model in layouts that cover; recomputation, hybrid ZeRO, fp32 and bf16,
    stages without layers."""
    every = list(placements())
    others = [(family, tied) for family in FAMILIES for tied in (True, False) if (family, tied) != ("gpt", True)]
    rest = [replace(cell, family=family, tied=tied) for family, tied in others for cell in every]
    return [*every, *covering(rest, 2), *_extras(), *_narrow(), *context_table(), *bare_ends_table()]


def short_table() -> list[Cell]:
    """The cells that the test suite has time for."""
    return [
        Cell(),
        Cell("post-norm bert"),
        Cell("llama", tied=False, data=2, zero=3),
        Cell("bert", tensor=2, sequence_parallel=True),
        Cell("post-norm bert", tied=False, tensor=2),
        Cell("gpt", pipeline=2, schedule="zb-h1"),
        Cell("gpt", data=2, zero=1, precision="bf16"),
        Cell("gpt", tensor=2, sequence_parallel=True, recompute="selective", precision="fp32"),
        Cell("llama", tensor=2, pipeline=2, schedule="interleaved-1f1b", sequence_parallel=True),
        Cell("bert", pipeline=2, data=2, zero=2, schedule="gpipe"),
        Cell("gpt", pipeline=2, data=2, zero=3, schedule="zb-h1"),
        Cell("gpt", tensor=2, pipeline=2, recompute="full", precision="bf16"),
        Cell("bert", tensor=2, pipeline=2, data=2, zero=1, schedule="zb-h1", sequence_parallel=True),
        Cell("mistral", tensor=2),
        Cell("pythia", tensor=2, sequence_parallel=True),
        Cell("olmo2", tensor=2, pipeline=2, schedule="zb-h1", recompute="selective"),
        Cell("qwen3", tensor=2, data=2, zero=3),
        Cell("qwen3", tensor=4, sequence_parallel=True),
        Cell("gopher", tied=False, tensor=4, sequence_parallel=True),
        Cell("gopher", tensor=2, pipeline=2, schedule="zb-h1", recompute="selective"),
        Cell("gpt", trained="z-loss"),
        Cell("gpt", trained="muon"),
        Cell("qwen3", tensor=2, data=2, zero=3, trained="muon"),
        Cell("gpt", trained="documents"),
        Cell("mistral", tensor=2, data=2, zero=3, trained="documents"),
        Cell("gopher", tensor=2, pipeline=2, sequence_parallel=True, schedule="interleaved-1f1b", trained="documents"),
        Cell("bert", tensor=2, pipeline=2, schedule="zb-h1", trained="z-loss"),
        *bare_ends_table()[:3],
    ]


def short_context_table() -> list[Cell]:
    """Ranks that share each sample, alone and beside every other axis: what the test suite has time for."""
    return [
        Cell(context=2),
        Cell("gopher", context=2, recompute="selective"),
        Cell("qwen3", context=4, zero=2),
        Cell("gopher", tensor=2, context=2, sequence_parallel=True, trained="documents"),
        Cell("llama", tied=False, pipeline=2, context=2, schedule="interleaved-1f1b", trained="documents"),
        Cell("mistral", data=2, context=2, zero=3, zero_shard=2, recompute="full"),
        Cell(tensor=2, data=2, context=2, zero=3, sequence_parallel=True, trained="documents"),
    ]


def bare_ends_table() -> list[Cell]:
    """Two stages more than layers."""
    return [
        Cell(pipeline=4, bare_ends=True),
        Cell("llama", tied=False, pipeline=4, schedule="zb-h1", recompute="selective", bare_ends=True),
        Cell("llama", pipeline=2, data=2, zero=1, schedule="interleaved-1f1b", bare_ends=True),
        Cell("post-norm bert", pipeline=4, schedule="zb-h1", bare_ends=True),
        Cell("bert", tied=False, pipeline=2, data=2, zero=3, schedule="interleaved-1f1b", bare_ends=True),
        Cell("llama", tied=False, tensor=2, pipeline=2, schedule="interleaved-1f1b", sequence_parallel=True,
             bare_ends=True),
        Cell("gpt", pipeline=4, data=2, zero=2, schedule="zb-h1", bare_ends=True),
        Cell("gpt", tensor=2, pipeline=2, schedule="interleaved-1f1b", precision="bf16", bare_ends=True),
    ]  # fmt: skip


def context_table() -> list[Cell]:
    """All of them: with every kind of heads, of masks and of positions."""
    return [
        *short_context_table(),
        Cell("mistral", context=2),
        Cell("qwen3", context=2, zero=3, recompute="full", trained="documents"),
        Cell(context=2, zero=1, precision="bf16"),
        Cell(context=4),
        Cell("olmo2", tied=False, context=4, zero=2),
        Cell("pythia", context=4, precision="fp32"),
        Cell("olmo2", tensor=2, context=2, trained="muon"),
        Cell(pipeline=2, context=2, schedule="zb-h1", recompute="full"),
        Cell("llama", data=2, context=2, zero=3, trained="z-loss"),
        Cell("mistral", data=2, context=2, zero=2, zero_shard=2, trained="documents"),
        Cell(data=2, context=2),
        Cell("llama", tensor=2, context=4, trained="documents"),
        Cell("gopher", tensor=2, pipeline=2, context=2, schedule="zb-h1", recompute="selective"),
        Cell("qwen3", tensor=2, pipeline=2, context=2, sequence_parallel=True, schedule="interleaved-1f1b"),
        Cell(pipeline=2, data=2, context=2, zero=2, recompute="full", precision="bf16"),
        Cell("llama", data=4, context=2, zero=3, zero_shard=4),
    ]


def _extras() -> list[Cell]:
    spread = Cell(tensor=2, pipeline=2, data=2)
    return [
        *(replace(spread, recompute=what, sequence_parallel=True) for what in ("full", "selective")),
        replace(spread, family="bert", recompute="full", zero=3),
        *(Cell(data=4, zero=zero, zero_shard=2) for zero in (1, 2, 3)),
        Cell("llama", tied=False, tensor=2, data=4, zero=2, zero_shard=2, sequence_parallel=True),
        Cell(pipeline=2, data=4, zero=3, zero_shard=2, schedule="interleaved-1f1b"),
        *_otherwise_trained(),
    ]


def _otherwise_trained() -> Iterator[Cell]:
    """Cells of each other way to train, on every axis and on all together."""
    for trained in TRAINED:
        if trained:
            yield from (
                Cell(trained=trained),
                Cell(
                    "bert" if trained == "z-loss" else "gopher", tensor=2, pipeline=2, schedule="zb-h1", trained=trained
                ),
                Cell("qwen3", tensor=4, sequence_parallel=True, trained=trained),
                Cell("olmo2", tied=False, tensor=2, data=2, zero=2, trained=trained),
                Cell("llama", pipeline=4, schedule="interleaved-1f1b", trained=trained),
                Cell(data=4, zero=3, zero_shard=2, trained=trained),
                Cell(tensor=2, pipeline=2, data=2, zero=1, sequence_parallel=True, trained=trained),
                Cell("llama", tensor=2, data=2, zero=3, precision="bf16", trained=trained),
            )


def _narrow() -> list[Cell]:
    """Layouts in fp32 and bf16."""
    layouts = [
        Cell(data=2),
        Cell(data=2, zero=2),
        Cell(tensor=2),
        Cell(tensor=4, sequence_parallel=True),
        Cell(pipeline=4),
        Cell("llama", tied=False, tensor=2, pipeline=2, schedule="interleaved-1f1b", sequence_parallel=True),
        Cell("bert", tensor=2, pipeline=2, schedule="zb-h1"),
        Cell(tensor=2, pipeline=2, data=2, zero=3, sequence_parallel=True, recompute="full"),
    ]
    return [replace(cell, precision=precision) for precision in ("fp32", "bf16") for cell in layouts]


def sample_batch(
    config: ModelConfig, step: int, first: int, count: int, *, documents: bool = False
) -> dict[str, Tensor]:
    """Samples of a step, each a function of its number alone; later ones have fewer targets that count.

    Of `documents` each sample has up to four.
    """
    rows: dict[str, list[Tensor]] = {}
    for sample in range(first, first + count):
        random = torch.Generator().manual_seed(1000 * step + sample)
        tokens = torch.randint(config.vocab_size, (LENGTH,), generator=random)
        targets = torch.randint(config.vocab_size, (LENGTH,), generator=random)
        targets[: sample % 5 * 2] = -100
        row = {"tokens": tokens, "targets": targets}
        if documents:
            begins = torch.randint(LENGTH, (3,), generator=random).sort().values
            row["document_starts"] = torch.where(torch.arange(LENGTH).unsqueeze(1) >= begins, begins, 0).amax(1)
        if config.family == "bert":
            length = LENGTH - sample % 3
            targets[length:] = -100
            row |= {
                "segments": (torch.arange(LENGTH) > 5).long(),
                "lengths": torch.tensor(length),
                "order": torch.tensor(sample % 2),
            }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    return {name: torch.stack(values) for name, values in rows.items()}
