"""Documents that hang, crash or raise: each costs itself and no other, and says why."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from megalith.curation.steps import prepare as prepare_module
from megalith.curation.steps.prepare import (
    CRASHED,
    FAILED,
    NO_TEXT,
    PAGE_TOO_LONG,
    TOOK_TOO_LONG,
    Prepared,
    Preparer,
    Raw,
)
from megalith.errors import ResourceError, UnsupportedError

GOOD = Raw(b"<html><body><p>The harbour was dredged before the winter storms came.</p></body></html>")
TEXT = Prepared("The harbour was dredged before the winter storms came.")
SOON = """
from megalith.curation.steps import prepare_process
prepare_process.GRACE_SECONDS = 1
"""
STAND_IN = f"""{SOON}
import os, signal, time
from megalith.curation.steps import extract
def stand_in(page):
    if "loop" in page:
        while True:
            pass
    if "native" in page:  # a library that does not come back: no Python runs that could hear of the limit
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
        while True:
            pass
    if "sleep" in page:
        time.sleep(1000)
    if "crash" in page:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "killed" in page:
        os.kill(os.getpid(), signal.SIGKILL)
    if "memory" in page:
        raise MemoryError
    if "wrong" in page:
        raise ValueError("wrong")
    if "missing" in page:
        raise ModuleNotFoundError("No module named 'justext'", name="justext")
    return "The harbour was dredged before the winter storms came."
extract.EXTRACTORS["resiliparse"] = stand_in
"""


@pytest.fixture
def preparer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Preparer]:
    """One whose extractor does as the page says."""
    program = prepare_module._PROGRAM.replace("serve()\n", STAND_IN + "serve()\n")
    monkeypatch.setattr(prepare_module, "_PROGRAM", program)
    monkeypatch.setattr(prepare_module, "WAIT_SECONDS", 5.0)
    one = Preparer("resiliparse", 0.5)
    yield one
    one.stop()


@pytest.mark.parametrize(
    ("page", "reason"), [("loop", TOOK_TOO_LONG), ("native", TOOK_TOO_LONG), ("crash", CRASHED), ("wrong", FAILED)]
)
def test_a_document_that_ends_badly_is_refused_and_the_others_are_not(
    preparer: Preparer, page: str, reason: str
) -> None:
    bad = Prepared("", reason)
    assert preparer([GOOD, Raw(page.encode()), GOOD, Raw(page.encode())]) == [TEXT, bad, TEXT, bad]


def test_a_document_that_waits_for_ever_is_ended_by_the_clock(
    preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(prepare_module, "PATIENCE", 1.0)
    assert preparer([Raw(b"sleep"), GOOD]) == [Prepared("", TOOK_TOO_LONG), TEXT]


def test_a_process_that_is_killed_from_outside_says_nothing_of_its_document(preparer: Preparer) -> None:
    assert preparer([GOOD]) == [TEXT]
    assert preparer._process is not None
    os.kill(preparer._process.pid, signal.SIGKILL)
    assert preparer([GOOD, GOOD]) == [TEXT, TEXT]


@pytest.mark.parametrize(
    ("page", "said"), [("killed", "again and again with signal SIGKILL"), ("memory", "no memory left")]
)
def test_what_ends_the_process_again_and_again_is_said(preparer: Preparer, page: str, said: str) -> None:
    with pytest.raises(ResourceError, match=said):
        preparer([GOOD, Raw(page.encode())])


def test_an_extractor_that_is_not_installed_says_what_to_install(
    preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "_PROGRAM", prepare_module._PROGRAM.replace('if "missing" in page', "if True"))
    with pytest.raises(UnsupportedError, match="pip install justext"):
        preparer([GOOD])


def test_real_pages_and_texts_are_extracted_and_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "DOCUMENTS_PER_PROCESS", 2)  # renewed between batches
    preparer = Preparer("resiliparse", 20.0)
    for _ in range(2):
        made = preparer([GOOD, Raw("two  \r\nlines"), Raw(b"<html></html>"), Raw(b"<p>" + b"x" * 10_000_001)])
        assert made == [TEXT, Prepared("two\nlines"), Prepared("", NO_TEXT), Prepared("", PAGE_TOO_LONG)]
    preparer.stop()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends a process that has used up its time a second later."""
    monkeypatch.setattr(prepare_module, "_PROGRAM", prepare_module._PROGRAM.replace("serve()\n", SOON + "serve()\n"))


@pytest.mark.usefixtures("soon")
def test_tags_nested_a_hundred_thousand_deep_are_given_up_in_time() -> None:
    preparer = Preparer("resiliparse", 0.5)  # in this process it would take minutes
    start = time.process_time()
    assert preparer([Raw(b"<html><body>" + b"<div>" * 100_000 + b"hello"), GOOD]) == [
        Prepared("", TOOK_TOO_LONG),
        TEXT,
    ]
    assert time.process_time() - start < 5
    preparer.stop()


@pytest.mark.usefixtures("soon")
def test_an_attribute_too_many_is_given_up_in_time() -> None:
    """resiliparse compares every attribute of a tag with every other."""
    preparer = Preparer("resiliparse", 0.5)
    page = "<div " + " ".join(f"a{number}=b" for number in range(200_000)) + ">x</div>"
    assert preparer([Raw(page.encode()), GOOD]) == [Prepared("", TOOK_TOO_LONG), TEXT]
    preparer.stop()
