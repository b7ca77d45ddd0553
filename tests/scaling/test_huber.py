"""The batched descent: gradients, the same minima as SciPy's, and rows that do not touch each other."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from megalith.scaling.huber import DELTA, descend, huber, objective_and_gradient
from megalith.scaling.parametric import ChinchillaLaw, CurvedLaw, KaplanLaw
from tests.scaling.planted import on_budgets

POINTS = on_budgets(3)
LAWS = {
    "chinchilla": (ChinchillaLaw.of(POINTS), (6.0, 7.5, 0.6, 0.35, 0.37)),
    "chinchilla, far off": (ChinchillaLaw.of(POINTS), (10.0, 0.0, -0.5, 0.3, 1.0)),
    "curved": (CurvedLaw(POINTS.log_n, POINTS.log_d), (6.0, 7.5, 0.6, 0.35, 0.37, 0.01, -0.02)),
    "kaplan": (KaplanLaw(POINTS.log_n, POINTS.log_d), (32.0, 33.0, 0.08, 0.1)),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_is_that_of_the_objective(name: str) -> None:
    law, theta = LAWS[name]
    weights = np.linspace(0.5, 2.0, len(POINTS))[None]
    numeric = approx_fprime(
        np.array(theta), lambda at: objective_and_gradient(law, at[None], POINTS.log_loss, weights)[0][0], 1e-7
    )
    assert objective_and_gradient(law, np.array([theta]), POINTS.log_loss, weights)[1][0] == pytest.approx(
        numeric, rel=1e-3, abs=1e-6
    )


def test_hubers_loss_is_half_the_square_and_then_a_line() -> None:
    assert huber(np.array([0.0, DELTA / 2, DELTA, -3 * DELTA])) == pytest.approx(
        [0.0, DELTA**2 / 8, DELTA**2 / 2, 2.5 * DELTA**2]
    )


def test_a_batch_ends_where_scipy_does_from_each_start_and_with_each_weight() -> None:
    law, _ = LAWS["chinchilla"]
    begin = np.array([6.2, 7.6, 0.59, 0.35, 0.37])
    weights = np.random.default_rng(0).multinomial(48, np.full(48, 1 / 48), 5).astype(float)
    ends = descend(law, POINTS.log_loss, np.tile(begin, (5, 1)), weights)
    for row, end in zip(weights, ends.objective, strict=True):
        found = minimize(
            lambda at, row=row: tuple(
                one[0] for one in objective_and_gradient(law, at[None], POINTS.log_loss, row[None])
            ),
            begin,
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 2000, "maxfun": 4000},
        )
        assert end <= found.fun * (1 + 1e-6)


def test_a_row_ends_alike_alone_and_in_a_batch() -> None:
    law, theta = LAWS["chinchilla"]
    starts = np.array([theta, (10.0, 10.0, 0.5, 0.5, 0.5), (0.0, 20.0, -0.5, 1.0, 1.0)])
    together = descend(law, POINTS.log_loss, starts, np.ones((1, len(POINTS))))
    alone = descend(law, POINTS.log_loss, starts[1:2], np.ones((1, len(POINTS))))
    assert alone.objective[0] == pytest.approx(together.objective[1], rel=1e-9)


def test_constants_that_are_not_free_stay() -> None:
    law, theta = LAWS["chinchilla"]
    ends = descend(law, POINTS.log_loss, np.array([theta]), np.ones((1, len(POINTS))), (0, 1, 3, 4))
    assert ends.theta[0, 2] == theta[2]
    assert ends.theta[0, 3] != theta[3]
