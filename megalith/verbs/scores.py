"""The verb `score`: the log-probabilities of anyone's requests."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from megalith.console import progress
from megalith.errors import InputError
from megalith.verbs.arguments import Place

if TYPE_CHECKING:
    from megalith.evaluation.score_file import Summary


def score(
    model: Place,
    requests: Place,
    output: Place,
    *,
    prefix: Literal["none", "bos", "eot", "auto"] = "auto",
    boundary: Literal["lm_eval", "safe"] = "lm_eval",
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_tokens: int = 4096,
    batch_invariant: bool = False,
    too_long: Literal["truncate", "error"] = "truncate",
) -> "Summary":
    """Score the requests of a file, JSON lines with `id`, `context` and `choices`, under the model in a directory.

    `output` gets `id`, `log_probabilities` (nats), `greedy` and `tokens` of each request, in their order. For the
    settings see `inference.score`. Raises InputError for a line that is not a request, before the model is read.
    """
    from megalith.artifacts import file_digest
    from megalith.evaluation.score_file import ScoreSettings, read_requests, score_file
    from megalith.inference import load_prepared, model_digests

    source, result, directory = Path(requests), Path(output), Path(model)
    asked = read_requests(source)
    if result.is_dir() or (result.exists() and result.samefile(source)):
        said = "this is a directory" if result.is_dir() else "these are the requests"
        raise InputError(f"{said}.", where=str(result), mend="Set --output to another file.")
    result.parent.mkdir(parents=True, exist_ok=True)
    lm = load_prepared(directory, precision)
    origin = {"model": model_digests(directory), "requests": file_digest(source), "precision": precision}
    settings = ScoreSettings(prefix, boundary, batch_tokens, batch_invariant, too_long)
    with progress() as bar:
        task = bar.add_task(f"scoring {source.name}", total=len(asked))
        return score_file(
            lm, asked, result, settings, origin, lambda done, total: bar.update(task, completed=done, total=total)
        )
