"""Settings that make no sense together, and ids that the model does not have, are refused before the first step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import InputError, RecipeError
from megalith.recipe import TrainConfig
from megalith.tokens import write_shards
from megalith.training import train
from megalith.training.lr_schedule import learning_rate
from tests.training import small


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"global_batch_size": 32, "batch_ramp": {"start": 64, "increment": 16, "tokens": 800}}, "start 64 is above"),
        ({"momentum": 0.9}, "momentum 0.9 is Muon's, and optimizer is adamw"),
        ({"warmup_tokens": 1000}, "warmup_tokens 1,000 is not below tokens 1,000"),
        ({"warmup_tokens": 500, "decay_tokens": 300}, "is not below decay_tokens 300"),
        ({"schedule": "wsd", "warmup_tokens": 100, "cooldown_tokens": 901}, "more than the 1,000 tokens"),
        ({"schedule": "cosine", "cooldown_tokens": 100}, "of the schedule wsd"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainConfig.model_validate({"tokens": 1000} | settings)


def test_a_decay_that_ends_within_the_usual_warm_up_is_refused() -> None:
    with pytest.raises(RecipeError, match="the decay ends after 10 tokens"):
        learning_rate(TrainConfig(tokens=1000, decay_tokens=10), 5)


@pytest.mark.parametrize(
    ("parallel", "said"),
    [
        ({"pipeline": 1, "virtual_stages": 2}, "virtual_stages is 2 and parallel.pipeline is 1"),
        ({"tensor": 1, "sequence_parallel": True}, "set sequence_parallel=false, or tensor to 2"),
        ({"data": 2, "zero_shard": 2}, "zero is 0, which shards nothing"),
    ],
)
def test_a_setting_of_an_axis_that_is_not_there_is_refused(parallel: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        small.small_recipe(parallel=parallel)


def tokens_up_to(path: Path, largest: int) -> Artifact:
    """A tokenize artifact that does not say for which vocabulary it was made; the largest id stands near the end."""

    def build(workspace: Workspace) -> dict[str, Any]:
        ids = np.random.default_rng(0).integers(0, small.VOCAB, 2000).tolist()
        for split in ("train", "validation"):
            write_shards(workspace.path / split, [ids, [largest, 1]], largest + 1)
        return {}

    return produce(path, stage="tokenize", settings={}, inputs={}, seed=0, build=build)


@pytest.mark.parametrize("parallel", [{}, {"tensor": 2}])
def test_an_id_beyond_the_vocabulary_is_refused_before_a_process_starts(
    tmp_path: Path, parallel: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megalith.training.launch.start", lambda *_: pytest.fail("training has begun"))
    tokens = tokens_up_to(tmp_path / "tokens", small.VOCAB)
    with pytest.raises(InputError, match=r"token 2,000 of the shards train is 300, and model\.vocab_size is 300"):
        train(small.small_recipe(parallel=parallel), tmp_path / "t", tokens, peak_flops_per_second=None, predicted={})
