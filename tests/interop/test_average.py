"""The mean of several models is that of each weight, whatever files they lie in."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from megalith import verbs
from megalith.artifacts import Artifact
from megalith.cli import app
from megalith.errors import InputError
from megalith.inference import load_model
from tests.inference.models import write_model


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Three models of one shape."""
    first = write_model(tmp_path / "first")
    made = [first]
    for number in (1, 2):
        other = tmp_path / f"other-{number}"
        shutil.copytree(first, other)
        torch.manual_seed(number)
        weights = {name: each + torch.randn_like(each) for name, each in load_file(first / "model.safetensors").items()}
        save_file(weights, other / "model.safetensors")
        made.append(other)
    return made


def averaged(models: list[Path], place: Path) -> Artifact:
    return verbs.average(models, output=place)


def test_it_is_the_mean_of_each_weight_and_a_model(models: list[Path], tmp_path: Path) -> None:
    made = averaged(models, tmp_path / "mean")
    files = [load_file(model / "model.safetensors") for model in models]
    for name, value in load_file(made.path / "model/model.safetensors").items():
        torch.testing.assert_close(value, torch.stack([file[name] for file in files]).mean(0), rtol=1e-6, atol=1e-6)
    assert load_model(made.path).config == load_model(models[0]).config
    assert averaged(models, tmp_path / "mean").reused


def test_models_that_differ_and_a_single_one_are_refused(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two models or more"):
        averaged(models[:1], tmp_path / "mean")
    config = (models[1] / "config.json").read_text()
    (models[1] / "config.json").write_text(config.replace("{", '{"norm_epsilon": 0.5,', 1))
    with pytest.raises(InputError, match="another shape"):
        averaged(models, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_the_last_of_a_run_are_asked_for_where_there_are_too_few(models: list[Path], tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["average", str(models[0]), "--last", "2", "--output", str(tmp_path / "mean")])
    assert shown.exit_code == 2
    shown = CliRunner().invoke(app, ["average", *map(str, models), "--output", str(tmp_path / "mean"), "--json"])
    assert '"models": 3' in shown.stdout, shown.output
