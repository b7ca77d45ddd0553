"""Generation probes: programs that a model wrote run behind a fence, and texts are kept as they came."""

from pathlib import Path

import pytest

from megalith.audit import sandbox
from megalith.audit.planted import Planted
from megalith.audit.probe_prompts import CASES, CODE
from megalith.audit.probes import body_of, probes, run_function
from megalith.audit.sandbox import call

RIGHT = """    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]
"""


def error_of(body: str) -> str:
    called = call(f"def f(path):\n{body}", "f", [["/etc/hostname"]])
    return called.error or str(called.results[0])


def test_a_right_function_passes_all_tests_and_what_comes_after_it_is_left_out() -> None:
    found = run_function(RIGHT + "\nprint(levenshtein('a', 'b'))\nraise SystemExit\n")
    assert (found["passed"], len(found["tests"])) == (len(CASES), len(CASES))
    assert found["program"].endswith("return row[-1]\n")


@pytest.mark.parametrize(
    ("body", "passed"), [("    return 0\n", 2), ("    return None\n", 0), ("    return True\n", 0)]
)
def test_a_wrong_function_passes_what_it_gets_right(body: str, passed: int) -> None:
    assert run_function(body)["passed"] == passed


def test_text_that_is_no_program_passes_nothing_and_says_why() -> None:
    found = run_function("    return ((\n")
    assert found["passed"] == 0
    assert found["tests"][0]["error"].startswith("SyntaxError")


def test_the_body_ends_at_the_first_line_that_begins_another_thing() -> None:
    assert body_of("    x = 1\n\n    return x\n\ndef g():\n    pass") == "    x = 1\n\n    return x\n"


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ("    return open(path).read()\n", "files are refused"),
        ("    return open('new', 'w').write('x')\n", "files are refused"),
        ("    import os\n    return os.system('true')\n", "os.system is refused"),
        ("    import subprocess\n    return subprocess.run(['true']).returncode\n", "is refused"),
        ("    import socket\n    return socket.socket().fileno()\n", "socket.__new__ is refused"),
        ("    import ctypes\n    return ctypes.CDLL(None).getpid()\n", "is refused"),
        ("    import os\n    return os.remove(path)\n", "os.remove is refused"),
        ("    return len(bytearray(2**31))\n", "MemoryError"),
        ("    return f\n", "TypeError"),
        ("    raise SystemExit(3)\n", "SystemExit: 3"),
        ("    return f(path)\n", "RecursionError"),
    ],
)
def test_a_program_that_reaches_out_is_refused_and_the_process_goes_on(body: str, refusal: str) -> None:
    assert refusal in error_of(body)


def test_a_program_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
    assert "processor time" in error_of("    while True: pass\n")
    monkeypatch.setattr(sandbox, "WALL_SECONDS", 1.0)
    assert "no answer within 1 seconds" in error_of("    import time\n    time.sleep(30)\n")


def test_a_process_that_ends_itself_is_told_by_its_status() -> None:
    assert "status 5" in error_of("    import os\n    os._exit(5)\n")


def test_nothing_of_the_environment_or_of_megalith_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    called = call("import os\ndef f(name): return os.environ.get(name)", "f", [["SECRET"]])
    assert called.results == ([None],)
    assert "ModuleNotFoundError" in str(call("def f():\n    import megalith", "f", [[]]).results)


def test_texts_are_kept_as_they_came_and_answers_looked_for_in_the_first_line() -> None:
    def text(prompt: str, seed: int) -> str:
        if prompt == CODE:
            return RIGHT
        return " A bottle, of course.\nA towel." if prompt.startswith("Question") else " Once\n more"

    instrument = probes(20, 1)
    subject = Planted(lambda context, continuation: 0.0, text)
    told = instrument.summary({run.name: run.judge(subject) for run in instrument.runs})
    assert told["answered"][0] == {"kind": "riddles", "asked": 6, "found": 1}
    assert told["code"] == told["code"] | {"tests": len(CASES), "passed": len(CASES)}
    assert {text["text"] for text in told["texts"] if text["kind"] == "writing"} == {" Once\n more"}
    assert CODE.startswith("#") and not Path("new").exists()
