"""The files of a run's jobs: what a shell and Slurm make of them, and that they name what was planned."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from megalith import verbs
from megalith.errors import InputError, UnsupportedError
from megalith.recipe import Recipe, load_recipe
from megalith.submission import Submission, Walk, write_jobs
from megalith.submission.slurm import scripts
from tests.submission.fake_slurm import calls, install, options

SCRIPTS = ("prepare.sbatch", "train.sbatch", "judge.sbatch", "submit.sh", "submit-kubernetes.sh")


def walk(**changes: object) -> Walk:
    made = Walk(
        name="mt-nlg-530b",
        recipe=Path("/shared/runs/x/job/recipe.json"),
        directory=Path("/shared/runs/x"),
        working_directory=Path("/home/me"),
        stages=("curate", "tokenize"),
        nodes=420,
        accelerators_per_node=8,
        accelerator="A100-SXM-80GB",
        layout="tensor 8 × pipeline 35 × data 12",
        parameters=529_600_000_000,
        step_seconds=44.4,
        python="/opt/venv/bin/python",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def planned(directory: Path, *overrides: str, name: str = "mt-nlg-530b") -> Submission:
    made = verbs.run(name, overrides=overrides, output=directory)
    assert isinstance(made, Submission)
    return made


def test_mt_nlg_on_a_cluster_gives_jobs_that_a_shell_reads(tmp_path: Path) -> None:
    made = planned(tmp_path / "run", "cluster=dgx-h100", "cluster.nodes=64")
    for name in SCRIPTS:
        subprocess.run(["bash", "-n", str(made.job / name)], check=True)
        assert (made.job / name).stat().st_mode & 0o100
    train = (made.job / "train.sbatch").read_text()
    assert {"--nodes=64", "--ntasks-per-node=8", "--gpus-per-node=8", "--requeue"} <= set(options(train))
    assert "srun --nodes=64 --ntasks=512 --ntasks-per-node=8" in train
    decided = Recipe.model_validate_json((tmp_path / "run/plan/recipe.json").read_text())
    parallel = decided.parallel
    assert (parallel.tensor or 0) * (parallel.pipeline or 0) * (parallel.data or 0) == 512
    assert f"tensor {parallel.tensor} × pipeline {parallel.pipeline} × data {parallel.data}" in train
    again = load_recipe(made.job / "recipe.json")[0]
    assert (again.cluster.name, again.cluster.nodes, again.parallel.tensor) == ("dgx-h100", 64, None)
    assert again.model == decided.model
    standing = (tmp_path / "run/plan/manifest.json").read_bytes()
    planned(tmp_path / "run", "cluster=dgx-h100", "cluster.nodes=64")
    assert (tmp_path / "run/plan/manifest.json").read_bytes() == standing


def test_a_job_is_told_of_its_end_in_time_for_a_step_and_a_checkpoint() -> None:
    assert walk().lead_seconds == 120  # 2 · 44.4 s and 30 s for 15 GB a node
    assert "--signal=TERM@120" in options(scripts(walk())["train.sbatch"])
    alone = walk(nodes=1, step_seconds=1.0, parameters=70_000_000_000)
    assert alone.lead_seconds == 1740  # 840 GB at 0.5 GB/s
    assert walk(nodes=1, parameters=10**13).lead_seconds == 3600


def test_one_process_makes_the_data_and_every_accelerator_has_a_rank() -> None:
    made = scripts(walk())
    for name in ("prepare.sbatch", "judge.sbatch"):
        assert {"--nodes=1", "--ntasks-per-node=1"} <= set(options(made[name]))
        assert "--ntasks=1 " in made[name]
    assert [line.split()[3] for line in made["prepare.sbatch"].splitlines() if "-m megalith" in line] == [
        "curate", "tokenize",
    ]  # fmt: skip
    assert "--ntasks=3360 " in made["train.sbatch"]
    assert "-m megalith run " in made["judge.sbatch"]


def test_names_with_signs_of_the_shell_or_of_slurm_stay_whole(tmp_path: Path) -> None:
    odd = tmp_path / "a b'$(touch x)%j"
    strange = walk(
        directory=odd, recipe=odd / "job" / "recipe.json", working_directory=odd, python=f"{odd}/py", nodes=1,
        accelerators_per_node=2, sources=["s 1.jsonl", "-x"],
    )  # fmt: skip
    (odd / "job").mkdir(parents=True)
    environment = install(tmp_path / "bin")
    for name, text in scripts(strange).items():
        script = odd / "job" / name
        script.write_text(text)
        subprocess.run(["bash", "-n", str(script)], check=True)
        if name == "train.sbatch":
            assert f"--chdir={odd}" in options(text)
            assert f"--output={str(odd).replace('%', '%%')}/job/train-%j.log" in options(text)
            echo = environment | {"PYTHON": "echo"}
            said = subprocess.run(["bash", str(script)], env=echo, capture_output=True, text=True, check=True).stdout
            assert (
                said.splitlines()
                == [f"-m megalith train {odd}/job/recipe.json --output {odd} --source s 1.jsonl --source -x"] * 2
            )
    assert not (tmp_path / "x").exists()


def test_jobs_follow_one_another_and_data_that_stand_are_not_waited_for(tmp_path: Path) -> None:
    for stands in (False, True):
        directory = tmp_path / str(stands)
        (directory / "job").mkdir(parents=True)
        if stands:
            (directory / "tokenize").mkdir()
            (directory / "tokenize/manifest.json").write_text("{}")
        own = walk(directory=directory, recipe=directory / "job/recipe.json")
        (directory / "job/submit.sh").write_text(scripts(own)["submit.sh"])
        environment = install(tmp_path / f"bin-{stands}")
        subprocess.run(["bash", str(directory / "job/submit.sh"), "--account=a"], env=environment, check=True)
        found = [call.removeprefix("sbatch --parsable ") for call in calls(environment)]
        if stands:
            assert found == ["--account=a train.sbatch", "--dependency=afterok:101 --account=a judge.sbatch"]
        else:
            assert found == [
                "--account=a prepare.sbatch",
                "--dependency=afterok:101 --account=a train.sbatch",
                "--dependency=afterok:102 --account=a judge.sbatch",
            ]


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(143, 9, True), (138, 0, True), (137, 0, True), (137, 3, False), (2, 0, False), (1, 0, False)],
)
def test_a_job_is_queued_again_when_its_time_is_up_and_a_few_times_when_a_task_dies(
    tmp_path: Path, code: int, restarts: int, again: bool
) -> None:
    environment = install(tmp_path / "bin") | {"PYTHON": str(tmp_path / "py"), "SLURM_RESTART_COUNT": str(restarts)}
    (tmp_path / "py").write_text(f"#!/bin/bash\nexit {code}\n")
    (tmp_path / "py").chmod(0o755)
    script = tmp_path / "prepare.sbatch"
    script.write_text(scripts(walk(nodes=1))["prepare.sbatch"])
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("scontrol requeue 4711" in calls(environment)) == again
    assert len([call for call in calls(environment) if call.startswith("srun")]) == 1  # tokenize does not follow


def test_kubernetes_gets_a_pod_for_each_node_and_torchrun_a_rank_for_each_accelerator(tmp_path: Path) -> None:
    made = planned(tmp_path / "run", "cluster=dgx-h100", "cluster.nodes=64")
    service, job = yaml.safe_load_all((made.job / "train.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None"
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (64, 64, "Indexed")
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    shell, flag, command = container["command"]
    assert (shell, flag) == ("bash", "-c")
    for words in ("--nnodes=64", "--nproc-per-node=8", "--node-rank=$JOB_COMPLETION_INDEX", " megalith train "):
        assert words in command
    address = f"{job['metadata']['name']}-0.{service['metadata']['name']}"  # of the first pod, by its service
    assert f"--master-addr={address} " in command
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert all(len(each["metadata"]["name"]) <= 63 for each in (service, job))
    subprocess.run(["bash", "-n", "-c", command], check=True)
    (prepare,) = yaml.safe_load_all((made.job / "prepare.yaml").read_text())
    assert prepare["spec"]["completions"] == 1
    assert "resources" not in prepare["spec"]["template"]["spec"]["containers"][0]


def test_an_amd_accelerator_is_asked_for_by_its_own_name() -> None:
    from megalith.submission.kubernetes import manifests

    documents = list(yaml.safe_load_all(manifests(walk(accelerator="MI300X-192GB"))["train.yaml"]))
    assert documents[1]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"amd.com/gpu": 8}


def test_a_secret_is_not_written_into_a_job(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", ["curate.sources=[https://me:hush@example.org/x.jsonl]"])[0]
    with pytest.raises(InputError, match="credentials from their environment"):
        write_jobs(recipe, walk(recipe=tmp_path / "job" / "recipe.json", directory=tmp_path), {})
    assert list(tmp_path.iterdir()) == []


def test_train_without_ranks_says_how_a_cluster_is_reached(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"64 nodes of dgx-h100.*no launcher.*megalith run"):
        verbs.train("llama-8b", overrides=["cluster=dgx-h100", "cluster.nodes=64"], output=tmp_path / "run")


def test_run_is_not_started_by_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnsupportedError, match="`megalith train` with srun or torchrun"):
        verbs.run("llama-8b", overrides=["cluster=dgx-h100"], output=tmp_path / "run")


def test_json_has_the_plan_and_the_commands(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from megalith.cli import app

    asked = ["run", "gpt2-124m", "cluster=dgx-a100", "--output", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["plan"]["machine"]["cluster"] == "dgx-a100"
    assert found["commands"]["slurm"] == f"bash {tmp_path / 'run/job/submit.sh'}"
