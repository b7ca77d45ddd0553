"""The jobs for Kubernetes: an indexed Job of a pod for each node, in which torchrun starts a rank for each accelerator.

Plain Jobs, without an operator. The image and the storage are the site's: the files say where they go.
"""

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from megalith.submission.walk import Walk

PORT = 29500
IMAGE = "megalith:latest"
MOST_FAILURES = 100  # of each pod, preemptions among them
_RESOURCES = {"MI": "amd.com/gpu"}
_HEAD = """\
# {about}. Written by `megalith run`, which writes it again.
# To fill in: `image`, one with Megalith in it, and `claimName`, storage that all nodes see and mount for writing.
"""


def manifests(walk: Walk) -> dict[str, str]:
    """The files by name."""
    data = " && ".join(_command(walk.verb(verb)) for verb in walk.stages)
    launch = [
        "-m", "torch.distributed.run", f"--nnodes={walk.nodes}", f"--nproc-per-node={walk.accelerators_per_node}",
        "--node-rank=$JOB_COMPLETION_INDEX", f"--master-addr={_job(walk, 'train')}-0.{_job(walk, 'train')}",
        f"--master-port={PORT}", f"--shutdown-timeout={walk.lead_seconds}",
    ]  # fmt: skip
    train = f"exec python {' '.join(launch)} {shlex.join(walk.verb('train'))}"
    judge = f"exec {_command(walk.verb('run'))}"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _job(walk, "train")},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # ranks meet before any is ready
            "selector": {"job-name": _job(walk, "train")},
        },
    }
    return {
        "prepare.yaml": _file(f"Curates and tokenizes for {walk.name}", [_of(walk, "prepare", data, 1, 0)]),
        "train.yaml": _file(
            f"{walk.name}: {walk.layout}, on {walk.nodes} × {walk.accelerators_per_node} {walk.accelerator}",
            [service, _of(walk, "train", train, walk.nodes, walk.accelerators_per_node)],
        ),
        "judge.yaml": _file(
            f"Evaluates and audits {walk.name}, and writes the report", [_of(walk, "judge", judge, 1, 1)]
        ),
        "submit-kubernetes.sh": _submit(walk),
    }


def _of(walk: Walk, job: str, command: str, pods: int, accelerators: int) -> dict[str, Any]:
    name = _job(walk, job)
    resource = next((known for start, known in _RESOURCES.items() if walk.accelerator.startswith(start)), None)
    container: dict[str, Any] = {
        "name": "megalith",
        "image": IMAGE,
        "workingDir": str(walk.working_directory),
        "command": ["bash", "-c", command],
        "volumeMounts": [
            {"name": "run", "mountPath": str(walk.directory)},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    if accelerators:
        container["resources"] = {"limits": {resource or "nvidia.com/gpu": accelerators}}
    pod = {
        "restartPolicy": "Never",
        "subdomain": name,
        "terminationGracePeriodSeconds": walk.lead_seconds,
        "containers": [container],
        "volumes": [
            {"name": "run", "persistentVolumeClaim": {"claimName": f"{walk.label}-run"}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completions": pods,
            "parallelism": pods,
            "completionMode": "Indexed",
            "backoffLimit": MOST_FAILURES * pods,
            "template": {"spec": pod},
        },
    }


def _submit(walk: Walk) -> str:
    def done(job: str) -> str:
        return f'kubectl wait "$@" --for=condition=complete --timeout=-1s job/{_job(walk, job)}\n'

    return (
        "#!/bin/bash\n"
        "# Applies the jobs of the run after one another; options for kubectl may follow: --namespace=N\n"
        "set -e\n"
        f"cd {shlex.quote(str(walk.recipe.parent))}\n"
        f'kubectl apply "$@" -f prepare.yaml\n{done("prepare")}'
        f'kubectl apply "$@" -f train.yaml\n{done("train")}'
        'kubectl apply "$@" -f judge.yaml\n'
    )


def _job(walk: Walk, job: str) -> str:
    return f"{walk.label}-{job}"


def _command(words: Sequence[str]) -> str:
    return f"python {shlex.join(words)}"


def _file(about: str, documents: list[dict[str, Any]]) -> str:
    return _HEAD.format(about=" ".join(about.split())) + yaml.safe_dump_all(documents, sort_keys=False, width=1000)
