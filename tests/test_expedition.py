"""The whole walk, small: it ends, it skips, it resumes, and it refuses bad input without leaving a trace."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from megalith.cli import app
from tests.corpus import docstrings, write_jsonl

RUN = CliRunner()
SMALL = (
    "budget.flops=null",
    "model.num_layers=2",
    "model.hidden_size=64",
    "model.num_heads=2",
    "model.sequence_length=64",
    "model.vocab_size=512",
    "tokenize.vocab_size=512",
    "train.tokens=40960",
    "train.global_batch_size=8",
    "train.validation_interval=20",
    "train.checkpoint_interval=20",
    "train.validation_sequences=8",
    "curate.validation_share=0.1",
    "curate.task_items.most=12",
    "evaluate.items=12",
    "evaluate.shots=[0, 1]",
    "audit.hans_examples=4",
    # measured for itself, the precision might differ between the two runs that are compared
    "train.precision=fp32",
    "train.micro_batch_size=8",
    "parallel.data=1",
)


def megalith(*arguments: str | Path) -> Result:
    """In this process: another one takes seconds to start."""
    return RUN.invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("source") / "docs.jsonl", docstrings())


@pytest.fixture(scope="module")
def walked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("walked") / "run"
    command = [sys.executable, "-m", "megalith", "run", "quickstart", *SMALL, "--source", source, "--output", directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return directory


def read(directory: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((directory / "expedition.json").read_text())
    return told


def digests(directory: Path) -> dict[str, str]:
    return {artifact["stage"]: artifact["digest"] for artifact in read(directory)["artifacts"]}


def test_the_walk_tells_every_figure_it_promises(walked: Path) -> None:
    told = read(walked)
    assert 0 < told["curation"]["documents_out"] <= told["curation"]["documents_in"]
    for step in told["curation"]["steps"]:
        left = step["documents_in"] - sum(step["dropped"].values()) + step["split_off"]
        assert step["documents_out"] == left, step["name"]
    assert told["tokens"]["train"] > told["tokens"]["validation"] > 0
    assert told["plan"]["parameters"] > told["plan"]["non_embedding_parameters"] > 0
    assert told["plan"]["step_seconds"] > 0
    assert told["train"]["step_seconds"] > 0
    assert 0 < told["train"]["mfu"] < 1
    assert 0 < told["train"]["validation_loss"] < told["train"]["unigram_entropy"]
    assert {task["name"] for task in told["evaluate"]["tasks"]} == {
        "perplexity", "last_word", "continuation", "arithmetic"
    }  # fmt: skip
    for task in told["evaluate"]["tasks"]:
        assert task["documents"] == 0 or task["standard_error"] >= 0
    assert [artifact["stage"] for artifact in told["artifacts"]] == [
        "curate", "tokenize", "plan", "train", "evaluate", "audit"
    ]  # fmt: skip
    assert all(len(artifact["digest"]) == 64 for artifact in told["artifacts"])
    assert told["samples"]
    assert (walked / "report.html").stat().st_size > 10_000


def test_a_second_run_skips_every_stage(walked: Path, source: Path) -> None:
    before = digests(walked)
    done = megalith("run", "quickstart", *SMALL, "--source", source, "--output", walked, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(artifact["reused"] for artifact in told["artifacts"])
    assert digests(walked) == before


def test_an_override_of_a_late_stage_repeats_that_stage_alone(walked: Path, source: Path, tmp_path: Path) -> None:
    shutil.copytree(walked, tmp_path / "run")
    override = ("audit.hans_examples=5", "--source", source, "--output", tmp_path / "run")
    done = megalith("run", "quickstart", *SMALL, *override, "--json")
    assert done.exit_code == 0, done.stderr
    assert [a["stage"] for a in json.loads(done.stdout)["artifacts"] if not a["reused"]] == ["audit"]


def test_a_changed_setting_of_training_is_refused_with_both_values_and_the_model_stays(
    walked: Path, source: Path
) -> None:
    before = digests(walked)
    for verb, learning_rate in (("run", "0.5"), ("train", "0.5")):
        changed = [*SMALL, f"train.learning_rate={learning_rate}", "--source", source, "--output", walked]
        done = megalith(verb, "quickstart", *changed)
        assert done.exit_code == 2, done.stderr
        assert "train.learning_rate was" in done.stderr
        assert "is 0.5 now" in done.stderr
        assert "--fresh" in done.stderr
    assert digests(walked) == before
    assert not list(walked.glob("*.aside-*"))


@pytest.mark.parametrize(
    ("file", "verbs"),
    [
        ("train/model/model.safetensors", ("generate", "audit", "run")),
        ("train/model/tokenizer.json", ("generate",)),
        ("curate/samples.json", ("report",)),
        ("tokenize/train.bin", ("train",)),
    ],
)
def test_a_file_that_was_changed_in_place_is_refused_by_every_verb_that_reads_it(
    walked: Path, source: Path, file: str, verbs: tuple[str, ...]
) -> None:
    content = (walked / file).read_bytes()
    (walked / file).write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    try:
        for verb in (*verbs, "verify"):
            recipe = () if verb == "verify" else ("quickstart", *SMALL, "--output")
            sources = ("--source", source) if verb in ("run", "train") else ()
            done = megalith(verb, *recipe, walked, *sources)
            assert done.exit_code == 2, (verb, done.stdout, done.stderr)
            assert file.split("/", 1)[1] in done.stderr
    finally:
        (walked / file).write_bytes(content)
    assert megalith("verify", walked).exit_code == 0


def test_killed_again_and_again_the_walk_ends_with_the_same_result(walked: Path, source: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "megalith", "run", "quickstart", *SMALL,
        "--source", str(source), "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    moments = random.Random(0)
    for delay in (moments.uniform(2, 14) for _ in range(6)):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_until_alone(process.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "run") == digests(walked)
    hidden = [entry.name for entry in (tmp_path / "run").iterdir() if entry.name.startswith(".")]
    assert hidden == [".lock"]


def test_train_runs_as_it_is_under_torchrun(walked: Path, source: Path, tmp_path: Path) -> None:
    for stage in ("curate", "tokenize"):
        shutil.copytree(walked / stage, tmp_path / "run" / stage)
    layout = ("parallel={tensor: 1, pipeline: 1, data: 2}", "train.micro_batch_size=4")
    settings = [*(setting for setting in SMALL if not setting.startswith(("parallel.", "train.micro"))), *layout]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    verb = ["-m", "megalith", "train", "quickstart", *settings, "--source", str(source), "--json"]
    done = subprocess.run([*launcher, *verb, "--output", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert together["processes"] == 2
    # the same batches in another order of summation, in fp32 over 80 steps
    assert together["validation_loss"] == pytest.approx(read(walked)["train"]["validation_loss"], rel=1e-3)


def wait_until_alone(session: int) -> None:
    """Children of a killed run must die by themselves, within seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not list(session_members(session)):
            return
        time.sleep(0.1)
    raise AssertionError(f"processes of the killed run still live: {list(session_members(session))}")


def session_members(session: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(entry.name)


def refused(*arguments: str | Path) -> str:
    """The one sentence with which `megalith run` ends, in this process: to start another takes seconds."""
    done = RUN.invoke(app, ["run", *map(str, arguments)])
    assert done.exit_code == 2, done.output
    assert len([line for line in done.stderr.splitlines() if line.startswith("megalith: ")]) == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-recipe",), "neither a file nor a shipped recipe"),
        (("quickstart", "train.lerning_rate=1"), "Did you mean learning_rate?"),
        (("quickstart", "train.global_batch_size=-4"), "greater than 0"),
        (("quickstart", "model.num_layers=2", "model.hidden_size=64", "model.num_heads=7"), "cannot be split"),
        (
            ("quickstart", "model.num_layers=2", "model.hidden_size=60", "model.num_heads=5", "parallel.tensor=2"),
            "parallel.tensor",
        ),
        (("quickstart", "cluster=selena"), "cluster 'selena' is not known"),
        (("quickstart", "parallel.data=3"), "cannot be split over parallel.data=3"),
        (("bert-336m",), "model.family"),
        (("chinchilla-70b",), "parameters take 1.12 TB"),
        (("mt-nlg-530b", "cluster=dgx-h100", "cluster.nodes=3"), "no layout fits"),
        (
            (
                "gpt2-2.5b",
                "parallel={tensor: 1, pipeline: 1, data: 1}",
                "cluster={name: local}",
                "train.precision=bf16",
            ),
            "this machine has",
        ),
        (("quickstart", "--source", "no-such-file.jsonl"), "no-such-file.jsonl"),
        (("quickstart", "--source", "ftp://example.org/x.warc.gz"), "this kind of address is not read"),
    ],
)
def test_bad_arguments_are_refused_in_one_paragraph(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments, "--output", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", b""),
        ("words.jsonl", b"not json\n"),
        ("other.jsonl", b'{"body": 1}\n'),
        ("noise.parquet", b"PAR1 and nothing"),
        ("noise.warc.gz", b"\x1f\x8bnoise"),
        ("noise.jsonl.zst", b"noise"),
    ],
)
def test_a_source_without_a_document_is_refused_and_leaves_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    refused("quickstart", *SMALL, "--source", tmp_path / "in" / name, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "picture.png").write_bytes(b"png")
    refused("quickstart", *SMALL, "--source", tmp_path / "in", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs wants root")
def test_a_full_disk_is_told_in_one_paragraph(tmp_path: Path, source: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", small], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        assert "disk is full" in refused("quickstart", *SMALL, "--source", source, "--output", small / "run")
        torn = [path.name for path in small.rglob("*") if path.name.endswith(".tmp")]
        assert torn == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_second_run_of_the_same_directory_is_refused_while_the_first_runs(tmp_path: Path, source: Path) -> None:
    command = [sys.executable, "-m", "megalith", "run", "quickstart", *SMALL, "--source", str(source)]
    first = subprocess.Popen([*command, "--output", str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run/.lock").is_file() and first.poll() is None:
            time.sleep(0.02)
        said = refused("quickstart", *SMALL, "--source", source, "--output", tmp_path / "run")
        assert f"process {first.pid} on" in said
    finally:
        first.kill()
        first.wait()


def test_another_model_is_judged_beside_the_runs_own(walked: Path, tmp_path: Path) -> None:
    directory = tmp_path / "judged"
    done = megalith("audit", "quickstart", *SMALL, "--model", walked / "train", "--output", directory, "--json")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in directory.iterdir() if path.is_dir()) == ["audit-run"]
    own = json.loads((walked / "audit" / "manifest.json").read_text())
    assert json.loads((directory / "audit-run" / "manifest.json").read_text())["digest"] == own["digest"]


@pytest.mark.slow
def test_shards_that_stand_already_train_the_same_model_as_the_run_that_wrote_them(
    walked: Path, tmp_path: Path
) -> None:
    """Also where the run has no crawl and no corpus, down to its report."""
    made = walked / "tokenize"
    tokens = f"{{from: {made / 'train'}, validation: {made / 'validation'}, tokenizer: {made}}}"
    done = megalith("run", "quickstart", *SMALL, f"tokens={tokens}", "--output", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [artifact["stage"] for artifact in told["artifacts"]] == ["tokenize", "plan", "train", "evaluate", "audit"]
    for name in ("model/model.safetensors", "history.json"):
        assert (tmp_path / "run" / "train" / name).read_bytes() == (walked / "train" / name).read_bytes()
    assert "the shards" in (tmp_path / "run" / "report.html").read_text()
    assert not list((tmp_path / "run").rglob("*.bin"))
