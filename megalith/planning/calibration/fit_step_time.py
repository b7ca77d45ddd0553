"""The most probable constants for measured steps: least squares on log seconds, with log-normal priors.

Rows of one dataset err together (one machine, one version of the software), so a dataset's weight grows more slowly
than its rows; a row far off pulls less than its square would (soft-l1). The same rows give the same constants.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from megalith.job import Job
from megalith.planning.performance.constants import PRIOR_SPREADS, STACK_PRIOR, Constants
from megalith.planning.performance.step_time import predict_step

ROW_NOISE = 0.04  # repeated runs of one layout differ by 3.2 % (BLOOM's chronicles); the rest is the model's
DATASET_ROWS = 20  # beyond so many rows, a dataset's weight grows with their square root
LEFT_OUT = 0.2  # share of the samples without which a fit's slopes still serve
TOLERANCE = 1e-4  # relative, of the sum of squares: constants are told apart far worse than that
STEP = 1e-3  # of a logarithm, for the derivatives
Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """One measured step."""

    job: Job
    seconds: float
    dataset: str
    factor: float = 1.0
    """The schedule's lists over its closed form, which hardly depends on the constants; the fit uses the latter."""


@dataclass(frozen=True)
class Fit:
    """Constants of one generation, with a multiplier for each stack that was seen."""

    constants: Constants
    stacks: Mapping[str, float]
    samples: int
    slopes: Mapping[int, Floats] = field(default_factory=dict, repr=False)
    """Derivatives of each sample's log error along the logarithms of the constants and of its stack's multiplier."""

    def of(self, stack: str) -> Constants:
        """For one stack; one that was not seen gets 1."""
        return replace(self.constants, stack=self.stacks.get(stack, 1.0))

    def log_error(self, sample: Sample) -> float:
        """log(predicted / measured)."""
        return _log_error(sample, self.of(sample.job.stack))


def fit(samples: Sequence[Sample], prior: Constants, start: Fit | None = None) -> Fit:
    """The constants for `samples`, which are of one generation.

    `start` is a fit to these samples and more: its constants are where to begin, and its slopes serve again where few
    samples are missing (LEFT_OUT), since the constants hardly move.
    """
    problem = _Problem(samples, prior)
    kept = None if start is None else _slopes_again(problem, start)

    def slopes(theta: Floats) -> Floats:
        return problem.slopes(theta) if kept is None else kept

    first = problem.centre if start is None else problem.logs(start)
    found = least_squares(
        problem.errors,
        first,
        jac=slopes,
        loss="soft_l1",
        f_scale=2.0,
        xtol=1e-3,
        ftol=TOLERANCE,
        gtol=1e-5,
        max_nfev=30,
    )
    ended = problem.fit(found.x)
    return replace(ended, slopes=problem.rows(found.x)) if start is None else ended


def _slopes_again(problem: "_Problem", start: Fit) -> Floats | None:
    """The slopes that `start` ended with, of the samples that are left; None where too many are missing."""
    few = len(problem.samples) < (1 - LEFT_OUT) * start.samples
    if few or not all(id(sample) in start.slopes for sample in problem.samples):
        return None
    return problem.matrix([start.slopes[id(sample)] for sample in problem.samples])


class _Problem:
    """Residuals to minimise: weighted log errors of the samples, and distances of the constants from their priors."""

    names = tuple(PRIOR_SPREADS)

    def __init__(self, samples: Sequence[Sample], prior: Constants) -> None:
        self.samples = samples
        self.prior = prior
        self.stacks = tuple(sorted({sample.job.stack for sample in samples}))
        own = [math.log(getattr(prior, name)) for name in self.names]
        self.centre = np.array(own + [0.0] * len(self.stacks))
        self.spreads = np.array([PRIOR_SPREADS[name] for name in self.names] + [STACK_PRIOR] * len(self.stacks))
        counts = Counter(sample.dataset for sample in samples)
        self.weights = np.array([_weight(counts[sample.dataset]) for sample in samples])

    def fit(self, theta: Floats) -> Fit:
        count = len(self.names)
        values = {name: math.exp(value) for name, value in zip(self.names, theta[:count], strict=True)}
        multipliers = {stack: math.exp(value) for stack, value in zip(self.stacks, theta[count:], strict=True)}
        constants = replace(self.prior, **values)  # type: ignore[arg-type]  # names of floats alone
        return Fit(constants, multipliers, len(self.samples))

    def logs(self, start: Fit) -> Floats:
        """Where `start` ended."""
        values = [math.log(getattr(start.constants, name)) for name in self.names]
        return np.array(values + [math.log(start.stacks.get(stack, 1.0)) for stack in self.stacks])

    def errors(self, theta: Floats) -> Floats:
        return np.concatenate([self._logs_of_errors(theta) * self.weights, (theta - self.centre) / self.spreads])

    def slopes(self, theta: Floats) -> Floats:
        return self.matrix(list(self.rows(theta).values()))

    def rows(self, theta: Floats) -> dict[int, Floats]:
        """The slopes of each sample by its identity; the last is along its stack's multiplier."""
        base, count = self._logs_of_errors(theta), len(self.names)
        columns = []
        for index in range(count):
            moved = theta.copy()
            moved[index] += STEP
            columns.append((self._logs_of_errors(moved) - base) / STEP)
        moved = theta.copy()
        moved[count:] += STEP  # each sample has one stack: all multipliers at once tell them apart
        columns.append((self._logs_of_errors(moved) - base) / STEP)
        return {id(sample): row for sample, row in zip(self.samples, np.stack(columns, axis=1), strict=True)}

    def matrix(self, rows: Sequence[Floats]) -> Floats:
        count = len(self.names)
        found = np.zeros((len(rows) + len(self.centre), len(self.centre)))
        found[len(rows) :] = np.diag(1 / self.spreads)
        for number, (row, sample) in enumerate(zip(rows, self.samples, strict=True)):
            found[number, :count] = row[:count] * self.weights[number]
            found[number, count + self.stacks.index(sample.job.stack)] = row[count] * self.weights[number]
        return found

    def _logs_of_errors(self, theta: Floats) -> Floats:
        now = self.fit(theta)
        known = {stack: now.of(stack) for stack in self.stacks}
        return np.array([_log_error(sample, known[sample.job.stack]) for sample in self.samples])


def _weight(rows: int) -> float:
    return 1 / (ROW_NOISE * math.sqrt(max(1.0, rows / DATASET_ROWS)))


def _log_error(sample: Sample, constants: Constants) -> float:
    return math.log(predict_step(sample.job, constants, exact=False).seconds * sample.factor / sample.seconds)
