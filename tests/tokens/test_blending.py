"""The shares of a blend before a run, and that the run reads exactly these."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from megalith.errors import InputError, RecipeError
from megalith.recipe import BlendConfig, load_recipe
from megalith.tokens import write_shards
from megalith.tokens.blending import blended_windows, check_blend, portions, shard_name

SIZES = {"books": 1000, "web/2021": 4000, "code": 3000}


def blend_of(**more: object) -> BlendConfig:
    return BlendConfig.model_validate(more)


def by_weight(*weights: float, **more: float) -> BlendConfig:
    return blend_of(datasets={name: {"weight": one} for name, one in zip(SIZES, weights, strict=True)}, **more)


def by_epochs(*epochs: float) -> BlendConfig:
    return blend_of(datasets={name: {"epochs": one} for name, one in zip(SIZES, epochs, strict=True)})


def test_mt_nlgs_table_comes_out_as_the_paper_has_it() -> None:
    """Its weights to five decimals and its data sets' tokens give its epochs, up to the rounding of its table."""
    recipe, _ = load_recipe("mt-nlg-530b")
    made = {one.name: one for one in portions(recipe.blend, {}, recipe.train.tokens)}
    paper = {
        "books3": 1.5, "openwebtext2": 3.6, "stack-exchange": 1.4, "pubmed-abstracts": 1.8, "wikipedia": 3.2,
        "gutenberg-pg19": 0.9, "bookcorpus2": 1.8, "nih-exporter": 1.8, "arxiv": 0.2, "github": 0.2, "pile-cc": 0.5,
        "cc-2020-50": 0.5, "cc-2021-04": 0.5, "realnews": 1.1, "cc-stories": 0.5,
    }  # fmt: skip
    assert made.keys() == paper.keys()
    for name, epochs in paper.items():
        assert made[name].epochs == pytest.approx(epochs, abs=0.135), name  # most: Wikipedia, 3.07 of 3.2
    assert sum(one.share for one in made.values()) == pytest.approx(1)
    assert sum(one.drawn_tokens or 0 for one in made.values()) == pytest.approx(270e9)


def test_shares_tokens_and_epochs_agree() -> None:
    books, web, code = portions(by_weight(5, 3, 2), SIZES, 2000)
    assert (books.share, web.share, code.share) == (0.5, 0.3, 0.2)
    assert (books.drawn_tokens, books.epochs) == (1000, 1)
    assert web.epochs == pytest.approx(600 / 4000)


def test_epochs_are_what_is_read_when_the_run_is_as_long_as_they_say() -> None:
    made = portions(by_epochs(2, 1, 0.5), SIZES, 2000 + 4000 + 1500)
    assert [one.epochs for one in made] == [2, 1, 0.5]
    longer = portions(by_epochs(2, 1, 0.5), SIZES, 2 * 7500)
    assert [one.epochs for one in longer] == [4, 2, 1]


def test_what_is_not_known_is_left_open() -> None:
    (open_run, *_) = portions(by_weight(5, 3, 2), {}, None)
    assert (open_run.share, open_run.tokens, open_run.drawn_tokens, open_run.epochs) == (0.5, None, None, None)


@pytest.mark.parametrize(
    ("blend", "sizes", "told", "mend"),
    [
        (by_weight(1, 1, 1), {"books": 9, "code": 9}, "no document of web/2021", "books, code"),
        (by_weight(1, 1, 1), {**SIZES, "news": 9}, "news, which the blend does not name", "curate.datasets"),
        (by_weight(1, 1, 1), {**SIZES, "code": 1}, "no token to predict in code", "Leave it out"),
        (by_weight(5, 3, 2), {**SIZES, "books": 100}, r"reads books 10\.00 times", "0.20000 or less"),
    ],
)
def test_an_impossible_blend_is_refused_with_the_mend(
    blend: BlendConfig, sizes: dict[str, int], told: str, mend: str
) -> None:
    with pytest.raises((InputError, RecipeError), match=told) as caught:
        check_blend(blend, sizes, 2000)
    assert mend in str(caught.value)


def test_the_mend_of_too_many_epochs_is_one() -> None:
    sizes = {**SIZES, "books": 100}
    check_blend(by_weight(0.2, 0.5, 0.3), sizes, 2000)


def test_epochs_of_a_data_set_of_unknown_size_are_refused() -> None:
    with pytest.raises(RecipeError, match="not known"):
        portions(by_epochs(1, 1, 1), {}, 1000)


def test_a_run_reads_each_data_set_as_often_as_was_told(tmp_path: Path) -> None:
    """Tokens name their data set here, so samples can be counted by what they hold."""
    length = 8
    for number, (name, size) in enumerate(SIZES.items()):
        write_shards(tmp_path / shard_name(name), [[number] * 9 + [9]] * (size // 10), 100)
    for blend in (by_weight(5, 3, 2), by_epochs(2, 1, 0.5)):
        windows = blended_windows(blend, tmp_path, length, seed=1)
        read = Counter(int(np.median(row)) for row in windows.batch(0, 500)[0])
        for number, one in enumerate(portions(blend, SIZES, 500 * length)):
            assert abs(read[number] - 500 * one.share) <= windows.most_off + 1  # windows of 8 do not end with the data


def test_any_range_of_samples_is_what_its_parts_are(tmp_path: Path) -> None:
    """So a run that is taken up, or spread over other ranks, reads on to the bit."""
    generator = np.random.default_rng(0)
    for name, size in SIZES.items():
        write_shards(
            tmp_path / shard_name(name), [generator.integers(0, 99, size // 4).tolist() for _ in range(4)], 100
        )
    windows = blended_windows(by_weight(5, 3, 2), tmp_path, 8, seed=1)
    whole = windows.batch(0, 300)
    for first, count in ((0, 1), (17, 100), (299, 1)):
        again = blended_windows(by_weight(5, 3, 2), tmp_path, 8, seed=1).batch(first, count)
        for part, all_of_it in zip(again, whole, strict=True):
            assert np.array_equal(part, all_of_it[first : first + count])
