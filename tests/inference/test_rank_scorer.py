"""Tensor-parallel, pipeline and data-parallel ranks score as one process does."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from megalith.inference import LanguageModel, load_model, rolling, score
from megalith.inference.rank_scorer import RankScorer
from megalith.model import GPT
from megalith.parallel import Mesh, build_mesh, parallelize
from megalith.recipe.machine import ParallelConfig
from tests.inference.test_engine import random_model
from tests.inference.test_prefix_sharing import REQUESTS
from tests.inference.test_ranks import MODELS
from tests.parallel.processes import on_ranks

TEXT = "The nurse laughed at the pilot, and the pilot at the nurse. " * 4
LAYOUTS = {
    "tensor": {"tensor": 2, "data": 1},
    "sequence": {"tensor": 2, "data": 1, "sequence_parallel": True},
    "pipeline": {"pipeline": 2, "data": 1},
    "interleaved": {"pipeline": 2, "data": 1, "virtual_stages": 2, "schedule": "interleaved-1f1b"},
    "data": {"data": 2},
}


def scores(lm: LanguageModel, scorer: RankScorer | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and whether they are first choices."""
    found, greedy = [], []
    for invariant in (False, True):
        made = score(lm, REQUESTS, 60, batch_invariant=invariant, scorer=scorer)
        found += [each.log_probability for one in made for each in one]
        greedy += [each.greedy for one in made for each in one]
    found += [one.nats for one in rolling(lm, [TEXT, ""], 60, scorer=scorer)]
    return torch.tensor(found, dtype=torch.float64), torch.tensor(greedy)


def both(rank: int, directory: str, layout: str) -> dict[str, Tensor]:
    """By one process and by both: of a whole model that each has read, and of one as training has it."""
    parallel = ParallelConfig.model_validate(LAYOUTS[layout])
    ranks = build_mesh(Mesh(rank, 2), parallel)
    found: dict[str, Tensor] = {}
    for name, shape in MODELS.items():
        lm = random_model(load_model(Path(directory)), **shape, num_layers=4, init_std=0.1)
        live = _live(lm, parallel, ranks)
        for kind, scorer in (("alone", None), ("together", RankScorer.of_whole(lm, ranks)), ("live", live)):
            found[f"{name} {kind}"], found[f"{name} {kind} greedy"] = scores(lm, scorer)
    return found


def _live(lm: LanguageModel, parallel: ParallelConfig, ranks: Mesh) -> RankScorer:
    whole = lm.model.state_dict()
    model = parallelize(
        lm.config, parallel, ranks, dtype=torch.float32, seed=None, weights=lambda name, _, place: whole[name][place]
    )
    stages = {number: stage for number, stage in model.stages.items() if isinstance(stage, GPT)}
    cores = [layer.attention.core for stage in stages.values() for layer in stage.numbered_layers.values()]
    count = ranks.size("pipeline") * parallel.virtual_stages
    scorer = RankScorer(stages, count, ranks, sequence_parallel=parallel.sequence_parallel)
    scores(lm, scorer)
    assert all(stage.training for stage in stages.values())
    after = [layer.attention.core for stage in stages.values() for layer in stage.numbered_layers.values()]
    assert all(one is other for one, other in zip(cores, after, strict=True))
    return scorer


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ranks_score_as_one_process(model_directory: Path, layout: str) -> None:
    for found in on_ranks(2, both, str(model_directory), layout):
        for name in MODELS:
            for kind in ("together", "live"):
                torch.testing.assert_close(found[f"{name} {kind}"], found[f"{name} alone"], atol=1e-5, rtol=0)
                assert torch.equal(found[f"{name} {kind} greedy"], found[f"{name} alone greedy"])
