"""Tables of measurements: what a row says, what is taken where it does not, and how a bad one is refused."""

import csv
from pathlib import Path
from typing import Any

import pytest

from megalith.errors import InputError
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
    with pytest.raises(InputError, match="column gbs is missing"):
        read_table(write(tmp_path / "table.csv", {name: value for name, value in ROW.items() if name != "gbs"}))
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
