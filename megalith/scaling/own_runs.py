"""Runs of `megalith train` as runs for a law: N, exact FLOPs, loss and curve of each from its artifact."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megalith.arithmetic import flops_per_token, parameters
from megalith.artifacts import MANIFEST, Manifest, is_ours, read_manifest
from megalith.errors import InputError
from megalith.input_files import read_json, read_model
from megalith.recipe.model import ModelConfig
from megalith.scaling.envelope import Curve
from megalith.scaling.points import Points
from megalith.scaling.runs import Runs

TABLE = "RUNS.csv"
_DEEPEST = 4  # folders below the one that is named


@dataclass(frozen=True)
class OwnRun:
    """One train artifact."""

    path: Path
    model: ModelConfig
    tokens: float
    unique_tokens: float
    cycle_tokens: float
    loss: float
    """Nats per token over the whole validation split."""
    curve: tuple[np.ndarray, np.ndarray]
    """Tokens and training loss of each step."""

    @property
    def counts(self) -> dict[str, float]:
        """N by each convention; a tied table counts as the head."""
        count = parameters(self.model)
        head = count.output_projection or count.token_embedding
        return {
            "with_head": float(count.non_embedding + head),
            "non_embedding": float(count.non_embedding),
            "total": float(count.total),
        }


def read_own_runs(directory: Path) -> Runs:
    """The runs of an artifact, of a folder's artifacts, or of its RUNS.csv. Raises InputError where there are none."""
    if (directory / TABLE).is_file():
        from megalith.scaling.table import read_table

        return read_table(directory / TABLE)
    found, skipped = [], []
    for path in train_artifacts(directory):
        run = read_run(path)
        if isinstance(run, OwnRun):
            found.append(run)
        else:
            skipped.append(run)
    if not found:
        raise InputError(
            f"no finished training run is here, and no {TABLE}.",
            where=str(directory),
            mend="Name a train artifact, a folder of runs of `megalith train`, or a CSV.",
        )
    return runs_of(found, str(directory), skipped)


def runs_of(found: Sequence[OwnRun], source: str, skipped: Sequence[str] = ()) -> Runs:
    """The runs as points, with N counted with the head and without the input table."""
    counts = {kind: np.array([run.counts[kind] for run in found]) for kind in ("with_head", "non_embedding", "total")}
    tokens = np.array([run.tokens for run in found])
    flops = np.array([flops_per_token(run.model) for run in found]) * tokens
    points = Points(
        counts["with_head"], tokens, np.array([run.loss for run in found]), flops,
        np.array([min(run.tokens, run.unique_tokens) for run in found]),
    )  # fmt: skip
    vocabularies = {run.model.vocab_size for run in found}
    left_out = list(skipped)
    if len(vocabularies) > 1:
        left_out.append(f"nothing, though the runs have {len(vocabularies)} vocabularies: their losses do not compare")
    return Runs(
        points=points,
        source=source,
        parameters_counted="with_head",
        flops_counted="exact, attention and logits included",
        loss_unit="nats per token, whole validation split",
        counts=counts,
        curves=tuple(
            Curve(float(n), run.curve[0], run.curve[1], finished=False)
            for n, run in zip(counts["with_head"], found, strict=True)
            if len(run.curve[0]) > 1
        ),
        cycle_tokens=np.array([run.cycle_tokens for run in found]),
        vocab_size=vocabularies.pop() if len(vocabularies) == 1 else None,
        left_out=tuple(left_out),
    )


def train_artifacts(directory: Path) -> Iterator[Path]:
    """The train artifacts at or below `directory`, in order; unfinished and set-aside ones are not among them."""
    if (directory / MANIFEST).is_file():
        yield directory
        return
    for depth in range(1, _DEEPEST + 1):
        for manifest in sorted(directory.glob("/".join(["*"] * depth) + f"/{MANIFEST}")):
            names = manifest.relative_to(directory).parts[:-1]
            hidden = any(name.startswith(".") or ".aside-" in name for name in names)
            if not hidden and manifest.parent.name.startswith("train") and is_ours(manifest):
                yield manifest.parent


def read_run(path: Path) -> OwnRun | str:
    """The run in a train artifact, or why it is left out. Raises InputError where its files are damaged."""
    manifest = read_manifest(path)
    if manifest.stage != "train":
        raise InputError(f"this is an artifact of {manifest.stage}, not of train.", where=str(path))
    loss = manifest.facts.get("validation_loss")
    if not isinstance(loss, int | float) or not loss > 0:
        return f"{path}: it has no validation loss"
    model = read_model(path / "model" / "config.json", ModelConfig)
    history = read_json(path / "history.json")
    steps = [(step["tokens"], step["loss"]) for step in history.get("steps", []) if step.get("loss")]
    tokens = float(manifest.facts["tokens"])
    train = manifest.settings.get("train", {})
    curve = np.array(steps, dtype=np.float64).reshape(-1, 2)
    return OwnRun(
        path=path,
        model=model,
        tokens=tokens,
        unique_tokens=_unique(path, tokens),
        cycle_tokens=float(train.get("decay_tokens") or train.get("tokens") or tokens),
        loss=float(loss),
        curve=(curve[:, 0], curve[:, 1]),
    )


def _unique(path: Path, tokens: float) -> float:
    """Training tokens in the shards beside the run; the run's own where they have gone."""
    beside = path.parent / "tokenize"
    if not (beside / MANIFEST).is_file():
        return tokens
    shards: Manifest = read_manifest(beside)
    return float(shards.facts.get("tokens", {}).get("train") or tokens)
