"""A search for weights: within the cap, better than natural where that is planted, refused where nothing is ranked."""

import csv
import json
import multiprocessing
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from megalith.artifacts import Artifact, Workspace, produce
from megalith.cli import app
from megalith.errors import InputError, MegalithError, RecipeError
from megalith.inference import load_model
from megalith.recipe import Recipe, load_recipe
from megalith.study.mixture import MixtureSearch, search, searching
from megalith.study.mixture.design import MixtureDesign, design_mixtures, parse_target
from megalith.study.mixture.outcome import check, recipe_weights, regress
from megalith.study.mixture.regression import REPEATS, choose, features, fit, judge, spearman_interval
from megalith.study.mixture.searching import read_search
from megalith.study.mixture.weights import UNITS, clipped, draw_mixtures, many_mixtures, rounded, space_of
from megalith.tokens import Shards, tokenize
from tests.corpus import docstrings
from tests.study.planted_mixture import SIZES, VALUES, plant, recipe, true_losses

SMALL = MixtureSearch(mixtures=8, target={"prose": 1.0}, parameters=12_000, tokens=40_000, held_out_tokens=4000)
PROSE = np.array([1.0, 0.0, 0.0])


def test_drawn_mixtures_keep_to_the_cap_and_span_sparse_to_dense() -> None:
    space = space_of(SIZES, 200_000, 4)
    drawn = draw_mixtures(space, 64, seed=1)
    assert drawn.weights.shape == (64, 3)
    assert np.allclose(drawn.weights.sum(axis=1), 1, atol=1e-12)
    assert (drawn.weights >= 1e-4 - 1e-12).all()
    assert (space.epochs(drawn.weights) <= 4 + 1e-9).all()
    assert drawn.redrawn > 0 and drawn.clipped == 0  # prose may be a fifth at most
    largest = drawn.weights.max(axis=1)
    assert largest.max() > 0.95 and largest.min() < 0.55
    assert np.array_equal(draw_mixtures(space, 16, seed=1).weights, drawn.weights[:16])
    assert not np.array_equal(draw_mixtures(space, 16, seed=2).weights, drawn.weights[:16])
    assert len({tuple(one) for one in drawn.weights}) == 64
    natural = np.array(list(SIZES.values())) / sum(SIZES.values())
    assert space.natural == pytest.approx(natural, abs=1e-4)


def test_where_hardly_a_draw_meets_the_cap_mixtures_are_clipped_and_counted() -> None:
    space = space_of({"a": 100, "b": 100, "c": 100}, 295, 1)
    drawn = draw_mixtures(space, 8, seed=1)
    assert drawn.clipped > 0
    assert (space.epochs(drawn.weights) <= 1 + 1e-9).all()
    sampled = many_mixtures(space, 2000, seed=1)
    assert len(sampled) >= 20 and (sampled <= np.array(space.caps) / UNITS + 1e-9).all()
    assert sampled.sum(axis=1) == pytest.approx(1)


def test_clipping_gives_what_is_over_to_the_others_in_proportion() -> None:
    assert clipped(np.array([0.7, 0.2, 0.1]), np.array([0.4, 1.0, 1.0])) == pytest.approx([0.4, 0.4, 0.2])
    assert clipped(np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.3, 1.0])) == pytest.approx([0.4, 0.3, 0.3])
    generator = np.random.default_rng(0)
    for _ in range(200):
        caps = generator.integers(1, UNITS, 5)
        if caps.sum() < UNITS:
            continue
        made = rounded(generator.dirichlet(np.ones(5) * 0.2), tuple(caps.tolist()))
        assert round(made.sum() * UNITS) == UNITS and (made * UNITS >= 1 - 1e-6).all()
        assert (np.round(made * UNITS) <= caps).all()


def test_weights_that_cannot_meet_the_cap_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"no weights keep to 4 epochs: the data sets have 200,000 tokens in all"):
        space_of(SIZES, 900_000, 4)
    with pytest.raises(RecipeError, match="d has 1 tokens, so few that the least weight"):
        space_of({**SIZES, "d": 1}, 200_000, 4)
    with pytest.raises(RecipeError, match="two data sets or more, and the recipe has 1"):
        space_of({"a": 10}, 10, 4)


def test_leave_one_out_errors_are_those_of_fits_without_the_run() -> None:
    generator = np.random.default_rng(3)
    weights = generator.dirichlet(np.ones(3), 12)
    losses = true_losses(weights) + generator.normal(0, 0.01, (12, 3))
    fitted = fit("quadratic", weights, losses)
    for column in range(3):  # the penalty that was chosen, found again from the coefficients
        z = (features("quadratic", weights) - fitted.centre) / fitted.scale
        y = losses[:, column] - losses[:, column].mean()
        penalties = np.logspace(-6, 2, 17) * 12
        solved = [np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ y) for penalty in penalties]
        off = [np.abs(one - fitted.coefficients[:, column]).max() for one in solved]
        assert min(off) < 1e-8
        penalty = penalties[int(np.argmin(off))]
        for run in range(12):
            rest = np.delete(np.arange(12), run)
            a = np.concatenate([np.ones((11, 1)), z[rest]], axis=1)
            ridge = penalty * np.diag([0.0, *np.ones(z.shape[1])])
            theta = np.linalg.solve(a.T @ a + ridge, a.T @ losses[rest, column])
            assert fitted.left_out[run, column] == pytest.approx(float(theta[0] + z[run] @ theta[1:]), abs=1e-8)


def test_the_rank_correlation_is_that_of_runs_which_no_fit_has_seen() -> None:
    generator = np.random.default_rng(4)
    weights = generator.dirichlet(np.ones(3), 20)
    losses = true_losses(weights) + generator.normal(0, 0.05, (20, 3))
    told = judge(weights, losses, PROSE, seed=7)
    order = np.random.default_rng([7, 1])
    correlations, predictions = [], []
    for _ in range(REPEATS):
        predicted = np.full(20, np.nan)
        for fold in np.array_split(order.permutation(20), 5):
            rest = [run for run in range(20) if run not in fold]
            predicted[fold] = choose(weights[rest], losses[rest], PROSE)[0].predict(weights[fold])[:, 0]
        correlations.append(stats.spearmanr(predicted, losses[:, 0]).statistic)
        predictions.append(predicted)
    assert told["spearman"] == pytest.approx(np.mean(correlations), abs=1e-12)
    assert told["predicted"] == pytest.approx(np.mean(predictions, axis=0))
    shuffled = judge(weights, generator.permutation(losses), PROSE, seed=7)
    assert shuffled["interval"][0] <= 0  # the mean over repeats is near 0, or below
    assert spearman_interval(0.0, 28) == pytest.approx((-0.37307, 0.37307), abs=1e-4)  # tanh(1.96/5)
    low, high = spearman_interval(0.8, 32)  # tanh(atanh(.8) ± 1.96 √(1.32/29))
    assert (low, high) == pytest.approx((0.5916, 0.9083), abs=1e-3)


def test_losses_without_noise_are_foretold_and_the_best_weights_are_near_the_laws_own() -> None:
    space = space_of(SIZES, 200_000, 4)
    weights = draw_mixtures(space, 32, seed=0).weights
    chosen, errors = choose(weights, true_losses(weights), PROSE)
    assert errors[chosen.kind] == min(errors.values()) < 0.005
    plan = design_mixtures(recipe(), space, MixtureSearch(**{**vars(SMALL), "mixtures": 32}))
    found = regress(plan, rows_of(plan, noise=0.0))["found"]
    sampled = many_mixtures(space, 100_000, seed=5)
    best = sampled[true_losses(sampled)[:, 0].argmin()]
    assert found["weights"] == pytest.approx(best, abs=0.05)
    assert found["weights"][2] < 0.05
    assert max(found["epochs"]) <= 4 + 1e-9


def rows_of(plan: MixtureDesign, noise: float, seed: int = 0) -> list[dict[str, str]]:
    """Rows as the table has them, of losses that follow the law, or nothing but noise where that is above 1."""
    generator = np.random.default_rng(seed)
    rows = []
    for cell in plan.cells:
        losses = true_losses(np.array([cell.weights]))[0]
        losses = (
            np.full(3, 3.0 * np.exp(generator.normal(0, 0.05))) if noise > 1 else losses + generator.normal(0, noise)
        )
        row = {"digest": cell.digest}
        for place, name in enumerate(cell.names):
            row |= {f"weight:{name}": str(cell.weights[place]), f"loss:{name}": str(losses[place])}
        rows.append(row)
    return rows


def test_where_nothing_can_be_ranked_no_weights_are_recommended() -> None:
    plan = design_mixtures(recipe(), space_of(SIZES, 200_000, 4), MixtureSearch(**{**vars(SMALL), "mixtures": 32}))
    refused = 0
    for seed in range(4):
        told = regress(plan, rows_of(plan, noise=2.0, seed=seed))
        refused += told["found"] is None
        assert (told["found"] is None) == (told["regression"]["interval"][0] <= 0)
    assert refused >= 3
    assert "no better than chance" in (told["refused"] or "no better than chance")


def test_a_search_finds_what_helps_checks_it_and_leaves_table_file_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    own = recipe('blend={"datasets": {"prose": {"weight": 1}, "kin": {"weight": 1}, "noise": {"weight": 2}}}')
    found = search(own, tmp_path, SMALL, jobs=2)
    prose, kin, noise = found["found"]["weights"]
    assert noise < 0.2 < SIZES["noise"] / sum(SIZES.values()) and kin > 0.5 and prose > 0.05
    arms = found["check"]["arms"]
    assert list(arms) == ["found", "natural", "recipe"] and arms["recipe"]["weights"] == [0.25, 0.25, 0.5]
    against = {one["against"]: one for one in found["check"]["differences"]}
    natural = true_losses(np.array([arms["natural"]["weights"]]))[0, 0]
    ours = true_losses(np.array([[prose, kin, noise]]))[0, 0]
    assert against["natural"]["difference"] == pytest.approx(ours - natural, abs=0.01)
    assert against["natural"]["verdict"] == "better" and found["check"]["freedom"] == 3
    losses = [arm["losses"] for arm in arms.values()]
    pooled = np.sqrt(np.mean([np.var(one, ddof=1) for one in losses]))
    assert found["check"]["noise"] == pytest.approx(pooled)
    half = stats.t.ppf(0.975, 3) * pooled
    assert against["recipe"]["interval"] == pytest.approx(
        [np.mean(losses[0]) - np.mean(losses[2]) - half, np.mean(losses[0]) - np.mean(losses[2]) + half]
    )
    given = found["recommended"]["overrides"]
    assert load_recipe(own, given)[0].blend.datasets["kin"].weight == pytest.approx(kin)
    with (tmp_path / "MIXTURES.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 + 2 * 3
    assert all(abs(sum(float(row[f"weight:{name}"]) for name in SIZES) - 1) < 1e-9 for row in rows)
    page = (tmp_path / "blend.html").read_text()
    assert "<svg" in page and "held out" in page and "weight: " in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    told = read_search(tmp_path / "blend.json")
    assert told["found"] == json.loads(json.dumps(found["found"]))
    changed = (tmp_path / "blend.json").read_text().replace('"noise": ', '"noisy": ', 1)
    (tmp_path / "blend.json").write_text(changed)
    with pytest.raises(InputError, match="does not fit its seal"):
        read_search(tmp_path / "blend.json")


def test_a_killed_search_goes_on_and_makes_no_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        plant(killed, stops="mixture-004", kill=True)
        first = multiprocessing.get_context("fork").Process(
            target=search, args=(recipe(), tmp_path, SMALL), kwargs={"jobs": 1}
        )
        first.start()
        first.join(60)
        assert first.exitcode == -9
    begun = tmp_path / "cells" / "begun.txt"
    assert begun.read_text().split() == [f"mixture-{number:03d}" for number in range(5)]
    with monkeypatch.context() as failing:
        plant(failing, stops="mixture-006")
        with pytest.raises(MegalithError, match=r"cell mixture-006-\w+ failed: out of paper"):
            search(recipe(), tmp_path, SMALL, jobs=1)
    plant(monkeypatch)
    found = search(recipe(), tmp_path, SMALL, jobs=1)
    assert not found["missing"] and found["check"] is not None
    runs = begun.read_text().split()
    assert [name for name in set(runs) if runs.count(name) > 1] == ["mixture-006"]  # which failed; 004 left its losses
    assert len(set(runs)) == 8 + 4
    more = MixtureSearch(**{**vars(SMALL), "mixtures": 10})  # two runs more, and a check of what is then found
    wider = search(recipe(), tmp_path, more, jobs=1)
    assert wider["found"]["weights"] != found["found"]["weights"] and wider["check"] is not None
    assert begun.read_text().split()[len(runs) :][:2] == ["mixture-008", "mixture-009"]
    committed = tmp_path / "elsewhere"
    committed.mkdir()
    shutil.copy(tmp_path / "MIXTURES.csv", committed)
    again = search(recipe(), committed, SMALL, jobs=1)
    assert not (committed / "cells" / "begun.txt").exists()
    assert again["found"] == found["found"] and again["check"] == found["check"]


def test_a_slurm_array_has_the_proxies_first_and_then_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    script = searching.write_array(recipe(), tmp_path, SMALL)[1].read_text()
    lines = (tmp_path / "cells.txt").read_text().splitlines()
    assert "--array=1-8" in script and len(lines) == 8 and "/cells/mixture-000-" in lines[0]
    proxies = search(recipe(), tmp_path, SMALL, jobs=2)["rows"][:8]
    names = [row["cell"] for row in proxies]
    table = (tmp_path / "MIXTURES.csv").read_text().splitlines(keepends=True)
    (tmp_path / "MIXTURES.csv").write_text("".join(line for line in table if not line.startswith("check-")))
    shutil.rmtree(tmp_path / "cells")
    searching.write_array(recipe(), tmp_path, SMALL)
    lines = (tmp_path / "cells.txt").read_text().splitlines()
    assert len(lines) == 4 and all("/cells/check-" in line for line in lines)
    assert all(name.startswith("mixture-") for name in names)


def test_what_cannot_be_searched_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(SIZES, 200_000, 4)
    for change, said in (
        ({"mixtures": 7}, "7 mixtures are too few"), ({"seeds": 1}, "two seeds or more"),
        ({"tokens": 1000}, r"steps of \d+ sequences of 64, and 50 are needed"),
        ({"tokens": 300_000}, "the cap on repetition would not hold"), ({"parameters": 10}, "no shape has about 10 "),
        ({"held_out_tokens": 100}, "less than two sequences of 64"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            design_mixtures(recipe(), space, MixtureSearch(**{**vars(SMALL), **change}))
    with pytest.raises(RecipeError, match="of one precision"):
        design_mixtures(recipe("train.precision=auto"), space, SMALL)
    with pytest.raises(RecipeError, match="'web' is not a data set"):
        parse_target("prose,web", list(SIZES))
    with pytest.raises(RecipeError, match="'prose=0' is not a data set with a weight above 0"):
        parse_target("prose=0", list(SIZES))
    assert parse_target("prose=2,kin", list(SIZES)) == {"prose": 2.0, "kin": 1.0}
    (tmp_path / "MIXTURES.csv").write_text("cell,weight:other\n")
    plant(monkeypatch)
    with pytest.raises(InputError, match="not one of a search over these data sets"):
        search(recipe(), tmp_path, SMALL)


def test_the_command_prints_the_design_and_refuses_bad_input(tmp_path: Path) -> None:
    file = tmp_path / "planted.yaml"
    blend = {"datasets": {name: {"weight": 1.0, "tokens": size} for name, size in SIZES.items()}}
    file.write_text(json.dumps({**VALUES, "blend": blend}))
    place = ["--output", str(tmp_path / "out"), "--proxy-parameters", "12000", "--proxy-tokens", "40000"]
    words = ["blend", "search", str(file), *place, "--held-out-tokens", "4000"]
    shown = CliRunner().invoke(app, [*words, "--design", "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)["design"]
    assert told["mixtures"] == len(told["cells"]) == 32 and told["run"]["seed"] == 1234
    table = CliRunner().invoke(app, [*words, "--design"])
    assert "32 mixtures" in table.output and "65.00 %" in table.output
    assert f"{told['redrawn']} draws over the cap" in table.output and told["redrawn"] > 0
    for more, said in (
        (["--most-epochs", "0.5"], "no weights keep to 0.5 epochs"), (["--target", "web"], "'web' is not a data set"),
    ):  # fmt: skip
        refused = CliRunner().invoke(app, [*words, "--design", *more])
        assert refused.exit_code == 2 and said in " ".join(refused.output.split())
    file.write_text(json.dumps(VALUES))
    unknown = CliRunner().invoke(app, [*words, "--design"])
    assert unknown.exit_code == 2 and "is not known yet" in unknown.output
    one = {**VALUES, "curate": {"datasets": {"prose": {"paths": ["prose.jsonl"]}}}}
    file.write_text(json.dumps(one))
    alone = CliRunner().invoke(app, words)
    assert alone.exit_code == 2 and "two data sets or more, and the recipe has 1" in " ".join(alone.output.split())
    assert not (tmp_path / "out").exists()
    shown = CliRunner().invoke(app, ["blend", "mt-nlg-530b"])  # as ever
    assert shown.exit_code == 0 and "books3" in shown.output


def test_the_recipes_own_weights_are_its_shares() -> None:
    by_epochs = recipe('blend={"datasets": {"prose": {"epochs": 2}, "kin": {"epochs": 1}, "noise": {"epochs": 1}}}')
    own = recipe_weights(by_epochs, SIZES)
    assert own is not None
    assert own == pytest.approx(np.array([20, 60, 130]) / 210, abs=1e-4)
    assert recipe_weights(recipe(), SIZES) is None


def test_a_difference_that_noise_explains_is_told_as_none() -> None:
    plan = design_mixtures(recipe(), space_of(SIZES, 200_000, 4), SMALL)
    natural = plan.space.natural
    cells = plan.check_cells({"found": natural[::-1], "natural": natural})
    assert [cell.run.seed for cell in cells] == [1235, 1235, 1236, 1236]
    rows = []
    for cell, loss in zip(cells, (3.0, 3.01, 3.04, 3.02), strict=True):
        row = {"digest": cell.digest}
        for name, weight in zip(cell.names, cell.weights, strict=True):
            row |= {f"weight:{name}": str(weight), f"loss:{name}": str(loss)}
        rows.append(row)
    told = check(plan, cells, rows)
    (one,) = told["differences"]
    assert one["verdict"] == "not told apart" and one["difference"] == pytest.approx(0.005)
    assert stats.ttest_ind([3.0, 3.04], [3.01, 3.02]).pvalue > 0.05
    low, high = stats.ttest_ind([3.0, 3.04], [3.01, 3.02]).confidence_interval()
    assert one["interval"] == pytest.approx([low, high])


def test_a_real_run_leaves_the_losses_of_its_model_on_each_data_sets_own_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process trains for a second and measures; noise that it has read costs nearly the entropy of its letters."""
    directory = tmp_path / "search"
    corpus = write_corpus(directory / "curate")
    small = recipe("curate.validation_share=0.2")

    def tokenized(given: Recipe, *_: object) -> dict[str, Any]:
        return dict(tokenize(given, directory / "tokenize", corpus, workers=1).facts)

    monkeypatch.setattr(searching, "tokenized", tokenized)
    asked = MixtureSearch(**{**vars(SMALL), "held_out_tokens": 1200, "target_tokens": 40_000, "most_epochs": 40.0})
    found = search(small, directory, asked, jobs=1, only_smallest=True)
    assert len(found["missing"]) == 7 and found["found"] is None
    (row,) = found["rows"]
    losses = {name: float(row[f"loss:{name}"]) for name in SIZES}
    lm = load_model(directory / "cells" / row["cell"] / "train")
    held_out = {one["name"]: one["held_out_tokens"] for one in found["datasets"]}
    for name in SIZES:
        shards = Shards(directory / "proxy-tokens" / f"held-out-{name}")
        text = lm.tokenizer.decode([int(token) for token in shards.stream])
        assert ("qz" in text) == (name == "noise") and len(shards.stream) == held_out[name] <= 1200
        ids = torch.tensor(shards.stream.astype(np.int64))
        nats = torch.zeros(0)
        for first in range(0, len(ids) - 1, 64):  # every token but the first is foretold once, from its window's start
            window = ids[first : first + 65]
            logits = lm.model(window[None, :-1])[0].detach()
            nats = torch.cat([nats, torch.nn.functional.cross_entropy(logits, window[1:], reduction="none")])
        assert losses[name] == pytest.approx(float(nats.mean()), rel=1e-4)
    assert search(small, directory, asked, only_smallest=True)["rows"] == [row]


def write_corpus(path: Path) -> Artifact:
    """A curated corpus of three data sets, in which noise alone has `qz`."""
    generator = random.Random(5)
    words = [text.replace("qz", "") for text in docstrings(per_file=3)[:160]]
    made = {
        "prose": words[:30],
        "kin": words[30:],
        "noise": ["qz".join(generator.choices("abcdefgh", k=200)) for _ in range(60)],
    }

    def build(workspace: Workspace) -> dict[str, Any]:
        for split in ("train", "validation"):
            rows = [
                {"id": f"{name}-{number}", "text": text, "source": name}
                for name, texts in made.items()
                for number, text in enumerate(texts)
                if (number % 5 == 0) == (split == "validation")
            ]
            with workspace.file(f"{split}/0.parquet") as file:
                pq.write_table(pa.Table.from_pylist(rows), file)
        return {}

    return produce(path, stage="curate", settings={}, inputs={}, seed=0, build=build)
