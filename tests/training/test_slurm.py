"""Slurm's variables, as srun sets them, against what torchrun would have set."""

import pytest

from megalith.training.slurm import FIRST_PORT, PORTS, hosts, launched_by_slurm

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_STEP_NODELIST": "gpu[01-03]",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    "SLURM_JOB_NODELIST": "gpu[01-07]",
    "SLURM_NTASKS": "56",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
}


def test_a_rank_of_a_step_knows_itself_and_where_to_meet() -> None:
    found = launched_by_slurm(STEP)
    port = int(found.pop("MASTER_PORT"))
    assert found == {
        "RANK": "9",
        "WORLD_SIZE": "11",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu01",
    }
    assert FIRST_PORT <= port < FIRST_PORT + PORTS


def test_all_ranks_of_a_step_meet_at_one_port_and_other_steps_at_others() -> None:
    def port(**changes: str) -> str:
        return launched_by_slurm(STEP | changes)["MASTER_PORT"]

    assert port() == port(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0")
    assert len({port(), port(SLURM_STEP_ID="1"), port(SLURM_JOB_ID="4712")}) == 3


def test_on_a_single_node_no_name_is_looked_up() -> None:
    found = launched_by_slurm(STEP | {"SLURM_STEP_NODELIST": "gpu03", "SLURM_STEP_TASKS_PER_NODE": "11"})
    assert found["MASTER_ADDR"] == "127.0.0.1"
    assert (
        launched_by_slurm(STEP | {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "11"})["LOCAL_WORLD_SIZE"] == "11"
    )


def test_a_task_that_sees_its_own_gpu_alone_takes_that_one() -> None:
    bound = {"SLURM_GPUS_PER_TASK": "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert launched_by_slurm(STEP | bound)["LOCAL_RANK"] == "0"
    assert launched_by_slurm(STEP | bound | {"SLURM_GPUS_PER_TASK": "h100:1"})["LOCAL_RANK"] == "0"
    all_seen = bound | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}  # --gpu-bind=none
    assert launched_by_slurm(STEP | all_seen)["LOCAL_RANK"] == "1"
    assert launched_by_slurm(STEP | {"CUDA_VISIBLE_DEVICES": "0"})["LOCAL_RANK"] == "1"  # one GPU for all of a node


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_ID": None},  # a batch script, which has all the others
        {"SLURM_STEP_NUM_TASKS": "1"},  # an interactive step
        {"SLURM_PROCID": None},
    ],
    ids=str,
)
def test_what_srun_has_not_started_as_one_of_several_is_alone(changes: dict[str, str | None]) -> None:
    environment = {name: value for name, value in (STEP | changes).items() if value is not None}
    assert launched_by_slurm(environment) == {}


@pytest.mark.parametrize(
    ("nodelist", "names"),
    [
        ("n1", ["n1"]),
        ("node[01-04,07]", ["node01", "node02", "node03", "node04", "node07"]),
        ("a[9-11],b,c[1,3]-ib", ["a9", "a10", "a11", "b", "c1-ib", "c3-ib"]),
        ("rack[1-2]n[01-02]", ["rack1n01", "rack1n02", "rack2n01", "rack2n02"]),
    ],
)
def test_names_of_nodes_are_spelled_out(nodelist: str, names: list[str]) -> None:
    assert hosts(nodelist) == names
