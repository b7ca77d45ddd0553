"""Kernels are torch's own unless a measurement says otherwise, and what it said is remembered."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from megalith import kernels
from megalith.errors import InputError
from megalith.kernels import choice, contest, linear, processor, remembered


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user's, and a measurement that costs nothing and is counted."""
    monkeypatch.delenv(remembered.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(remembered, "_measure", Measurement())
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    remembered.choose.cache_clear()
    return tmp_path / "megalith"


class Measurement:
    """Finds ours faster for one operation the first time, and for all later."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, threads: int) -> dict[str, str] | None:
        self.count += 1
        return ONE if self.count == 1 else dict(choice.ALTERNATIVES)


ALL_TORCH = dict.fromkeys(choice.ALTERNATIVES, "torch")
ONE = ALL_TORCH | {"fp32 gelu": "sigmoid"}


def choose_again(threads: int = 1) -> dict[str, str]:
    """As a process that begins now would."""
    remembered.choose.cache_clear()
    return kernels.choose(threads)


def test_everything_is_torchs_own_until_told_otherwise() -> None:
    code = "from megalith import kernels; import json; print(json.dumps(kernels.chosen()))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == ALL_TORCH


def test_a_choice_is_taken_whole_and_put_back() -> None:
    with kernels.using({"fp32 gelu": "sigmoid"}):
        assert kernels.chosen() == ONE
        with kernels.using({}):
            assert kernels.chosen() == ALL_TORCH
        assert kernels.chosen() == ONE


@pytest.mark.parametrize("bad", [{"fp32 gelu": "convolution"}, {"fp32 dance": "torch", "fp64 gelu": "sigmoid"}])
def test_a_choice_that_this_version_does_not_know_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(InputError, match="is not an implementation"):
        kernels.use(bad)


def test_the_measurement_is_made_once_and_remembered(cache: Path) -> None:
    assert [choose_again(), choose_again()] == [ONE, ONE]
    assert len(list(cache.iterdir())) == 1


def test_another_number_of_threads_or_another_cap_is_measured_by_itself(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [choose_again(1), choose_again(2)]
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    found.append(choose_again(1))
    assert found == [ONE, dict(choice.ALTERNATIVES), dict(choice.ALTERNATIVES)]
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"choice": {}}', '{"choice": {"fp32 gelu": "rm -rf"}}', "[" * 100_000, "\0\xff"]
)
def test_a_damaged_file_is_measured_again_and_replaced(cache: Path, damage: str) -> None:
    choose_again()
    (file,) = cache.iterdir()
    file.write_text(damage, encoding="latin-1")
    assert choose_again() == dict(choice.ALTERNATIVES)
    assert choose_again() == dict(choice.ALTERNATIVES)
    assert [each.name for each in cache.iterdir()] == [file.name]


def test_where_nothing_can_be_written_each_process_measures(cache: Path) -> None:
    cache.parent.joinpath("megalith").write_text("a file, where the folder should be")
    assert [choose_again(), choose_again()] == [ONE, dict(choice.ALTERNATIVES)]


def test_what_a_busy_machine_says_is_not_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert choose_again() == ONE
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert choose_again() == choose_again() == dict(choice.ALTERNATIVES)


def test_who_writes_second_heeds_the_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slower_than_another(threads: int) -> dict[str, str]:
        monkeypatch.setattr(remembered, "_measure", lambda threads: ONE)
        assert choose_again() == ONE  # another process, begun later and ended sooner
        return dict(choice.ALTERNATIVES)

    monkeypatch.setattr(remembered, "_measure", slower_than_another)
    assert choose_again() == ONE


def test_a_measurement_that_fails_is_torchs_own_and_not_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_measure", lambda threads: None)
    assert choose_again() == ALL_TORCH
    assert not cache.exists()


def test_a_process_that_ends_badly_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered.sys, "executable", "/bin/false")
    assert remembered._measure(1) is None
    monkeypatch.setattr(remembered.sys, "executable", "/nowhere")
    assert remembered._measure(1) is None


@pytest.mark.parametrize(("said", "meant"), [("torch", ALL_TORCH), ("megalith", dict(choice.ALTERNATIVES))])
def test_the_environment_has_the_last_word(said: str, meant: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remembered.VARIABLE, said)
    assert choose_again() == meant
    monkeypatch.setenv(remembered.VARIABLE, "fast")
    with pytest.raises(InputError, match=r"MEGALITH_KERNELS.*'fast' is not a choice"):
        choose_again()
    remembered.choose.cache_clear()


def test_the_contest_takes_what_costs_less_at_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time is what the work says; ours loses the larger shape of one operation."""
    clock = [0.0]
    cost = {"fp32 gelu": (0.8, 0.8), "bf16 attention": (0.8, 1.1), "bf16 gelu": (0.97, 0.97)}

    def shapes(operation: str) -> list[Callable[[], contest.Work]]:
        return [partial(work, operation, ratio) for ratio in (0.0, *cost.get(operation, (1.0,)))]

    def work(operation: str, ratio: float) -> contest.Work:
        def spend() -> None:
            clock[0] += 0.001 * (ratio if choice.is_ours(operation) else 1.0)

        return spend

    monkeypatch.setattr(contest, "_shapes", shapes)
    monkeypatch.setattr(contest.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(contest.time, "perf_counter", lambda: clock[0])
    threads = torch.get_num_threads()
    assert contest.contest(threads) == ONE


def test_the_contest_leaves_what_is_slow_here_after_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bf16 is where it is emulated: a call may take a minute."""
    clock, calls = [0.0], [0]

    def work() -> None:
        calls[0] += 1
        clock[0] += 0.01

    monkeypatch.setattr(contest, "_shapes", lambda operation: [lambda: work, pytest.fail])
    monkeypatch.setattr(contest.time, "process_time", lambda: clock[0])
    assert contest.contest(torch.get_num_threads()) == ALL_TORCH
    assert calls[0] == contest.TRIALS * len(choice.ALTERNATIVES)


def test_the_contest_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], [0]

    def work() -> None:
        calls[0] += 1
        clock[0] += 0.0 if calls[0] <= contest.TRIALS else 1.0 - 0.5 * any(map(choice.is_ours, choice.ALTERNATIVES))

    monkeypatch.setattr(contest, "_shapes", lambda operation: [lambda: work] * 2)
    monkeypatch.setattr(contest.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(contest, "WORK_SECONDS", 2.0)
    assert contest.contest(torch.get_num_threads()) == ALL_TORCH
    assert clock[0] < contest.WORK_SECONDS + 2 + contest.TRIALS * len(choice.ALTERNATIVES)


def test_an_operation_that_the_processor_lacks_is_torchs_and_the_others_are_still_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wins(operation: str, ours: str, end: float) -> bool:
        if operation.startswith("bf16"):
            raise RuntimeError("the bf16 path needs avx512")
        return True

    monkeypatch.setattr(contest, "_wins_everywhere", wins)
    found = contest.contest(torch.get_num_threads())
    assert {name for name, own in found.items() if own == "torch"} == {
        name for name in choice.ALTERNATIVES if name.startswith("bf16")
    }


def test_every_operation_of_the_contest_runs() -> None:
    for operation in choice.ALTERNATIVES:
        with kernels.using(choice.ALTERNATIVES):
            for work in contest._shapes(operation):
                work()()


def test_products_of_the_contest_are_large_enough_to_be_convolved(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str | None] = []
    whole = sys.modules[linear.__module__]
    of = whole._kind  # type: ignore[attr-defined]  # looked up by name: the function hides its module

    def noted(x: Tensor, weight: Tensor) -> str | None:
        kinds.append(of(x, weight))
        return kinds[-1]

    monkeypatch.setattr(whole, "_kind", noted)
    for operation in choice.ALTERNATIVES:
        if "linear" in operation or "vocabulary" in operation:
            for work in contest._shapes(operation)[1:]:
                work()()
                assert kinds.pop() == operation.rsplit(" ", 1 if operation.endswith("forward") else 2)[0]


@pytest.mark.parametrize(
    ("flags", "cap", "has"),
    [
        ("fma avx2", "", False),
        ("avx2 avx512f avx512bw", "", False),
        ("avx2 avx512f avx512_bf16 amx_bf16", "", True),
        ("avx2 avx512f avx512_bf16 amx_bf16", "AVX2", False),
        ("avx2 avx512f avx512_bf16 amx_bf16", "AVX512_CORE_AMX", True),
    ],
)
def test_bf16_is_multiplied_where_flags_and_caps_allow(
    flags: str, cap: str, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: A: B\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t: amx_bf16\n")
    monkeypatch.setattr(processor, "_CPUINFO", file)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert processor.multiplies_bf16() is has
    assert processor.processor()["model name"] == "A: B"
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == cap
