"""Scaling laws: each verb of `megalith scaling`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from megalith.verbs.arguments import Place, check_file, path

Counted = Literal["total", "with_head", "non_embedding", "unknown"]


def scaling_fit(
    runs: Place,
    *,
    output: Place | None = None,
    parameters: Counted | None = None,
    only: Sequence[str] = (),
    drop_highest: int = 0,
    pin_e: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit scaling laws to runs: a CSV, a train artifact or a folder of such.

    Chinchilla's three approaches, Kaplan's law, repeated tokens where runs repeat them; intervals, held-out errors and
    the law that foretells larger runs best. `output` is the law's file, for `scaling_predict` and `plan_budget`.
    `parameters` is the convention of N, `only` keeps rows by COLUMN=VALUE, `drop_highest` leaves out so many of the
    highest losses, `pin_e` holds E, `resamples` are bootstraps.
    """
    from megalith.scaling import fit

    written = path(output)
    if written is not None:
        check_file(written)
    return fit(
        Path(runs), resamples=resamples, seed=seed, pin_e=pin_e, only=only, drop_highest=drop_highest,
        parameters=parameters, output=written,
    )  # fmt: skip


def scaling_predict(
    law: Place,
    *,
    parameters: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """The loss of a run that has not been made, with its interval, by the law in a file of `scaling_fit`.

    Two of parameters, tokens and FLOPs say the run; FLOPs alone, the optimum's.
    """
    from megalith.scaling.fitting import check_digest
    from megalith.scaling.prediction import predict

    return predict(check_digest(Path(law)), parameters=parameters, tokens=tokens, flops=flops, level=level)
