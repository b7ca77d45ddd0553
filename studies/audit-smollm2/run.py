"""Audit SmolLM2-135M-Instruct with every instrument: `python studies/audit-smollm2/run.py MODEL [--output DIR]`.

MODEL is a directory that `megalith import` made. An interrupted run goes on at the first piece that is missing when the
command is given again; results are then written beside this file: audit.html is the page, and audit.json has the
figures, the settings, the command, the digests of the model and of all official files, and the hours and the processor
that it took.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megalith import audit_model
from megalith.artifacts import LOGS, Artifact
from megalith.audit.audit import RUNS
from megalith.machine import cpu_name
from megalith.report import write_audit

HERE = Path(__file__).resolve().parent
RECIPE = "smollm2-135m"
INSTRUMENTS = (
    "hans", "hans_shots", "in_context", "association", "winogender", "winobias", "crows_pairs", "bbq", "adjectives",
    "toxicity", "probes",
)  # fmt: skip
SETTINGS = (
    f"audit.instruments=[{', '.join(INSTRUMENTS)}]",
    "audit.hans_examples=25",
    "audit.shot_counts=[0, 1, 2, 4, 8]",
    "audit.varied_shots=4",
    "audit.in_context_tasks=[hans_generated, sst2]",
    "audit.in_context_documents=40",
    "audit.in_context_draws=4",
    "audit.in_context_orders=3",
    "audit.items=150",
    "audit.texts=16",
    "audit.text_tokens=30",
    "evaluate.batch_tokens=4096",
)
"""Sized for some 25 processor minutes at 700 tokens a second."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/audit-smollm2"), help="where pieces are kept")
    parser.add_argument("--set", nargs="*", default=(), help="other settings, which win over those of the study")
    parser.add_argument("--results", type=Path, default=HERE / "audit.json")
    asked = parser.parse_args(arguments)
    made = audit_model(RECIPE, overrides=(*SETTINGS, *asked.set), model=asked.model, output=asked.output)
    asked.results.write_text(json.dumps(told(made, asked.set), indent=1, ensure_ascii=False) + "\n")
    page = asked.results.with_suffix(".html")
    shutil.copyfile(write_audit(made.path), page)
    print(f"{asked.results} and {page}, from {made.path}")


def told(made: Artifact, changed: Sequence[str]) -> dict[str, Any]:
    """Return everything that the study shows of an audit."""
    runs = [json.loads(line) for line in (made.path / LOGS / RUNS).read_text().splitlines()]
    command = "python studies/audit-smollm2/run.py MODEL" + "".join(f" --set {one}" for one in changed)
    return {
        "command": command,
        "settings": made.manifest.settings,
        "seed": made.manifest.seed,
        "inputs": made.manifest.inputs,
        "versions": made.manifest.versions,
        "processor": cpu_name(),
        "hours": round(sum(run["seconds"] for run in runs) / 3600, 3),
        "processor_hours": round(sum(run["processor_seconds"] for run in runs) / 3600, 3),
        "runs": runs,
        "facts": made.facts,
    }


if __name__ == "__main__":
    main()
