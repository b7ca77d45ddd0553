"""The verbs generate and chat: what they print, read and refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import megalith as m
from megalith.cli import app
from megalith.errors import InputError
from megalith.inference import LanguageModel, Request, generate, score
from tests.inference.models import write_model

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}a:"
GREEDY = ("--temperature", "0", "--tokens", "8")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template."""
    directory = write_model(tmp_path_factory.mktemp("talker") / "model", sequence_length=48)
    said = {"prefix": 0, "end_of_text": [0], "chat_template": TEMPLATE}
    (directory / "generation.json").write_text(json.dumps(said))
    return directory


def command(*words: str, text: str | None = None) -> Any:
    return CliRunner().invoke(app, words, input=text)


def samples(model: Path, *words: str) -> list[dict[str, Any]]:
    done = command("generate", "quickstart", "--model", str(model), "--json", *words)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)["samples"]
    return found


def test_a_model_may_stand_in_the_recipes_place(model_directory: Path) -> None:
    wanted = samples(model_directory, "--prompt", "The", *GREEDY)
    for directory in (model_directory, model_directory.parent):  # as an artifact has it, too
        done = command("generate", str(directory), "--prompt", "The", "--json", *GREEDY)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["samples"] == wanted


def test_a_directory_without_a_model_is_told_as_no_recipe(tmp_path: Path) -> None:
    done = command("generate", str(tmp_path), "--prompt", "The")
    assert done.exit_code == 2 and "a recipe is a YAML file" in done.output


def test_a_file_of_prompts_is_read_by_lines_or_as_json(
    model_directory: Path, lm: LanguageModel, tmp_path: Path
) -> None:
    plain, lines = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    plain.write_text("The baker\n\nThe nurse\r\n", encoding="utf-8")
    lines.write_text('{"prompt": "The baker", "id": 1}\n{"prompt": "two\\nlines"}\n', encoding="utf-8")
    found = samples(model_directory, "--prompts", str(plain), "--prompt", "First", *GREEDY)
    assert [one["prompt"] for one in found] == ["First", "The baker", "The nurse"]
    assert [one["text"] for one in found] == generate(lm, ["First", "The baker", "The nurse"], tokens=8, temperature=0)
    assert [one["prompt"] for one in samples(model_directory, "--prompts", str(lines), *GREEDY)] == [
        "The baker", "two\nlines"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "\n\n", "no prompts"),
        ("a.jsonl", '{"prompt": "x"}\n{"text": "y"}', "line 2: this line has no text"),
        ("a.jsonl", "{", "line 1: this is not JSON"),
    ],
)
def test_a_file_without_prompts_is_refused(
    model_directory: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    done = command("generate", "quickstart", "--model", str(model_directory), "--prompts", str(tmp_path / name))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_log_probabilities_are_those_of_score(model_directory: Path, lm: LanguageModel) -> None:
    (found,) = samples(model_directory, "--prompt", "The baker", "--logprobs", "2", *GREEDY)
    ((scored,),) = score(lm, [Request("The baker", (found["text"],))], 100)
    if lm.tokenizer.encode("The baker" + found["text"])[-8:] == [token["id"] for token in found["tokens"]]:
        assert sum(token["logprob"] for token in found["tokens"]) == pytest.approx(scored.log_probability, abs=1e-4)
    for token in found["tokens"]:
        assert token["top"][0] == [token["id"], pytest.approx(token["logprob"])]
        assert len(token["top"]) == 2
    assert samples(model_directory, "--prompt", "The baker", *GREEDY)[0]["tokens"] is None


def test_stops_and_filters_reach_the_model(model_directory: Path) -> None:
    (whole,) = samples(model_directory, "--prompt", "The baker", *GREEDY)
    assert whole["finish"] == "length"
    stop = whole["text"][3:5]
    (cut,) = samples(model_directory, "--prompt", "The baker", "--stop", "never", "--stop", stop, *GREEDY)
    assert (cut["text"], cut["finish"]) == (whole["text"].split(stop)[0], "stop")
    drawn = ("--prompt", "The baker", "--tokens", "8", "--temperature", "5")
    assert samples(model_directory, *drawn, "--min-p", "1", "--top-p", "1")[0]["text"] == whole["text"]
    (penalised,) = samples(
        model_directory, "--prompt", "The baker", "--repetition-penalty", "50", "--logprobs", "0", *GREEDY
    )
    ids = [token["id"] for token in penalised["tokens"]]
    assert len(ids) == len(set(ids))


def test_text_in_bf16_has_nearly_the_same_probabilities(model_directory: Path) -> None:
    fp32, bf16 = (
        samples(model_directory, "--prompt", "The baker", "--logprobs", "0", "--precision", precision, *GREEDY)[0]
        for precision in ("fp32", "bf16")
    )
    first, other = fp32["tokens"][0], bf16["tokens"][0]
    assert first["id"] == other["id"]
    assert first["logprob"] == pytest.approx(other["logprob"], abs=0.2)
    assert first["logprob"] != other["logprob"]


def test_a_conversation_is_answered_line_by_line(talker: Path) -> None:
    done = command("chat", str(talker), "--temperature", "0", "--tokens", "6", text="Who?\n\nWhen?\n/quit\nnever\n")
    assert done.exit_code == 0, done.output
    lm = m.load_model(talker)
    first = generate(lm, ["u:Who?\na:"], tokens=6, temperature=0)[0]
    second = generate(lm, [f"u:Who?\na:{first}\nu:When?\na:"], tokens=6, temperature=0)[0]
    assert done.stdout == f"{first}\n{second}\n"


def test_a_long_conversation_forgets_its_first_turns_and_says_so(talker: Path) -> None:
    talk = m.chat(talker, system="Be kind.", tokens=6, temperature=0)
    for _ in range(6):
        "".join(talk.answer("The pilot laughed."))
    assert talk.forgotten > 0
    assert len(talk.messages) == 13
    with pytest.raises(InputError, match="beside the answer"):
        list(talk.answer("石" * 40))
    assert len(talk.messages) == 13
    done = command("chat", str(talker), "--tokens", "6", text="The pilot laughed.\n" * 6 + "石" * 40 + "\n")
    assert done.exit_code == 0
    assert "no longer fit" in done.stderr
    assert "Shorten it" in done.stderr


def test_an_answer_that_is_stopped_is_remembered_as_far_as_it_came(talker: Path) -> None:
    talk = m.chat(talker, tokens=6, temperature=0)
    pieces = talk.answer("Who?")
    first = next(pieces)
    pieces.close()
    assert talk.messages[-1] == {"role": "assistant", "content": first}
    assert talk._engine.kv_bytes_used == 0


def test_a_model_without_a_template_does_not_converse(model_directory: Path, talker: Path, tmp_path: Path) -> None:
    done = command("chat", str(model_directory))
    assert done.exit_code == 2
    assert "no chat template" in done.stderr
    broken = shutil.copytree(talker, tmp_path / "broken")
    (broken / "generation.json").write_text('{"prefix": 0, "end_of_text": [0], "chat_template": "{{ oops"}')
    assert command("chat", str(broken)).exit_code == 2
