"""Whatever is asked of a verb, it ends in its result, or in one sentence with exit code 2; a bug is told as one."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from megalith.cli import app
from megalith.cli.guard import resuming_verb, verb

RUN = CliRunner()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("plan budget --flops inf", "--flops"),
        ("plan budget --flops nan", "--flops"),
        ("plan budget --flops 1e300", "--flops"),
        ("plan budget --gpu-hours nan --cluster selene", "--gpu-hours"),
        ("plan budget --gpu-hours 1 --cluster selene --nodes 9999999999999999999999", "--nodes"),
        ("plan budget --gpu-hours 1 --cluster \udcff", "--cluster: this text is not UTF-8: \\xff"),
        ("plan curation --text nan", "--text"),
        ("plan layout gpt2-124m --deadline nan", "--deadline"),
        ("generate quickstart --prompt \udcff", "--prompt: this text is not UTF-8: \\xff"),
        ("generate quickstart --model \udcff", "--model: this path is not UTF-8: \\xff. Rename it."),
        ("curate quickstart --source /a/\udcff", "--source: this path is not UTF-8"),
        ("train quickstart -o \udcff", "--output: this path is not UTF-8"),
        ("plan timeline gpt2-8.3b -o " + "a/" * 2000, "--output: this path is 2,000 folders deep"),
        ("recipe list " + "a/" * 2000, "a/… (4,035 characters)"),
        *((f"curate quickstart --source {scheme}://[x/a.jsonl", "no address") for scheme in ("s3", "hf", "https")),
        ("generate gs://[", "no address"),
        ("generate quickstart --tokens 0", "--tokens"),
        ("generate quickstart --tokens 99999999999999999999", "--tokens"),
        ("generate quickstart --temperature nan", "--temperature"),
        ("generate quickstart --temperature inf", "--temperature"),
        ("generate quickstart --temperature -1", "--temperature"),
        ("generate quickstart --seed -1", "--seed"),
        ("recipe show \udcff.yaml", "\\xff.yaml: neither a file nor a shipped recipe"),
        ("recipe show quickstart \udcff=1", "a byte that is not UTF-8 stands in its key"),
        ("recipe show \x1b[31m", "\\x1b[31m: neither a file"),
    ],
)
def test_an_argument_that_cannot_be_is_one_sentence(words: str, said: str, tmp_path: Path) -> None:
    output = ("-o", str(tmp_path)) if words.startswith("generate") else ()
    result = RUN.invoke(app, [*words.split(" "), *output])
    assert result.exit_code == 2, (result.output, result.exception)
    assert said in " ".join(result.stderr.split())
    assert "\x1b" not in result.stderr


def raising(error: BaseException, guard: Any = verb) -> Any:
    own = typer.Typer()

    @own.command()
    @guard
    def fail() -> None:
        raise error

    return RUN.invoke(own, [])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/a"), "too many files are open"),
        (OSError(errno.ENFILE, "Too many open files in system"), "too many files are open"),
        (OSError(errno.EFBIG, "File too large"), "the size that this shell allows"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the memory is full"),
        (OSError(errno.EROFS, "Read-only file system", "/a"), "/a: this path cannot be used: Read-only"),
        (OSError(errno.EACCES, "Permission denied", "/a"), "/a: this path cannot be used: Permission denied"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes or threads"),
        (RuntimeError("can't start new thread"), "no more processes or threads"),
        (RuntimeError("IO error: Too many open files (os error 24)"), "too many files are open"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "Set TMPDIR"),
        (MemoryError(), "the memory is full"),
    ],
)
def test_a_limit_of_the_machine_is_one_sentence(error: Exception, said: str) -> None:
    result = raising(error)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_only_a_verb_that_resumes_says_so_when_it_is_interrupted() -> None:
    plain, resuming = raising(KeyboardInterrupt()), raising(KeyboardInterrupt(), resuming_verb)
    assert (plain.exit_code, plain.stderr) == (130, "interrupted\n")
    assert (resuming.exit_code, resuming.stderr) == (130, "interrupted; the same command goes on from here\n")


BUG = """
import sys
from megalith import cli
@cli.app.command("break")
def fail():
    raise KeyError("a \\x1b[31m key")
sys.argv = ["megalith", "break"]
cli.main()
"""


def broken(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BUG]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_a_bug_is_told_in_one_sentence_and_its_traceback_is_kept(tmp_path: Path) -> None:
    done = broken(TMPDIR=str(tmp_path))
    kept = [path.read_text() for path in tmp_path.glob("megalith-traceback-*.txt")]
    assert done.returncode == 1
    assert done.stderr.startswith("megalith: this is a bug in Megalith (KeyError: 'a \\x1b[31m key').")
    assert done.stderr.count("\n") == 1
    assert len(kept) == 1 and "KeyError: 'a" in kept[0] and "Traceback" in kept[0]
    shown = broken(TMPDIR=str(tmp_path), MEGALITH_TRACEBACK="1")
    assert shown.returncode == 1 and "Traceback (most recent call last)" in shown.stderr


def test_a_pipe_that_closes_early_is_no_error_to_tell_of() -> None:
    command = f'"{sys.executable}" -m megalith recipe show quickstart | head -1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("quickstart: ") and done.stderr == ""


def test_a_full_device_on_standard_output_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "megalith", "recipe", "list", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_start_up_imports_nothing_heavy() -> None:
    for words in (["--help"], ["recipe", "show", "quickstart"]):
        code = (
            "import sys, os; from megalith import cli\n"
            "os._exit = lambda code: print(sorted({'torch', 'numpy', 'scipy', 'daft', 'pyarrow'} & set(sys.modules)))\n"
            f"sys.argv = ['megalith', *{words!r}]; cli.main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_the_walk_in_order_and_what_comes_after_it() -> None:
    page = RUN.invoke(app, ["--help"]).stdout
    walk, _, rest = page.partition("Before it:")
    places = [walk.index(f"\n  {verb_} ") for verb_ in ("run", "crawl", "curate", "tokenize", "train", "evaluate")]
    assert places == sorted(places)
    after = rest.partition("After it:")[2]
    assert all(f"\n  {name}" in after for name in ("generate", "chat", "serve", "import", "export"))
    assert "Not built yet:" not in page
    assert "..." not in page.split("ARGS]...")[1]
    assert "[KEY=VALUE]..." in RUN.invoke(app, ["train", "--help"]).stdout
    assert "--install-completion" in page
