"""Each law against its paper's own tables, and the closed form against a search."""

import numpy as np
import pytest

from megalith.errors import InputError
from megalith.laws import (
    LAWS,
    PUBLISHED_REPETITION,
    LossFormula,
    compute_optimal,
    effective,
    optimum_on_repeated,
    optimum_with_inference,
)

# 2203.15556, Table 3 (approach 1) and Table A3 (approaches 2 and 3): parameters, FLOPs. The first five rows of
# approaches 1 and 2 anchor the law; the others were not used.
TABLE_1 = [(1e9, 1.21e20), (67e9, 5.76e23), (280e9, 9.90e24), (520e9, 3.43e25), (1e12, 1.27e26), (1e13, 1.30e28)]
TABLE_2 = [(1e9, 1.20e20), (67e9, 6.88e23), (280e9, 1.18e25), (520e9, 4.19e25), (1e12, 1.59e26), (1e13, 1.75e28)]


@pytest.mark.parametrize(("law", "table"), [("chinchilla-1", TABLE_1), ("chinchilla-2", TABLE_2)])
def test_a_power_law_gives_the_papers_optima(law: str, table: list[tuple[float, float]]) -> None:
    """Within 5 %: the paper prints the exponent with two digits."""
    for parameters, flops in table:
        assert compute_optimal(flops, law).parameters == pytest.approx(parameters, rel=0.05)


@pytest.mark.parametrize("law", ["chinchilla-3", "chinchilla-refit"])
@pytest.mark.parametrize("flops", [1e15, 1e20, 5.76e23])
def test_the_closed_form_is_where_the_loss_is_least(law: str, flops: float) -> None:
    formula = LAWS[law].formula
    assert isinstance(formula, LossFormula)
    grid = np.geomspace(1e4, 1e14, 200_001)
    losses = formula.E + formula.A / grid**formula.alpha + formula.B / (flops / 6 / grid) ** formula.beta
    optimum = compute_optimal(flops, law)
    assert optimum.parameters == pytest.approx(grid[losses.argmin()], rel=1e-3)
    assert optimum.loss == pytest.approx(losses.min(), rel=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_a_law_spends_the_whole_budget(law: str) -> None:
    optimum = compute_optimal(1e21, law)
    assert 6 * optimum.parameters * optimum.tokens == pytest.approx(1e21)


def test_the_refits_interval_is_near_the_bootstraps() -> None:
    """4,000 bootstraps of the 240 points, 95 %: 51.7B to 112B parameters at Chinchilla's budget."""
    optimum = compute_optimal(5.76e23, "chinchilla-refit")
    assert optimum.interval == pytest.approx((51.7e9, 112e9), rel=0.08)


@pytest.mark.parametrize("flops", [2e13, 1e19, 1e20, 1e25])
def test_an_interval_holds_its_optimum_and_never_closes(flops: float) -> None:
    for law in LAWS:
        optimum = compute_optimal(flops, law)
        if optimum.interval is not None:
            low, high = optimum.interval
            assert low < optimum.parameters < high
            assert high / low > 1.09


def test_kaplan_wants_a_larger_model_on_fewer_tokens() -> None:
    """2001.08361, Table 6: 1.3e9 parameters at one PF-day; by 5.76e23 FLOPs ten times what Chinchilla finds."""
    assert compute_optimal(8.64e19, "kaplan").parameters == pytest.approx(1.3e9)
    assert compute_optimal(5.76e23, "kaplan").parameters > 10 * compute_optimal(5.76e23, "chinchilla-1").parameters


def test_an_unknown_law_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match="chinchilla-refit"):
        compute_optimal(1e20, "chinchilla-4")


def test_the_formulas_have_the_printed_constants() -> None:
    """2203.15556, equation 10, and 2404.10102, abstract, at Chinchilla's own 70B parameters and 1.4T tokens."""
    n, d = 70e9, 1.4e12
    printed = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
    refit = 1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658
    assert LAWS["chinchilla-3"].loss(n, d) == pytest.approx(printed, rel=1e-12)
    assert LAWS["chinchilla-refit"].loss(n, d) == pytest.approx(refit, rel=1e-12)
    assert LAWS["chinchilla-1"].loss(n, d) is None


def test_repeated_tokens_are_worth_what_the_paper_says() -> None:
    """2305.16264: four epochs are nearly as good as fresh tokens, and no number of them is worth 1 + R_D* times U."""
    star = PUBLISHED_REPETITION.r_d
    assert effective(4e9, 1e9, star) == pytest.approx(1e9 * (1 + star * (1 - np.exp(-3 / star))))
    assert effective(4e9, 1e9, star) > 0.9 * 4e9
    assert effective(1e13, 1e9, star) == pytest.approx(1e9 * (1 + star))
    assert effective(5e8, 1e9, star) == 5e8


def test_with_enough_tokens_repetition_changes_nothing_and_with_few_the_model_is_smaller() -> None:
    formula = LAWS["chinchilla-refit"].formula
    assert isinstance(formula, LossFormula)
    fresh = optimum_on_repeated(formula, 1e21, 1e15)
    assert fresh.parameters == pytest.approx(formula.optimal_parameters(1e21), rel=0.01)
    few = optimum_on_repeated(formula, 1e21, 1e10)
    assert few.tokens > fresh.tokens
    assert few.loss > fresh.loss
    fixed = formula(fresh.parameters, 1e10)  # the compute-optimal model on the tokens once
    assert few.loss < fixed


def test_a_model_that_will_serve_is_smaller_at_the_same_loss_and_costs_less_in_all() -> None:
    formula = LAWS["chinchilla-refit"].formula
    assert isinstance(formula, LossFormula)
    best = formula.optimal_parameters(1e23)
    none, served = (optimum_with_inference(formula, 1e23, tokens) for tokens in (1.0, 1e13))
    assert none.parameters == pytest.approx(best, rel=0.01)
    assert served.parameters < 0.8 * best
    assert formula(served.parameters, served.tokens) == pytest.approx(none.loss)
    cost = 6 * served.parameters * served.tokens + 2 * served.parameters * 1e13
    assert cost < 1e23 + 2 * best * 1e13
