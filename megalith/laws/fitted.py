"""A law that `megalith scaling fit --output` has written, as a law beside the published ones."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from megalith.errors import InputError
from megalith.input_files import read_model
from megalith.laws.formulas import LossFormula, RepeatedTokens
from megalith.laws.published import Law

KIND = "megalith scaling law"
_MEND = "Use a file of `megalith scaling fit --output`."


class FittedRange(BaseModel):
    """The smallest and the largest of the runs that a law was fitted on."""

    parameters: tuple[float, float]
    tokens: tuple[float, float]
    flops: tuple[float, float]
    loss: tuple[float, float]


class FittedForecaster(BaseModel):
    """The law that foretells a loss: its constants, their bootstrap draws, and its errors, all of log L."""

    name: str
    kind: str = Field(pattern="^(chinchilla|isoflop)$")
    theta: tuple[float, ...]
    centre_flops: float = Field(gt=0)
    draws: tuple[tuple[float, ...], ...]
    noise: float = Field(ge=0)
    """Standard deviation of a run about the law."""
    misfit_per_decade: float = Field(ge=0)
    """Error for each factor of ten in FLOPs beyond the runs."""
    within: float | None = Field(default=None, gt=0)
    """The largest |log N − log N_opt| at which an IsoFLOP parabola is read."""
    beside: tuple[float, ...] | None = None
    """θ of the approach 3 that foretells beyond it."""


class FittedLaw(BaseModel):
    """The content of a law's file."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    name: str
    source: str
    theta: tuple[float, float, float, float, float]
    """(log A, log B, log E, α, β) of approach 3."""
    draws: tuple[tuple[float, float, float, float, float], ...]
    fitted: FittedRange
    forecaster: FittedForecaster
    parameters_counted: str
    loss_unit: str
    vocab_size: int | None = None
    repeated: tuple[float, float] | None = None
    """R_D* and R_N*, where the runs say them."""
    digest: str

    @property
    def formula(self) -> LossFormula:
        return formula_of(self.theta)


def formula_of(theta: Any) -> LossFormula:
    """The law of (log A, log B, log E, α, β)."""
    import numpy as np

    a, b, e = (float(np.exp(value)) for value in theta[:3])
    return LossFormula(e, a, b, float(theta[3]), float(theta[4]))


def read_fitted(path: Path) -> FittedLaw:
    """The file's content. Raises InputError where it is missing or holds something else."""
    found = read_model(path, FittedLaw, mend=_MEND)
    if found.kind != KIND:
        raise InputError("this file does not hold a scaling law.", where=str(path), mend=_MEND)
    return found


def read_law(path: Path) -> Law:
    """The law in the file, named after it; its intervals are those of its bootstrap draws."""
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"this law cannot be read: {error.strerror}.", where=str(path), mend=_MEND) from error
    return _read_law(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read_law(path: Path, modified: int, size: int) -> Law:
    found = read_fitted(path)
    low, high = found.fitted.flops
    alpha, beta = found.theta[3:]
    return Law(
        name=str(path),
        source=f"fitted here: {found.source}; digest {found.digest[:12]}",
        formula=found.formula,
        exponent_interval=(beta / (alpha + beta),) * 2,
        surest_flops=(low * high) ** 0.5,
        smallest_parameters=found.fitted.parameters[0],
        intervals_from=f"intervals from {len(found.draws)} bootstraps of its runs",
        draws=tuple(formula_of(draw) for draw in found.draws),
        vocab_size=found.vocab_size,
        repeated=None if found.repeated is None else RepeatedTokens(*found.repeated),
    )
