"""The attack sees what it looks for: a judge that lets everything pass would make a fine table."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.attack.cases import Found, Verdict, failures, judge, leftovers, table
from tests.attack.command import Ended, Kill, run
from tests.attack.damage import WAYS, damage
from tests.attack.mutate import bomb, change_bytes, change_text, value
from tests.attack.pool import attempt_all

SHOW = ["recipe", "show", "quickstart", "--json"]


def ended(code: int = 0, out: str = "", err: str = "", *, hung: bool = False, survivors: tuple[str, ...] = ()) -> Ended:
    return Ended(code, out, err, hung, killed=False, operations=0, seconds=0, survivors=survivors)


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (ended(), "right"),
        (ended(2, err="megalith: x: this is not YAML."), "refused"),
        (ended(2, err="Usage: megalith\n\nError: No such option '--x'."), "refused"),
        (ended(2, err="oh"), "wrong"),
        (ended(2, err="megalith: a \x1b[31m name"), "wrong"),
        (ended(2, err="megalith: " + "x" * 5000), "wrong"),
        (ended(0, err="Traceback (most recent call last):\n"), "traceback"),
        (ended(1, err="oh"), "traceback"),
        (ended(-11), "traceback"),
        (ended(hung=True), "hang"),
        (ended(survivors=("sleep 9",)), "wrong"),
    ],
)
def test_verdicts(one: Ended, verdict: Verdict) -> None:
    assert judge(one)[0] == verdict


def test_an_exit_without_error_is_checked() -> None:
    assert judge(ended(), lambda _: "counts differ") == ("wrong", "counts differ")


def test_the_command_runs_in_a_fork(tmp_path: Path) -> None:
    done = run(SHOW, tmp_path)
    assert done.code == 0
    assert '"recipe"' in done.out


def test_an_exception_is_seen(tmp_path: Path) -> None:
    def fault() -> None:
        raise KeyError("planted")

    assert judge(run(SHOW, tmp_path, before=fault))[0] == "traceback"


def test_endless_work_is_seen(tmp_path: Path) -> None:
    def spin() -> None:
        while True:
            pass

    assert judge(run(SHOW, tmp_path, cpu_seconds=1, before=spin))[0] == "hang"


def test_a_process_left_behind_is_seen(tmp_path: Path) -> None:
    def leave() -> None:
        if os.fork() == 0:
            time.sleep(600)

    done = run(SHOW, tmp_path, before=leave)
    assert len(done.survivors) == 1
    assert judge(done)[0] == "wrong"


def test_a_kill_at_a_file_operation_leaves_what_stood_before_it(tmp_path: Path) -> None:
    def write() -> None:
        for name in ("a", "b", "c"):
            (tmp_path / name).write_text(name)

    done = run(SHOW, tmp_path, kill=Kill(operation=2), before=write)
    assert done.killed
    assert sorted(path.name for path in tmp_path.iterdir()) == [".attack", "a", "b"]


def test_leftovers_are_seen(tmp_path: Path) -> None:
    assert leftovers(tmp_path) is None
    (tmp_path / ".train.old").mkdir()
    assert ".train.old" in (leftovers(tmp_path) or "")


@pytest.mark.parametrize("way", WAYS)
def test_damage_changes_a_file(way: str, tmp_path: Path) -> None:
    target, whole = tmp_path / "x", bytes(range(1, 200))
    target.write_bytes(whole)
    before = target.stat().st_mtime_ns
    assert damage(target, way, random.Random(1), tmp_path / "none")
    assert target.read_bytes() != whole
    assert (target.stat().st_mtime_ns == before) == (way == "flip, same time")


def test_a_seed_makes_the_same_case_again() -> None:
    def made() -> tuple[object, ...]:
        dice = random.Random("7 recipes 12")
        text = change_text("name: x\n", dice)
        return text, change_bytes(b"abc" * 9, dice), value(dice), bomb(dice)

    assert made() == made()


def test_cases_are_tried_in_processes_and_failures_told(tmp_path: Path) -> None:
    def one(number: int, dice: random.Random, room: Path) -> Found:
        if number == 2:
            raise ValueError("planted")
        return Found("part", "kind", number, "right", str(dice.random()))

    found = sorted(attempt_all("part", one, 7, range(5), tmp_path, jobs=2), key=lambda each: each.case)
    assert [each.case for each in found] == [0, 1, 2, 3, 4]
    assert [each.case for each in failures(found)] == [2]
    assert "planted" in found[2].detail
    assert "--case 2" in found[2].again(7)
    assert "all" in table(found)
