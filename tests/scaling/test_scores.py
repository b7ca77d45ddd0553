"""From compute to accuracy: both laws find a planted task again, and refuse one at chance."""

import numpy as np
import pytest

from megalith.errors import InputError
from megalith.scaling.scores import Scored, fit_scores, predict_score


def planted(least: float, most: float, models: int = 12, items: int = 2000) -> Scored:
    """Bits per byte fall as 0.6 + 0.5·C^−0.15 about 1e20 FLOPs; accuracy rises from 25 % to 90 % about 0.95 bits."""
    flops = np.geomspace(least, most, models)
    bits = 0.6 + 0.5 * (flops / 1e20) ** -0.15
    accuracy = 0.25 + 0.65 / (1 + np.exp(8 * (bits - 0.95)))
    random = np.random.default_rng(0)
    return Scored(
        flops,
        bits * np.exp(0.003 * random.standard_normal(models)),
        random.binomial(items, accuracy) / items,
        items,
        0.25,
    )


def test_accuracy_at_more_compute_is_foretold_in_two_steps() -> None:
    found = predict_score(planted(1e18, 1e22), 1e23, resamples=40)
    bits = 0.6 + 0.5 * 1e3**-0.15
    truth = 0.25 + 0.65 / (1 + np.exp(8 * (bits - 0.95)))
    assert found["bits_per_byte"] == pytest.approx(bits, rel=0.03)
    assert found["accuracy"] == pytest.approx(truth, abs=0.04)
    low, high = found["intervals"]["accuracy"]
    assert low < truth < high
    assert found["beyond"] == pytest.approx(10)
    assert 0 <= found["direct_accuracy"] <= 1


def test_a_task_at_chance_and_too_few_models_are_refused() -> None:
    with pytest.raises(InputError, match=r"score above chance \(0\.25\)"):
        fit_scores(planted(1e14, 1e15))
    with pytest.raises(InputError, match="too few"):
        fit_scores(planted(1e18, 1e22, models=4))
