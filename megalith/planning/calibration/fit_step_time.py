"""The most probable constants for measured steps: least squares on log seconds, with log-normal priors.

Generations of accelerators are fitted together. A constant's distance from its prior has a part that all generations
share and a part of each one's own, so that a generation with few rows, or none, leans on the others; the multiplier of
a stack has the same two parts. Rows of one dataset err together (one machine, one version of the software), so the
weight of a dataset grows more slowly than its rows; a row far off pulls less than its square would (soft-l1). The same
rows give the same constants.
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
from megalith.planning.performance.constants import (
    OWN_SPREADS,
    OWN_STACK_SPREAD,
    PRIORS,
    SHARED_SPREADS,
    STACK_PRIOR,
    Constants,
    generation_of,
)
from megalith.planning.performance.step_time import predict_step

ROW_NOISE = 0.04  # repeated runs of one layout differ by 3.2 % (BLOOM's chronicles); the rest is the model's
DATASET_ROWS = 20  # beyond so many rows, a dataset's weight grows with their square root
LEFT_OUT = 0.2  # share of the samples without which a fit's slopes still serve
TOLERANCE = 1e-4  # relative, of the sum of squares: constants are told apart far worse than that
STEP = 1e-3  # of a logarithm, for the derivatives
NAMES = tuple(SHARED_SPREADS)
Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """One measured step."""

    job: Job
    seconds: float
    dataset: str
    factor: float = 1.0
    """The schedule's lists over its closed form, which hardly depends on the constants; the fit uses the latter."""

    @property
    def generation(self) -> str:
        return generation_of(self.job.cluster)

    @property
    def pair(self) -> tuple[str, str]:
        """Its generation and its stack."""
        return self.generation, self.job.stack


@dataclass(frozen=True)
class Fit:
    """Constants of every generation, with a multiplier for each stack that was seen."""

    generations: Mapping[str, Constants]
    stacks: Mapping[str, float]
    """Multiplier of a stack on a generation where it was not seen."""
    pairs: Mapping[tuple[str, str], float]
    """Multipliers by generation and stack."""
    samples: int
    shared: Mapping[str, float]
    """Each constant's logarithm over its prior's, as far as all generations share it."""
    slopes: Mapping[int, Floats] = field(default_factory=dict, repr=False)
    """Derivatives of each sample's log error along the logarithms of the constants and of its stack's multiplier."""

    def of(self, generation: str, stack: str) -> Constants:
        """For a stack on a generation; a stack that was not seen gets 1."""
        multiplier = self.pairs.get((generation, stack), self.stacks.get(stack, 1.0))
        return replace(self.generations[generation], stack=multiplier)

    def log_error(self, sample: Sample) -> float:
        """log(predicted / measured)."""
        return _log_error(sample, self.of(*sample.pair))


def fit(samples: Sequence[Sample], start: Fit | None = None) -> Fit:
    """The constants for `samples`, of any generations.

    `start` is a fit to these samples and more: its constants are where to begin, and its slopes serve again where few
    samples are missing (LEFT_OUT), since the constants hardly move.
    """
    problem = _Problem(samples)
    kept = None if start is None else _slopes_again(problem, start)

    def slopes(theta: Floats) -> Floats:
        return problem.slopes(theta) if kept is None else kept

    found = least_squares(
        problem.errors,
        problem.centre if start is None else problem.logs(start),
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
    """Residuals to minimise: weighted log errors of the samples, and distances of the constants from their priors.

    The unknowns, all logarithms: each constant's shared part; its own part in each generation; each stack's shared
    multiplier; its own part in each generation where it was seen.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.generations = tuple(sorted({sample.generation for sample in samples}))
        self.stacks = tuple(sorted({sample.job.stack for sample in samples}))
        self.pairs = tuple(sorted({sample.pair for sample in samples}))
        self.own = len(NAMES)  # where the parts of each generation begin
        self.stack = self.own + len(NAMES) * len(self.generations)
        self.pair = self.stack + len(self.stacks)
        self.centre = np.zeros(self.pair + len(self.pairs))
        self.spreads = np.array(
            [SHARED_SPREADS[name] for name in NAMES]
            + [OWN_SPREADS[name] for _ in self.generations for name in NAMES]
            + [STACK_PRIOR] * len(self.stacks)
            + [OWN_STACK_SPREAD] * len(self.pairs)
        )
        counts = Counter((sample.dataset, sample.generation) for sample in samples)
        self.weights = np.array([_weight(counts[sample.dataset, sample.generation]) for sample in samples])

    def fit(self, theta: Floats) -> Fit:
        shared = dict(zip(NAMES, theta[: self.own].tolist(), strict=True))
        own = {
            generation: dict(zip(NAMES, theta[self._own(generation)].tolist(), strict=True))
            for generation in self.generations
        }
        stacks = dict(zip(self.stacks, theta[self.stack : self.pair].tolist(), strict=True))
        pairs = {
            (generation, stack): math.exp(stacks[stack] + value)
            for (generation, stack), value in zip(self.pairs, theta[self.pair :].tolist(), strict=True)
        }
        generations = {
            generation: _moved(prior, shared, own.get(generation, {})) for generation, prior in PRIORS.items()
        }
        multipliers = {stack: math.exp(value) for stack, value in stacks.items()}
        return Fit(generations, multipliers, pairs, len(self.samples), shared)

    def _own(self, generation: str) -> slice:
        first = self.own + len(NAMES) * self.generations.index(generation)
        return slice(first, first + len(NAMES))

    def logs(self, start: Fit) -> Floats:
        """Where `start` ended."""
        shared = [start.shared[name] for name in NAMES]
        own = [
            math.log(getattr(start.generations[generation], name) / getattr(PRIORS[generation], name)) - common
            for generation in self.generations
            for name, common in zip(NAMES, shared, strict=True)
        ]
        stacks = [math.log(start.stacks.get(stack, 1.0)) for stack in self.stacks]
        pairs = [
            math.log(start.pairs.get(pair, start.stacks.get(pair[1], 1.0)) / start.stacks.get(pair[1], 1.0))
            for pair in self.pairs
        ]
        return np.array(shared + own + stacks + pairs)

    def errors(self, theta: Floats) -> Floats:
        return np.concatenate([self._logs_of_errors(theta) * self.weights, (theta - self.centre) / self.spreads])

    def slopes(self, theta: Floats) -> Floats:
        return self.matrix(list(self.rows(theta).values()))

    def rows(self, theta: Floats) -> dict[int, Floats]:
        """The slopes of each sample by its identity; the last is along its stack's multiplier."""
        base = self._logs_of_errors(theta)
        columns = []
        for index in range(len(NAMES)):
            moved = theta.copy()
            moved[index] += STEP
            columns.append((self._logs_of_errors(moved) - base) / STEP)
        moved = theta.copy()
        moved[self.stack : self.pair] += STEP  # each sample has one stack: all at once tell them apart
        columns.append((self._logs_of_errors(moved) - base) / STEP)
        return {id(sample): row for sample, row in zip(self.samples, np.stack(columns, axis=1), strict=True)}

    def matrix(self, rows: Sequence[Floats]) -> Floats:
        count = len(NAMES)
        found = np.zeros((len(rows) + len(self.centre), len(self.centre)))
        found[len(rows) :] = np.diag(1 / self.spreads)
        for number, (row, sample) in enumerate(zip(rows, self.samples, strict=True)):
            slopes = row * self.weights[number]
            found[number, :count] = slopes[:count]
            found[number, self._own(sample.generation)] = slopes[:count]
            found[number, self.stack + self.stacks.index(sample.job.stack)] = slopes[count]
            found[number, self.pair + self.pairs.index(sample.pair)] = slopes[count]
        return found

    def _logs_of_errors(self, theta: Floats) -> Floats:
        now = self.fit(theta)
        known = {pair: now.of(*pair) for pair in self.pairs}
        return np.array([_log_error(sample, known[sample.pair]) for sample in self.samples])


def _moved(prior: Constants, shared: Mapping[str, float], own: Mapping[str, float]) -> Constants:
    """The prior's constants, by the logarithms of what moved them."""
    values = {name: getattr(prior, name) * math.exp(shared[name] + own.get(name, 0.0)) for name in NAMES}
    return replace(prior, **values)


def _weight(rows: int) -> float:
    return 1 / (ROW_NOISE * math.sqrt(max(1.0, rows / DATASET_ROWS)))


def _log_error(sample: Sample, constants: Constants) -> float:
    return math.log(predict_step(sample.job, constants, exact=False).seconds * sample.factor / sample.seconds)
