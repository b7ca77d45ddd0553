"""Published measurements: a table of layouts with their speed, as jobs that can be predicted.

One row is one run; the columns are those of COLUMNS, and others are ignored. What a row leaves open is filled in by the
rules below, and a row whose layout is not stated in full (`Row.stated`) is predicted but never fitted. Nothing here
depends on what a dataset is called.

Software, cluster and precision come from the row's words (`row_words`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Literal

from megalith.arithmetic import flops_per_token, layer_forward_flops, parameters
from megalith.errors import InputError
from megalith.job import ZERO_STAGES, Job, Recompute, Schedule
from megalith.planning.calibration.cells import Cells, NotModelledError, lines
from megalith.planning.calibration.memory_figures import Quantity, alone, memory_figure
from megalith.planning.calibration.row_words import (
    cluster_named,
    has_graphs,
    overlaps_tensor,
    precision_named,
    stack_named,
)
from megalith.planning.performance.constants import generation_of
from megalith.planning.performance.memory import estimate_memory, fits
from megalith.planning.performance.stacks import stack_of
from megalith.recipe import ModelConfig
from megalith.schedules import counts_embedding_and_logits
from megalith.topology import Layout

COLUMNS = ("layers", "hidden", "heads", "seq")
"""Columns that a table must have; the other columns of the schema may be missing or empty. A column of the layout that
is missing counts as 1, and `n_gpus` as the layout's product; a row of memory alone needs neither `gpu` nor `gbs`."""

SMALL_BUBBLE = 0.05  # of a step, below which nobody splits stages further
MOST_UNSTATED = 8  # virtual stages that a run has without saying so

Convention = Literal["hardware", "layers", "model", "parameters"]
"""How FLOPs are counted: with what is computed again (Megatron-LM's 96·B·s·l·h²·(1 + s/6h + V/16lh)); the same
without attention and logits (96·B·s·l·h²); without what is computed again; 6 for each parameter and attention's
12·l·h·s (the 3·(2N + 4Lhs) of llm-foundry, whose N counts a learned position for each token)."""
_RECOMPUTE: Mapping[str, tuple[Recompute, int]] = {
    "none": ("none", 1),
    "selective": ("selective", 1),
    "full": ("full", 1),
    "selective-op": ("full", 2),  # torchtitan keeps every second product: half of a layer's forward again
}
_SCHEDULES: Mapping[str, Schedule] = {
    "1f1b": "1f1b",
    "1f1b-i": "interleaved-1f1b",
    "zb-1p": "zb-h1",
    "zb-2p": "zb-h2",
    "zb-h1": "zb-h1",
    "zb-h2": "zb-h2",
    "gpipe": "gpipe",
}


@dataclass(frozen=True)
class Row:
    """One published run."""

    dataset: str
    row_id: str
    job: Job
    measured_seconds: float | None
    """Seconds of a step; None for a run that did not fit into memory."""
    measured_from: str
    """The column that it comes from."""
    tflops: float | None
    """As published, of one GPU."""
    convention: Convention
    """How `tflops` is counted."""
    memory_bytes: float | None
    out_of_memory: bool
    stated: bool
    """Whether the layout, and what its TFLOP/s count, were published in full; else what is missing is taken to be
    usual, and the row is never fitted."""
    memory_of: Quantity = "shown"
    """The part of memory that `memory_bytes` is."""

    @property
    def generation(self) -> str:
        """Accelerators that it ran on."""
        return generation_of(self.job.cluster)


@dataclass(frozen=True)
class Skipped:
    """A row that says too little, or of something that is not modelled."""

    dataset: str
    row_id: str
    why: str


def read_published() -> tuple[list[Row], list[Skipped]]:
    """The published runs that are shipped, each with its source; no constant was fitted to them."""
    with resources.as_file(resources.files("megalith.planning") / "constants" / "published_runs.csv") as path:
        return read_table(path)


def read_table(path: Path) -> tuple[list[Row], list[Skipped]]:
    """The rows of a table that can be predicted, and those that cannot, with the reason.

    Raises InputError, with the line and the column, where the file is not a table or a figure is not a number.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for line, cells in lines(path, COLUMNS):
        reader = Cells(cells, f"{path}:{line}")
        try:
            rows.append(_row(reader, path.stem, line))
        except NotModelledError as reason:
            skipped.append(Skipped(reader.text("dataset") or path.stem, _row_id(reader, line), str(reason)))
    if not rows and not skipped:
        raise InputError("this table has no rows.", where=str(path), mend="Use one line for each run.")
    return rows, skipped


def published_flops(row: Row) -> float:
    """FLOPs of a step by the convention of the row's published TFLOP/s."""
    model = row.job.model
    full = row.job.recompute == "full"
    if row.convention == "parameters":
        per_token = 6.0 * parameters(model).total + 12.0 * model.layers * model.hidden * model.sequence_length
    elif row.convention == "layers":
        products = layer_forward_flops(model) - 4 * model.sequence_length * model.hidden
        per_token = (4 if full else 3) * model.layers * products
    else:
        per_token = flops_per_token(model, recompute="full" if full and row.convention == "hardware" else "none")
    return per_token * row.job.global_batch_size * model.sequence_length


def _row_id(cells: Cells, line: int) -> str:
    return cells.text("row_id") or f"line {line}"


def _row(cells: Cells, table: str, line: int) -> Row:
    model = _model(cells)
    stack = stack_named(cells)
    memory_of, memory_bytes = memory_figure(cells)
    if "cp" not in cells.cells and re.search(r"\bcp\b", cells.words):
        raise NotModelledError("cp is not published")
    tensor, pipeline, context = cells.layout("tp"), cells.layout("pp"), cells.count("cp") or 1
    accelerators = cells.count("n_gpus") or tensor * pipeline * context * (cells.count("dp") or 1)
    cluster = cluster_named(cells, accelerators)
    data = cells.count("dp") or max(1, accelerators // (tensor * pipeline * context))
    if tensor * pipeline * data * context != accelerators:
        raise NotModelledError(
            f"tp {tensor} × pp {pipeline} × dp {data} × cp {context} are not the {accelerators} of n_gpus"
        )
    batch = cells.count("gbs")
    if batch is None and not alone(cells):
        raise NotModelledError("gbs is not published")
    batch = batch or 4 * data * pipeline * (cells.count("mbs") or 1)  # enough to fill a pipeline
    precision, fp8 = precision_named(cells, cluster)
    again = cells.text("recompute").lower() or "none"
    splits = cells.choice("seq_parallel", ("0", "1"), "0") == "1" or "seq-par" in again
    again = re.sub(r" ?only|seq-par\+?|^-$", "", again).strip() or "none"
    if again not in _RECOMPUTE:
        raise NotModelledError(f"recompute {again} is not modelled")
    recompute, every = _RECOMPUTE[again]
    zero = cells.choice("zero", tuple(map(str, ZERO_STAGES)), "0")
    if zero == "3" and pipeline > 1 and stack.startswith("torchtitan"):
        zero = "2"  # in a pipeline it keeps the gathered weights (reshard_after_forward: default)
    job = Job(
        model=model,
        cluster=cluster,
        layout=Layout(tensor, pipeline, data, context),
        micro_batch_size=1,
        global_batch_size=batch,
        recompute=recompute,
        recompute_every=every,
        sequence_parallel=splits and tensor > 1,
        zero=ZERO_STAGES[int(zero)],
        context_method="ring",
        precision=precision,
        fp8=fp8,
        tensor_overlap=tensor > 1 and overlaps_tensor(cells, stack),
        cuda_graphs=has_graphs(cells),
        fused_attention=cells.choice("flash", ("0", "1"), "0") == "1",
        stack=stack,
    )
    job, stated = _with_micro_and_virtual(job, cells)
    out_of_memory = cells.text("status").lower() == "oom"
    row = Row(
        dataset=cells.text("dataset") or table,
        row_id=_row_id(cells, line),
        job=job,
        measured_seconds=None,
        measured_from="",
        tflops=cells.number("tflops_gpu"),
        convention=_convention(cells),
        memory_bytes=memory_bytes,
        out_of_memory=out_of_memory,
        stated=stated and "paper" not in cells.text("tflops_convention").lower(),
        memory_of=memory_of,
    )
    return row if out_of_memory or alone(cells) else _with_measurement(row, cells)


def _with_measurement(row: Row, cells: Cells) -> Row:
    """The row with the seconds of a step: as published, or from TFLOP/s, tokens a second or MFU."""
    job = row.job
    tokens = job.global_batch_size * job.model.sequence_length
    seconds, speed, used = (cells.number(name) for name in ("step_time_s", "tokens_s_gpu", "mfu"))
    if seconds:
        return replace(row, measured_seconds=seconds, measured_from="step_time_s")
    if row.tflops:
        found = published_flops(row) / (row.tflops * 1e12 * job.accelerators)
        return replace(row, measured_seconds=found, measured_from="tflops_gpu")
    if speed:
        return replace(row, measured_seconds=tokens / (speed * job.accelerators), measured_from="tokens_s_gpu")
    if used and job.cluster.peak_flops_per_second:
        rate = used * job.cluster.peak_flops_per_second * job.accelerators
        return replace(row, measured_seconds=flops_per_token(job.model) * tokens / rate, measured_from="mfu")
    raise NotModelledError("no speed is published")


def _convention(cells: Cells) -> Convention:
    """Most tables of Megatron's time count what is computed again; others say that they do not."""
    text = cells.text("tflops_convention").lower().replace(" ", "")
    if "2n+" in text or "6n" in text:
        return "parameters"
    if "lowerformula" in text:
        return "layers"
    return "model" if "model" in text else "hardware"


def _model(cells: Cells) -> ModelConfig:
    hidden, heads = cells.needed("hidden"), cells.needed("heads")
    if hidden % heads:
        raise NotModelledError(f"{heads} heads do not divide hidden={hidden}")
    named = cells.text("model").lower().replace(" ", "")
    width = cells.count("ffn") or 4 * hidden
    usual = "1" if "glu" not in cells.cells and ("llama" in named or width != 4 * hidden) else "0"
    gated = cells.choice("glu", ("0", "1"), usual) == "1"
    grouped = 8 if "llama3" in named and heads % 8 == 0 and "kv_heads" not in cells.cells else heads
    kv_heads = cells.count("kv_heads") or grouped  # 2407.21783 Table 3: eight in every size
    if heads % kv_heads:
        raise NotModelledError(f"{kv_heads} heads of keys and values do not divide {heads}")
    return ModelConfig(
        num_layers=cells.needed("layers"),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        ffn_hidden_size=cells.count("ffn"),
        sequence_length=cells.needed("seq"),
        vocab_size=cells.count("vocab") or 50257,
        positions="rotary" if gated and hidden // heads % 2 == 0 else "learned",
        norm="rmsnorm" if gated else "layernorm",
        activation="swiglu" if gated else "gelu",
        bias=not gated,
        tie_embeddings=not gated,
    )


def _schedule(cells: Cells, virtual: int) -> Schedule:
    named = re.search(r"schedule=([\w-]+)", f"{cells.text('notes')} {cells.text('source')}".lower())
    if named and named.group(1) in _SCHEDULES:
        schedule = _SCHEDULES[named.group(1)]
        if (schedule == "interleaved-1f1b") == (virtual > 1):
            return schedule
    return "interleaved-1f1b" if virtual > 1 else "1f1b"


def _with_micro_and_virtual(job: Job, cells: Cells) -> tuple[Job, bool]:
    """The job with its micro-batch size and virtual stages, and whether both are stated.

    An unstated micro-batch is the largest of 4, 2, 1 that leaves two micro-batches for each stage (one without a
    pipeline) and fits into memory; torchtitan's default is one for each pipeline rank. Unstated virtual stages are, for
    Megatron-LM, the fewest that interleave; for software that interleaves as deeply as it likes, the fewest with a
    bubble below SMALL_BUBBLE, else one for each layer; and none for the rest.
    """
    silent = cells.not_stated
    pipeline, data, batch = job.layout.pipeline, job.layout.data, job.global_batch_size
    micro = None if "mbs" in silent else cells.count("mbs")
    text = "" if "vpp" in silent else cells.text("vpp").lower()
    if not text and "schedule=1f1b-i" in cells.words:
        text = "max"
    stated = micro is not None
    if micro is not None and batch % (data * micro):
        raise NotModelledError(f"a batch of {batch} is not whole micro-batches of {micro} on {data} replicas")
    if batch % data:
        raise NotModelledError(f"a batch of {batch} is not whole micro-batches of 1 on {data} replicas")
    share = batch // data
    fitting = [size for size in (4, 2) if share % size == 0 and share // size >= 2 * pipeline * (pipeline > 1)]
    sizes = [*fitting, 1] if micro is None else [micro]
    if micro is None and pipeline > 1 and job.stack.startswith("torchtitan") and share % pipeline == 0:
        sizes = [share // pipeline]  # its default: as many micro-batches as ranks of the pipeline
    for size in sizes:
        virtual, said = _virtual(job, text, share // size)
        found = replace(job, micro_batch_size=size, virtual_stages=virtual, schedule=_schedule(cells, virtual))
        if size == sizes[-1] or fits(found, estimate_memory(found)):
            break
    return found, stated and said


def _virtual(job: Job, text: str, micro_batches: int) -> tuple[int, bool]:
    """Virtual stages, and whether `text` states them."""
    layers, pipeline, stack = job.model.layers, job.layout.pipeline, job.stack
    if pipeline == 1:
        return 1, True
    per_stage = (layers + 2 if counts_embedding_and_logits(layers, pipeline) else layers) // pipeline
    if text == "max":
        return max(1, per_stage), True
    if text.endswith("+"):
        return max(1, int(text[:-1])) if text[:-1].isdigit() else 2, False
    if text.isdigit() and int(text) > 0:
        return int(text), True
    rounds = micro_batches % pipeline == 0
    whole = [count for count in range(2, per_stage + 1) if per_stage % count == 0]
    if not rounds or not whole:
        return 1, False
    if stack_of(stack).deep_interleaving:
        small = (count for count in whole if (pipeline - 1) / (count * micro_batches + pipeline - 1) < SMALL_BUBBLE)
        return next(small, whole[-1]), False
    fewest = whole[0] if whole[0] <= MOST_UNSTATED and layers % pipeline == 0 else 1
    return fewest if stack == "megatron" else 1, False
