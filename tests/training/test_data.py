"""The training and validation data of a task, by the family of its model."""

from pathlib import Path

import pytest
import torch

from megalith.errors import InputError, RecipeError
from megalith.recipe import BlendConfig, Recipe
from megalith.tokens import BERT_TOKENS, IGNORE, take_shards, train_tokenizer, write_shards
from megalith.training.data import blank, counts, training_samples, validation_samples
from megalith.training.task import TrainTask
from tests.training.small import VOCAB, small_recipe

LENGTH, ENTRIES = 16, 257 + len(BERT_TOKENS)
CLS, MASK = 2, 4


def make_job(folder: Path, family: str, special_tokens: tuple[str, ...] = BERT_TOKENS) -> TrainTask:
    """Documents of 9, 19, 29 … tokens, every token 5 or more."""
    recipe = small_recipe(model={"family": family})
    train_tokenizer([], 0, special_tokens).save(folder / "tokenizer.json")
    for split, first in (("train", 9), ("validation", 19)):
        documents = [[*(5 + place % 250 for place in range(size)), 0] for size in range(first, 100, 10)]
        write_shards(folder / split, documents, VOCAB)
    return TrainTask(recipe=recipe, tokens=folder, workspace=folder, run="", threads=1, peak_flops_per_second=None)


def test_a_gpt_gets_tokens_and_the_tokens_that_follow_them(tmp_path: Path) -> None:
    task = make_job(tmp_path, "gpt")
    batch = training_samples(task).batch(3, 2)
    assert batch.keys() == {"tokens", "targets"}
    assert torch.equal(batch["tokens"][:, 1:], batch["targets"][:, :-1])
    assert counts(batch) == [2 * LENGTH]


def test_documents_that_are_apart_begin_with_the_end_of_text_before_them(tmp_path: Path) -> None:
    task = make_job(tmp_path, "gpt")
    train = task.recipe.train.model_copy(update={"document_mask": True})
    task = task.model_copy(update={"recipe": task.recipe.model_copy(update={"train": train})})
    for samples in (training_samples(task), validation_samples(task)[0]):
        batch = samples.batch(0, 12)
        within = 0
        for tokens, starts in zip(batch["tokens"].tolist(), batch["document_starts"].tolist(), strict=True):
            for place, start in enumerate(starts):
                ends = [each for each in range(place + 1) if tokens[each] == 0]
                assert start == (ends[-1] if ends else 0)
                within += start > 0
        assert within


def test_a_bert_gets_all_that_its_model_takes(tmp_path: Path) -> None:
    batch = training_samples(make_job(tmp_path, "bert")).batch(0, 64)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "tokens": (64, LENGTH), "targets": (64, LENGTH), "segments": (64, LENGTH), "lengths": (64,), "order": (64,),
    }  # fmt: skip
    assert all(value.dtype == torch.int64 for value in batch.values())
    assert (batch["tokens"][:, 0] == CLS).all()
    masked = batch["targets"] != IGNORE
    assert (batch["tokens"] == MASK).logical_and(~masked).sum() == 0
    assert batch["tokens"][masked].lt(ENTRIES).all()  # random tokens are of the tokenizer, not of the padding
    assert counts(batch) == [float(masked.sum()), 64.0]


def test_held_out_masks_never_change(tmp_path: Path) -> None:
    task = make_job(tmp_path, "bert")
    (first, count), (second, _) = validation_samples(task), validation_samples(task)
    whole = first.batch(0, count)
    assert len(whole["tokens"]) == count
    assert all(torch.equal(value, second.batch(0, count)[name]) for name, value in whole.items())


def test_validation_of_a_gpt_predicts_every_token_but_the_first_once(tmp_path: Path) -> None:
    samples, count = validation_samples(make_job(tmp_path, "gpt"))
    tokens = sum(size + 1 for size in range(19, 100, 10))
    assert counts(samples.batch(0, count)) == [tokens - 1]


@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_nothing_counts_in_a_blank_batch_and_its_tokens_stay(tmp_path: Path, family: str) -> None:
    batch = training_samples(make_job(tmp_path, family)).batch(0, 3)
    nothing = blank(batch)
    assert counts(nothing) == [0.0] * len(counts(batch))
    assert {name: value.shape for name, value in nothing.items()} == {name: v.shape for name, v in batch.items()}
    kept = batch.keys() - {"targets", "order"}  # a sample without length would have nothing to look at
    assert all(torch.equal(nothing[name], batch[name]) for name in kept)


def test_a_bert_refuses_the_tokens_of_a_gpt(tmp_path: Path) -> None:
    task = make_job(tmp_path, "bert", special_tokens=())
    with pytest.raises(InputError, match="no \\[MASK\\]") as raised:
        training_samples(task)
    assert raised.value.where == str(tmp_path / "tokenizer.json")


def blending(datasets: dict[str, dict[str, float]]) -> Recipe:
    blend = BlendConfig.model_validate({"datasets": datasets})
    return small_recipe(tokens=2000, batch_ramp=None).model_copy(update={"blend": blend})


def test_a_blend_is_read_in_its_shares(tmp_path: Path) -> None:
    """Data set b has twice the weight, and tokens that no other has."""
    datasets = {"a": {"weight": 1}, "b": {"weight": 2}}
    recipe = blending(datasets)
    for number, name in enumerate(datasets):
        write_shards(tmp_path / f"train-{name}", [[number + 1] * 500] * 4, VOCAB)
    task = TrainTask(recipe=recipe, tokens=tmp_path, workspace=tmp_path, run="", threads=1, peak_flops_per_second=None)
    batch = training_samples(task).batch(0, 30)["tokens"]
    assert batch.eq(2).all(dim=1).sum() == 20
    assert torch.equal(training_samples(task).batch(7, 5)["tokens"], batch[7:12])


def test_a_blend_that_reads_a_data_set_too_often_is_refused_before_the_first_step(tmp_path: Path) -> None:
    recipe = blending({"a": {"weight": 1}})
    write_shards(tmp_path / "train-a", [[1] * 100], VOCAB)
    task = TrainTask(recipe=recipe, tokens=tmp_path, workspace=tmp_path, run="", threads=1, peak_flops_per_second=None)
    with pytest.raises(RecipeError, match=r"reads a 20\.00 times"):
        training_samples(task)


def test_shards_that_stand_already_are_read_in_their_shares(tmp_path: Path) -> None:
    train_tokenizer([], 0).save(tmp_path / "tokenizer.json")
    for name, low in (("low", 5), ("high", 105)):
        write_shards(tmp_path / name, [[*range(low, low + 90), 0]] * 40, VOCAB)
    sources = [{"prefix": str(tmp_path / "low"), "weight": 3}, {"prefix": str(tmp_path / "high"), "weight": 1}]
    tokens = {"from": sources, "tokenizer": str(tmp_path), "validation_share": 0.1}
    recipe = Recipe.model_validate(small_recipe().model_dump() | {"tokens": tokens})
    taken = take_shards(recipe, tmp_path / "tokenize")
    task = TrainTask(
        recipe=recipe, tokens=taken.path, workspace=tmp_path, run="", threads=1, peak_flops_per_second=None
    )
    task = TrainTask.model_validate_json(task.model_dump_json())  # as its processes get it
    batch = training_samples(task).batch(0, 64)["tokens"]
    assert [int((row[row > 0] >= 105).all()) for row in batch].count(1) == 16
    samples, count = validation_samples(task)
    assert count == -(-(8 * 91 - 1) // LENGTH)
    assert samples.batch(0, 1)["tokens"][0].tolist() == list(range(5, 5 + LENGTH))
