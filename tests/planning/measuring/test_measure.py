"""A measurement from its workers' answers, which are given here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from megalith.job import Job
from megalith.planning.measuring import verbs
from megalith.planning.measuring.block_settings import TOY, all_settings
from megalith.planning.measuring.measure import MESSAGE_BYTES, PRODUCTS, Measurement, expected_seconds
from megalith.planning.measuring.workers import Workers
from megalith.recipe import ModelConfig, load_recipe
from megalith.topology import Layout, local_cluster

CORES = 2
MODEL = TOY.model_copy(update={"num_layers": 1, "vocab_size": 512})
"""As wide as the toy that the pipeline's runner is timed with."""


def answer(question: Mapping[str, Any], ranks: int) -> list[dict[str, list[float]]]:
    """A layer takes 3 s, of the toy 30, and the ends as much; the last worker's forward is the slowest by a second."""
    times: dict[str, list[float]]
    if question["ask"] == "block":
        toy = ModelConfig.model_validate(question["model"]).vocab_size == TOY.vocab_size
        seconds = (30.0 if toy else 3.0) * (1 + question["model"]["num_layers"])
        times = {name: [seconds / 2] * 4 for name in ("forward", "backward", "update")}
        times |= {name: [seconds / 10] * 4 for name in ("read", "embed", "unembed")}
    elif question["ask"] == "messages":
        times = {f"{name} {size}": [1e-6 * size] for name in ("all_reduce", "send") for size in question["bytes"]}
    elif question["ask"] == "pipeline":
        times = {"few": [1000.0] * 4, "many": [1800.0] * 4, "micro_batches": [8.0]}
    else:
        times = {f"{name} {m}x{k}x{n}": [1.0] for m, k, n in PRODUCTS for name in ("fp32", "bf16")}
        times |= {"copy": [1.0], "add 1000": [1.0]}
    late = {name: [each + (name == "forward") for each in all_] for name, all_ in times.items()}
    return [*[times] * (ranks - 1), late]


def asked(questions: list[Mapping[str, Any]]) -> Workers:
    def ask(question: Mapping[str, Any], ranks: int = 1) -> Sequence[dict[str, Any]]:
        questions.append(question)
        return answer(question, ranks)

    return cast(Workers, SimpleNamespace(ask=ask))


def test_of_all_passes_the_slowest_worker_counts_and_no_model_is_taken_for_the_toy() -> None:
    cluster = local_cluster("a processor", CORES, 2**33)
    job = Job(MODEL, cluster, Layout(1, 2, 1), micro_batch_size=1, global_batch_size=4, precision="fp32")
    settings, questions = list(all_settings(job, CORES)), list[Mapping[str, Any]]()
    workers = {count: asked(questions) for count in (1, 2)}
    measurement = Measurement(MODEL, CORES, settings, [(2, 2)], workers, seconds=1.0)
    for _ in range(2):
        measurement.take_pass()
    table = measurement.table()
    assert [block.forward for block in table.blocks] == [(4.0, 7.0)] * 2
    assert [block.backward for block in table.blocks] == [(3.0, 6.0)] * 2
    assert {message.bytes: message.seconds for message in table.messages} == pytest.approx(
        {size: 1e-6 * size for size in MESSAGE_BYTES}
    )
    (runner,) = table.runners
    layer, ends = (121 - 61) / 2, 61 - 30  # of the toy: forward and backward at one layer and at three
    assert runner.seconds == 800 / 8 - (layer + ends - (6 + 6))  # its embedding is the other stage's
    toys = [question for question in questions if question.get("model", {}).get("vocab_size") == TOY.vocab_size]
    assert len(toys) == 2 * 2  # at two depths in each pass


def a_job(pipeline: int = 1) -> Job:
    cluster = local_cluster("a processor", CORES, 2**33)
    return Job(MODEL, cluster, Layout(1, pipeline, 1), micro_batch_size=1, global_batch_size=4, precision="fp32")


def test_a_pass_tells_of_each_question_that_it_was_known_to_ask() -> None:
    """Known before there are workers; each is told of once it has its answer."""
    settings, questions, told = list(all_settings(a_job(2), CORES)), list[Mapping[str, Any]](), list[int]()
    bare = Measurement(MODEL, CORES, settings, [(2, 2)], {}, seconds=1.0)
    workers = {count: asked(questions) for count in (1, 2)}
    measurement = Measurement(MODEL, CORES, settings, [(2, 2)], workers, seconds=1.0)
    measurement.take_pass(lambda: told.append(len(questions)))
    assert told == list(range(1, len(bare.questions()) + 1))
    assert [question for _, _, question in bare.questions()] == questions


def test_more_layouts_and_more_passes_are_said_to_take_longer() -> None:
    one, two = [a_job()], [a_job(), a_job(2)]
    assert 3.0 < expected_seconds(one) < expected_seconds(two)
    first, second = (expected_seconds(one, passes=passes) for passes in (1, 2))
    assert expected_seconds(one, passes=3) - second == pytest.approx(second - first)


def test_before_it_is_measured_a_busy_machine_and_the_time_are_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class MeasuredAtOnceError(Exception):
        pass

    def measure(jobs: Sequence[Job]) -> None:
        raise MeasuredAtOnceError

    monkeypatch.setattr(verbs, "measure", measure)
    monkeypatch.setattr(verbs, "usable_cores", lambda: 4)
    said = []
    for load in (2.0, 2.1):
        monkeypatch.setattr(verbs.os, "getloadavg", lambda load=load: (load, load, load))
        with pytest.raises(MeasuredAtOnceError):
            verbs.calibrate_here(load_recipe("quickstart", ["budget.flops=2e13"])[0], tmp_path / "here.json")
        said.append(capsys.readouterr().err)
    assert "other programs are at work" not in said[0]
    assert "other programs are at work: load 2.1, cores 4" in said[1]
    assert all("about 3 min if nothing else" in each for each in said)
