"""Generation on tensor-parallel and pipeline ranks gives one process's tokens."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from megalith.arithmetic import kv_cache_bytes
from megalith.errors import InputError
from megalith.inference import Engine, LanguageModel, Sampling, load_model
from megalith.inference.ranks import RankDecoder
from megalith.parallel import Mesh, build_mesh
from megalith.recipe.machine import ParallelConfig
from tests.inference.test_engine import PROMPTS, SHAPES, random_model, run, sampling_of
from tests.parallel.processes import on_ranks

MODELS = {
    "gpt2": SHAPES["gpt2"],
    "one head of keys for all": SHAPES["llama"] | {"num_heads": 4, "num_kv_heads": 1, "tie_embeddings": False},
}


def write(rank: int, directory: str, axis: str) -> dict[str, Tensor]:
    """The tokens of each prompt, by one process and by both, and the bytes of the first one's cache on this rank."""
    ranks = build_mesh(Mesh(rank, 2), ParallelConfig.model_validate({axis: 2, "data": 1}))
    found: dict[str, Tensor] = {}
    for name, shape in MODELS.items():
        lm = random_model(load_model(Path(directory)), **shape)
        for kind, decoder in (("alone", None), ("together", RankDecoder(lm, ranks))):
            engine = Engine(lm, kv_bytes=kv_cache_bytes(lm.config, 10_000), prefill_tokens=16, decoder=decoder)
            sequences = [engine.submit(prompt, sampling_of(place)) for place, prompt in enumerate(PROMPTS)]
            engine.step()
            assert sequences[0]._cache is not None
            found[f"{name} {kind} bytes"] = torch.tensor(sequences[0]._cache.whole.nbytes)
            run(engine)
            for place, sequence in enumerate(sequences):
                found[f"{name} {kind} {place}"] = torch.tensor(sequence.tokens)
        _seed_is_needed(engine)
    return found


def _seed_is_needed(engine: Engine) -> None:
    with pytest.raises(InputError, match="only with a seed"):
        engine.submit([1], Sampling())


@pytest.mark.parametrize("axis", ["tensor", "pipeline"])
def test_ranks_write_the_tokens_of_one_process(lm: LanguageModel, model_directory: Path, axis: str) -> None:
    for found in on_ranks(2, write, str(model_directory), axis):
        for name in MODELS:
            for place in range(len(PROMPTS)):
                assert found[f"{name} together {place}"].tolist() == found[f"{name} alone {place}"].tolist()
        assert 2 * found["gpt2 together bytes"] == found["gpt2 alone bytes"]
