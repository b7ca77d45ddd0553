"""Tables of measurements: what a row says, what is taken where it does not, and how a bad one is refused."""

import csv
from pathlib import Path
from typing import Any

import pytest

from megalith.errors import InputError
from megalith.planning.calibration.memory_figures import predicted_figure
from megalith.planning.calibration.published_runs import Row, published_flops, read_table

ROW: dict[str, Any] = {
    "dataset": "somebody's", "row_id": "one", "gpu": "A100-SXM-80GB", "gpus_per_node": 8, "n_gpus": 64, "layers": 48,
    "hidden": 6144, "heads": 64, "seq": 2048, "vocab": 51200, "tp": 8, "pp": 2, "dp": 4, "vpp": 1, "mbs": 1, "gbs": 64,
    "zero": 0, "recompute": "full", "flash": 0, "precision": "fp16", "step_time_s": 2.0,
}  # fmt: skip


def write(path: Path, *rows: dict[str, Any]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(tmp_path: Path, **changes: Any) -> Row:
    rows, _ = read_table(write(tmp_path / "table.csv", ROW | changes))
    return rows[0]


def test_a_row_is_a_job_and_its_seconds(tmp_path: Path) -> None:
    row = read(tmp_path)
    job = row.job
    assert (job.layout.tensor, job.layout.pipeline, job.layout.data, job.micro_batches) == (8, 2, 4, 16)
    assert (job.cluster.name, job.cluster.nodes, job.stack, job.precision) == ("dgx-a100", 8, "megatron", "fp16")
    assert (row.measured_seconds, row.measured_from, row.stated) == (2.0, "step_time_s", True)


def test_a_short_table_counts_missing_axes_as_one(tmp_path: Path) -> None:
    short = {name: ROW[name] for name in ("gpu", "layers", "hidden", "heads", "seq", "tp", "gbs", "step_time_s")}
    (row,), skipped = read_table(write(tmp_path / "mine.csv", short))
    assert not skipped
    assert (row.dataset, row.row_id) == ("mine", "line 2")
    assert (row.job.layout.tensor, row.job.layout.pipeline, row.job.layout.data, row.job.accelerators) == (8, 1, 1, 8)


def test_a_table_of_memory_alone_needs_no_speed_batch_or_gpu(tmp_path: Path) -> None:
    shape = {name: ROW[name] for name in ("layers", "hidden", "heads", "seq", "tp", "pp", "dp", "mbs")}
    figures = [
        {"quantity": "params+optimizer", "value_gb": 10, "unit": "GiB"},
        {"quantity": "activations", "value_gb": 20, "unit": "GiB", "recompute": "selective"},
        {"quantity": "activation % of TP baseline", "value_gb": 16.18, "unit": "%", "recompute": "seq-par+selective"},
        {"quantity": "peak per GPU", "value_gb": 40, "unit": "GB", "recompute": "-"},
    ]
    columns = {"recompute": "", **shape}
    rows, skipped = read_table(write(tmp_path / "table.csv", *(columns | one for one in figures)))
    assert not skipped
    assert [row.memory_of for row in rows] == ["state", "activations", "activation share", "shown"]
    assert [row.memory_bytes for row in rows] == pytest.approx([10 * 2**30, 20 * 2**30, 0.1618, 40 * 2**30])
    assert [row.job.recompute for row in rows] == ["none", "selective", "selective", "none"]
    assert [row.job.sequence_parallel for row in rows] == [False, False, True, False]
    assert all(row.measured_seconds is None and not row.out_of_memory for row in rows)
    refused = read_table(write(tmp_path / "cp.csv", columns | figures[3] | {"notes": "CP 2"}))[1]
    assert "cp is not published" in refused[0].why


def test_the_share_of_activations_that_recomputation_and_sequence_parallelism_keep_is_the_papers(
    tmp_path: Path,
) -> None:
    """GPT 22B on eight tensor ranks (2205.05198, Figure 7)."""
    shape = {"layers": 48, "hidden": 6144, "heads": 64, "seq": 2048, "tp": 8, "mbs": 4, "unit": "%"}
    named = {"seq-par only": 66.84, "selective only": 49.42, "seq-par+selective": 16.18, "full": 7.64}
    lines = [
        shape | {"recompute": again, "quantity": "activation % of TP baseline", "value_gb": value}
        for again, value in named.items()
    ]
    for row in read_table(write(tmp_path / "figure7.csv", *lines))[0]:
        assert row.memory_bytes == pytest.approx(predicted_figure(row.job, row.memory_of), rel=0.02)


def test_without_a_time_it_comes_from_tflops_then_tokens_then_mfu(tmp_path: Path) -> None:
    flops = published_flops(read(tmp_path))
    bare = {"step_time_s": "", "tflops_gpu": "", "tokens_s_gpu": "", "mfu": ""}
    by_tflops = read(tmp_path, **bare | {"tflops_gpu": 140})
    by_tokens = read(tmp_path, **bare | {"tokens_s_gpu": 500})
    by_mfu = read(tmp_path, **bare | {"mfu": 0.4})
    assert by_tflops.measured_seconds == pytest.approx(flops / (140e12 * 64))
    assert by_tokens.measured_seconds == pytest.approx(64 * 2048 / (500 * 64))
    assert by_mfu.measured_seconds == pytest.approx(flops * 3 / 4 / (0.4 * 312e12 * 64), rel=0.01)
    assert [row.measured_from for row in (by_tflops, by_tokens, by_mfu)] == ["tflops_gpu", "tokens_s_gpu", "mfu"]


@pytest.mark.parametrize(
    ("changes", "stack"),
    [
        ({}, "megatron"),
        ({"flash": 1}, "megatron-core"),
        ({"source": "bigscience-workshop/bigscience chronicles"}, "megatron-deepspeed"),
        ({"source": "huggingface/nanotron docs"}, "nanotron"),
        ({"source": "pytorch/torchtitan", "notes": "FSDP2 eager"}, "torchtitan-eager"),
        ({"source": "pytorch/torchtitan", "notes": "compile"}, "torchtitan"),
        ({"zero": 3, "tp": 1, "pp": 1, "dp": 64, "flash": 1}, "fsdp"),
        ({"zero": 3, "tp": 1, "pp": 1, "dp": 64, "flash": 1, "notes": "MP PURE"}, "fsdp-pure"),
        ({"zero": 3, "tp": 1, "pp": 1, "dp": 64}, "deepspeed"),
        ({"zero": 3, "flash": 1}, "torchtitan"),
        ({"source": "Megatron-Bridge 25.09", "flash": 1}, "megatron-bridge"),
        ({"source": "arXiv 2407.21783 Table 4", "zero": 2, "flash": 1}, "llama3"),
    ],
)
def test_the_software_is_what_the_row_says(tmp_path: Path, changes: dict[str, Any], stack: str) -> None:
    assert read(tmp_path, **changes).job.stack == stack


@pytest.mark.parametrize(
    ("changes", "cluster"),
    [
        ({"gpu": "H100-SXM-80GB"}, "dgx-h100"),
        ({"gpu": "H100-96GB-500W(Grand Teton)"}, "grand-teton"),
        ({"gpu": "H200-SXM"}, "dgx-h200"),
        ({"gpu": "A100-SXM-40GB"}, "dgx-a100-40gb"),
        ({"gpu": "V100-SXM3-32GB", "gpus_per_node": 16}, "dgx-2"),
        ({"source": "bigscience-workshop/bigscience"}, "jeanzay"),
        ({"notes": "on Selene"}, "selene"),
    ],
)
def test_the_cluster_is_the_one_named_or_the_vendors(tmp_path: Path, changes: dict[str, Any], cluster: str) -> None:
    assert read(tmp_path, **changes).job.cluster.name == cluster


def test_a_network_that_the_notes_state_is_taken(tmp_path: Path) -> None:
    tiers = read(tmp_path, notes="800 Gbps node-node interconnect").job.cluster.tiers
    assert [tier.bytes_per_second for tier in tiers[1:]] == [12.5e9]


def test_an_unstated_micro_batch_and_virtual_stages_are_chosen_and_the_row_is_not_fitted(tmp_path: Path) -> None:
    silent = read(tmp_path, mbs="", vpp="", gbs=512)
    assert (silent.job.micro_batch_size, silent.job.virtual_stages, silent.stated) == (4, 2, False)
    assumed = read(tmp_path, gbs=512, notes="vpp & mbs not stated in paper text; assumed 1/1")
    assert (assumed.job.micro_batch_size, assumed.stated) == (4, False)


@pytest.mark.parametrize(
    ("written", "scaling"),
    [("fp8", "tensor"), ("float8", "tensor"), ("fp8-cs", "tensor"), ("fp8-block", "block"), ("fp8_subchannel", "block"),
     ("mxfp8", "mx"), ("fp8_mx", "mx"), ("bf16", None)],
)  # fmt: skip
def test_products_in_fp8_are_read_with_their_scaling(tmp_path: Path, written: str, scaling: str | None) -> None:
    job = read(tmp_path, gpu="H100-SXM-80GB", precision=written).job
    assert (job.precision, job.fp8) == ("bf16", scaling)


def test_a_run_says_whether_the_tensor_axis_sends_beside_the_products(tmp_path: Path) -> None:
    assert not read(tmp_path).job.tensor_overlap
    for notes in ("DP/TP/PP comm overlap on", "async TP", "TP overlap"):
        assert read(tmp_path, notes=notes).job.tensor_overlap
    assert read(tmp_path, source="Megatron-Bridge", flash=1).job.tensor_overlap
    assert not read(tmp_path, tp=1, dp=32, notes="TP overlap").job.tensor_overlap
    assert read(tmp_path, notes="CUDA graphs on").job.cuda_graphs


def test_unstated_virtual_stages_of_software_that_interleaves_make_the_bubble_small(tmp_path: Path) -> None:
    """80 layers on four ranks, 16 micro-batches: 3/(16v + 3) is below 5 % from v = 4 on."""
    modern = read(tmp_path, flash=1, layers=80, pp=4, dp=2, mbs=1, vpp="", gbs=32)
    assert (modern.job.stack, modern.job.virtual_stages, modern.stated) == ("megatron-core", 4, False)
    few = read(tmp_path, flash=1, layers=80, pp=4, dp=2, mbs=1, vpp="", gbs=8)
    assert few.job.virtual_stages == 20  # one for each layer, and the bubble is not small all the same
    prime = read(tmp_path, layers=46, pp=2, dp=4, mbs=1, vpp="", gbs=16)
    assert (prime.job.stack, prime.job.virtual_stages) == ("megatron", 1)  # 23 would be the fewest


def test_an_unstated_micro_batch_fits_into_memory(tmp_path: Path) -> None:
    wide = {"hidden": 12288, "heads": 96, "layers": 96, "pp": 8, "dp": 1, "vpp": 1, "mbs": "", "recompute": "none"}
    assert read(tmp_path, **wide | {"gbs": 512, "seq_parallel": 1, "flash": 1}).job.micro_batch_size < 4
    small = {"hidden": 3072, "heads": 24, "layers": 24}
    assert read(tmp_path, **wide | small | {"gbs": 512}).job.micro_batch_size == 4


def test_torchtitan_in_a_pipeline_keeps_gathered_weights_and_has_a_micro_batch_for_each_rank(tmp_path: Path) -> None:
    row = read(tmp_path, source="pytorch/torchtitan", zero=3, pp=2, dp=4, gbs=64, mbs="", flash=1)
    assert (row.job.zero, row.job.micro_batches, row.stated) == (2, 2, False)
    assert read(tmp_path, source="pytorch/torchtitan", zero=3, pp=1, dp=8, gbs=64, flash=1).job.zero == 3


def test_without_a_pipeline_nothing_is_interleaved(tmp_path: Path) -> None:
    for stages in (4, "max", "2+"):
        job = read(tmp_path, vpp=stages, tp=8, pp=1, dp=8).job
        assert (job.virtual_stages, job.schedule) == (1, "1f1b")


def test_schedules_and_rounds_of_layers_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, notes="schedule=ZB-1p; more").job.schedule == "zb-h1"
    deep = read(tmp_path, notes="schedule=1F1B-I", vpp="max", layers=22, tp=1, pp=8, dp=8)
    assert (deep.job.schedule, deep.job.virtual_stages) == ("interleaved-1f1b", 3)  # 22 + 2 = 8 · 3


def test_a_run_out_of_memory_has_no_time(tmp_path: Path) -> None:
    row = read(tmp_path, status="oom", step_time_s="")
    assert row.out_of_memory
    assert row.measured_seconds is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tp": ""}, "tp is not published"),
        ({"gpu": "A100-PCIe-40GB"}, "is not described"),
        ({"precision": "int4"}, "int4 is not modelled"),
        ({"precision": "fp8"}, "A100-SXM-80GB has no products in fp8"),
        ({"n_gpus": 63}, "are not the 63"),
        ({"gbs": 66}, "a batch of 66 is not whole micro-batches of 1 on 4 replicas"),
        ({"gbs": 64, "mbs": 3}, "micro-batches of 3 on 4"),
        ({"step_time_s": ""}, "no speed is published"),
    ],
)
def test_a_row_that_cannot_be_predicted_is_left_out_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    rows, skipped = read_table(write(tmp_path / "table.csv", ROW | changes))
    assert not rows
    assert why in skipped[0].why


@pytest.mark.parametrize(
    ("changes", "column"), [({"hidden": "wide"}, "hidden"), ({"layers": -4}, "layers"), ({"zero": 4}, "zero"),
                            ({"step_time_s": "nan"}, "step_time_s"), ({"mbs": 1.5}, "mbs")]
)  # fmt: skip
def test_a_figure_that_is_none_is_an_error_with_line_and_column(
    tmp_path: Path, changes: dict[str, Any], column: str
) -> None:
    with pytest.raises(InputError, match=rf"table.csv:3, column {column}"):
        read_table(write(tmp_path / "table.csv", ROW, ROW | changes))


def test_a_table_without_a_needed_column_or_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column hidden is missing"):
        read_table(write(tmp_path / "table.csv", {name: value for name, value in ROW.items() if name != "hidden"}))
    (tmp_path / "empty.csv").write_text(",".join(ROW) + "\n")
    with pytest.raises(InputError, match="no rows"):
        read_table(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="not a regular file"):  # a pipe would wait, another device has no end
        read_table(Path("/dev/null"))


@pytest.mark.data
def test_the_formulas_give_the_published_tflops_of_every_row_that_has_a_time_too(data_directory: Path) -> None:
    rows, _ = read_table(data_directory / "measurements" / "layouts.csv")
    both = [row for row in rows if row.tflops and row.measured_from == "step_time_s"]
    assert len(both) > 150
    for row in both:
        assert row.tflops is not None
        assert row.measured_seconds is not None
        found = published_flops(row) / row.measured_seconds / row.job.accelerators / 1e12
        rounding = 0.5 / row.tflops if row.tflops == int(row.tflops) else 0.0
        assert found == pytest.approx(row.tflops, rel=0.005 + rounding), row.row_id
