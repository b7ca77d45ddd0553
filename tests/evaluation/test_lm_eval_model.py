"""lm-evaluation-harness judges our models by tasks of its own form, and its own model of the same weights agrees."""

import json
from pathlib import Path
from typing import Any

import pytest

from megalith.errors import InputError
from megalith.inference import LanguageModel, Request, generate, rolling, score
from tests.inference.models import write_model

pytest.importorskip("lm_eval", reason="lm-evaluation-harness (the extra lm-eval) is not installed")

ROWS = [
    {"text": "The baker said that the nurse", "choices": [" was a woman", " laughed"], "gold": 0},
    {"text": "Is it True or False? Answer: ", "choices": ["True", "False"], "gold": 1},  # white space at the join
    {"text": "石は重い。", "choices": [" 😀", " 石"], "gold": 0},
]
TASKS = {
    "choices": {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold"},
    "whole": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    "written": {
        "output_type": "generate_until", "doc_to_target": "{{text}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def judged(model: Any, folder: Path) -> dict[str, list[Any]]:
    """The responses of a model to the requests of each task."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in ROWS))
    tasks = [
        {
            "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}},
            "test_split": "test", "doc_to_text": "{{text}}", "target_delimiter": "",
        }
        | task
        for name, task in TASKS.items()
    ]  # fmt: skip
    made = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=TaskManager(include_defaults=False), log_samples=True, bootstrap_iters=0
    )
    return {
        name: [row["filtered_resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
        for name, rows in made["samples"].items()
    }


def test_its_three_kinds_of_request_get_our_scores_and_texts(lm: LanguageModel, tmp_path: Path) -> None:
    from megalith.evaluation.lm_eval_model import MegalithLM

    found = judged(MegalithLM(lm), tmp_path)
    asked = [Request(row["text"], tuple(row["choices"])) for row in ROWS]
    for responses, scores in zip(found["choices"], score(lm, asked, 4096, boundary="lm_eval"), strict=True):
        for (log_probability, greedy), one in zip(responses, scores, strict=True):
            assert (log_probability, greedy) == (pytest.approx(one.log_probability, abs=1e-6), one.greedy)
    texts = [row["text"] for row in ROWS]
    whole = rolling(lm, texts, 4096, lm.config.sequence_length)
    assert [-one.nats for one in whole] == pytest.approx([found_one[0] for found_one in found["whole"]], abs=1e-5)
    written = generate(lm, texts, tokens=8, temperature=0, stop="\n\n")
    assert [responses[0] for responses in found["written"]] == written


def test_its_own_model_of_the_same_weights_agrees(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="lm-eval's own model needs transformers")
    from lm_eval.models.huggingface import HFLM

    from megalith.evaluation.lm_eval_model import MegalithLM
    from megalith.inference import load_model
    from megalith.interop.exporting import export_model

    ours = load_model(write_model(tmp_path / "model", sequence_length=64))
    exported = export_model(tmp_path / "model", tmp_path / "hf", "hf")
    theirs = HFLM(pretrained=str(exported.path), device="cpu", dtype="float32", batch_size=2, add_bos_token=False)
    found, wanted = judged(MegalithLM(ours, prefix="none"), tmp_path), judged(theirs, tmp_path)
    for name in ("choices", "whole"):
        for own, other in zip(found[name], wanted[name], strict=True):
            for one, two in zip(own, other, strict=True):
                assert one == pytest.approx(two, abs=1e-3)


def test_it_stands_among_lm_evals_own_models() -> None:
    from lm_eval.api.registry import get_model

    from megalith.evaluation.lm_eval_model import MegalithLM

    assert get_model("megalith") is MegalithLM
    assert get_model("dummy").__name__ == "DummyLM"


def test_settings_that_are_not_known_are_refused(lm: LanguageModel) -> None:
    from megalith.evaluation.lm_eval_model import MegalithLM

    with pytest.raises(InputError, match="num_beams is not known"):
        MegalithLM(lm)._sampling({"num_beams": 4})
    with pytest.raises(InputError, match="on the CPU, not on cuda"):
        MegalithLM(lm, device="cuda")
    drawn = MegalithLM(lm)._sampling({"temperature": 0.7, "max_new_tokens": 3, "until": "\n"})
    assert (drawn.temperature, drawn.max_tokens, drawn.stop) == (0.7, 3, ("\n",))
    assert MegalithLM(lm)._sampling({"do_sample": False, "temperature": 0.7}).temperature == 0.0
