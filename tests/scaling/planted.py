"""Runs of a law that is known, with the noise of real runs."""

import numpy as np

from megalith.laws import LossFormula
from megalith.scaling import Points

LAW = LossFormula(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
A_OF_C = LAW.beta / (LAW.alpha + LAW.beta)
"""a in N ∝ C^a of the law."""


def on_budgets(seed: int, noise: float = 0.003, budgets: int = 6, sizes: int = 8) -> Points:
    """IsoFLOP curves from 1e18 to 1e21 FLOPs, sizes from a sixth to six times the best."""
    flops = np.repeat(np.geomspace(1e18, 1e21, budgets), sizes)
    best = np.array([LAW.optimal_parameters(one) for one in flops])
    parameters = best * np.tile(np.geomspace(1 / 6, 6, sizes), budgets)
    return noisy(parameters, flops / 6 / parameters, noise, seed)


def on_lengths(seed: int, noise: float = 0.003, sizes: int = 12, lengths: int = 4) -> Points:
    """Each of twelve sizes from 5e7 to 5e9 at four lengths, 4 to 120 tokens a parameter."""
    parameters = np.repeat(np.geomspace(5e7, 5e9, sizes), lengths)
    return noisy(parameters, parameters * np.tile(np.geomspace(4, 120, lengths), sizes), noise, seed)


def noisy(parameters: np.ndarray, tokens: np.ndarray, noise: float, seed: int) -> Points:
    loss = LAW.E + LAW.A / parameters**LAW.alpha + LAW.B / tokens**LAW.beta
    return Points(parameters, tokens, loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss))))
