"""The outcome of a search: how far mixtures can be ranked, the best weights, the check runs, whether to use them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from megalith.recipe import Recipe
from megalith.statistics.intervals import t_quantile
from megalith.study.cells import Row
from megalith.study.mixture.design import MixtureCell, MixtureDesign
from megalith.study.mixture.ledger import weights_and_losses
from megalith.study.mixture.regression import FOLDS, Regression, choose, fit, judge
from megalith.study.mixture.weights import UNITS, Floats, many_mixtures, rounded
from megalith.tokens.blending import portions

SAMPLED, AVERAGED = 100_000, 128  # mixtures that the regression judges, and the best of them whose mean is found
_SAME = 1e-3  # arms whose weights differ by less in all are one


def regress(plan: MixtureDesign, rows: Sequence[Row]) -> dict[str, Any]:
    """The regression's figures, and the weights that it finds best; `found` is None where it cannot rank mixtures."""
    weights, losses = weights_and_losses(plan.cells, rows)
    target, seed = plan.target, plan.run.seed
    chosen, errors = choose(weights, losses, target)
    told = judge(weights, losses, target, seed)
    told |= {
        "chosen": chosen.kind,
        "candidates": [{"name": kind, "error": error} for kind, error in errors.items()],
        "spread": float((losses @ target).std(ddof=1)),
    }
    low, high = told["interval"]
    if low <= 0:
        return {
            "regression": told,
            "found": None,
            "refused": f"held-out mixtures are ranked no better than chance can (Spearman's correlation "
            f"{told['spearman']:.2f}, 95 % {low:.2f} … {high:.2f}): no weights are recommended; use more --mixtures, "
            "or more --proxy-tokens",
        }
    sampled = many_mixtures(plan.space, SAMPLED, seed)
    best = best_of(chosen, sampled, target, plan.space.caps)
    folds = np.array_split(np.random.default_rng([seed, 2]).permutation(len(weights)), min(FOLDS, len(weights)))
    others = [
        best_of(fit(chosen.kind, np.delete(weights, fold, 0), np.delete(losses, fold, 0)), sampled, target,
                plan.space.caps)
        for fold in folds
    ]  # fmt: skip
    spread = np.array([best, *others])
    natural = plan.space.natural
    foretold = chosen.predict(np.array([best, natural]))
    return {
        "regression": told,
        "found": {
            "weights": best.tolist(),
            "ranges": np.stack([spread.min(axis=0), spread.max(axis=0)], axis=1).tolist(),
            "epochs": plan.space.epochs(best).tolist(),
            "predicted": float(foretold[0] @ target),
            "predicted_natural": float(foretold[1] @ target),
            "predicted_losses": foretold[0].tolist(),
            "sampled": len(sampled),
        },
        "refused": None,
    }


def best_of(regression: Regression, sampled: Floats, target: Floats, caps: tuple[int, ...]) -> Floats:
    """The mean of the mixtures with the lowest predicted loss, within the cap as each of them is."""
    predicted = regression.predict(sampled) @ target
    lowest = np.argsort(predicted, kind="stable")[:AVERAGED]
    return rounded(sampled[lowest].mean(axis=0), caps)


def arms_of(recipe: Recipe, plan: MixtureDesign, found: Floats) -> dict[str, Floats]:
    """The mixtures that are checked: the found one, the natural one, and the recipe's own where it says one."""
    names, sizes = plan.space.names, dict(zip(plan.space.names, plan.space.sizes, strict=True))
    arms = {"found": found, "natural": plan.space.natural}
    own = recipe_weights(recipe, sizes)
    if own is not None and all(np.abs(own - other).sum() > _SAME for other in arms.values()):
        arms["recipe"] = own
    assert len(names) == len(found)
    return arms


def recipe_weights(recipe: Recipe, sizes: Mapping[str, int]) -> Floats | None:
    """The recipe's own weights, in units; None where it says none."""
    if not recipe.blend.datasets:
        return None
    shares = {one.name: one.share for one in portions(recipe.blend, sizes, None)}
    return rounded(np.array([shares[name] for name in sizes]), (UNITS,) * len(sizes))


def check(plan: MixtureDesign, cells: Sequence[MixtureCell], rows: Sequence[Row]) -> dict[str, Any]:
    """The target's loss by mixture and seed, the noise of a run, and the found mixture's difference from each other.

    Noise is pooled over mixtures; a difference's 95 % interval is Student's with its degrees of freedom.
    """
    _, losses = weights_and_losses(cells, rows)
    values = losses @ plan.target
    arms = {}
    for arm in dict.fromkeys(cell.arm for cell in cells):
        own = [place for place, cell in enumerate(cells) if cell.arm == arm]
        arms[arm] = {
            "weights": list(cells[own[0]].weights),
            "losses": values[own].tolist(),
            "mean": float(values[own].mean()),
            "by_dataset": losses[own].mean(axis=0).tolist(),
        }
    seeds = plan.asked.seeds
    freedom = len(arms) * (seeds - 1)
    noise = float(np.sqrt(sum(np.var(arm["losses"], ddof=1) * (seeds - 1) for arm in arms.values()) / freedom))
    half = t_quantile(0.975, freedom) * noise * float(np.sqrt(2 / seeds))
    differences = []
    for arm, told in arms.items():
        if arm != "found":
            gap = arms["found"]["mean"] - told["mean"]
            verdict = "better" if gap + half < 0 else "worse" if gap - half > 0 else "not told apart"
            differences.append(
                {"against": arm, "difference": gap, "interval": [gap - half, gap + half], "verdict": verdict}
            )
    return {"arms": arms, "noise": noise, "freedom": freedom, "differences": differences}


def pasteable(names: Sequence[str], weights: Sequence[float]) -> dict[str, Any]:
    """The weights as overrides of a recipe whose blend has weights, and as the recipe's own section."""
    given = {name: {"weight": float(f"{weight:.4f}")} for name, weight in zip(names, weights, strict=True)}
    return {
        "overrides": [f"blend.datasets.{name}.weight={one['weight']:g}" for name, one in given.items()],
        "section": yaml.safe_dump({"blend": {"datasets": given}}, sort_keys=False),
    }
