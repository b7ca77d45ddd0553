"""The study of a real model runs on a small one, in pieces, and tells what it took."""

import json
import runpy
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_the_study_goes_on_where_it_was_stopped_and_tells_what_it_took(
    tmp_path: Path, model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEGALITH_DATA", raising=False)
    study = runpy.run_path(str(ROOT / "studies" / "audit-smollm2" / "run.py"))
    results = tmp_path / "audit.json"
    settings = ("audit.instruments=[hans, winogender, probes]", "audit.hans_examples=5", "audit.generated_tokens=4")
    arguments = [str(model_directory), "--output", str(tmp_path / "out"), "--results", str(results), "--set", *settings]

    def broken(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr("megalith.audit.probes.judge", broken)
        study["main"](arguments)
    study["main"](arguments)
    told = json.loads(results.read_text())
    assert [run["run"] for run in told["runs"]] == ["hans", "probes"]  # hans was not asked again
    assert told["facts"]["hans"]["examples"] == 30
    assert "winogender/all_sentences.tsv" in told["facts"]["winogender"]["skipped"]
    assert told["facts"]["probes"]["code"]["tests"] == 8
    assert "def levenshtein" in results.with_suffix(".html").read_text()
    assert told["hours"] >= 0 and told["processor"] is not None
    assert set(told["inputs"]) >= {"model.safetensors", "tokenizer.json"}
