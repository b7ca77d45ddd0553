"""The jobs for Slurm: three batch scripts, and one that submits them after one another.

What a site decides (partition, account, time) is given to `sbatch`, whose options count more than those in a script. A
job that its time limit or a preemption ends is queued again and goes on; `training.slurm` makes ranks of its tasks.
"""

import shlex
from collections.abc import Sequence

from megalith.submission.walk import Walk

MOST_RESTARTS = 3  # after a task died: what dies each time is not mended by another start

_GO_ON = f"""\
go_on() {{ # by the exit code of a step: to the next one, or from the beginning, where what stands is taken up
    case $1 in
    0) return ;;
    138 | 143) scontrol requeue "$SLURM_JOB_ID" ;; # USR1 or TERM: the time is up, and the state is saved
    *) [ "$1" -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MOST_RESTARTS} ] && scontrol requeue "$SLURM_JOB_ID" ;;
    esac
    exit "$1"
}}
"""


def scripts(walk: Walk) -> dict[str, str]:
    """The scripts by file name."""
    return {
        "prepare.sbatch": _script(walk, "prepare", f"curates and tokenizes for {walk.name}", 1, walk.stages),
        "train.sbatch": _script(
            walk,
            "train",
            f"{walk.name}: {walk.layout}, on {walk.nodes} × {walk.accelerators_per_node} {walk.accelerator}",
            walk.nodes,
            ("train",),
        ),
        "judge.sbatch": _script(walk, "judge", f"evaluates and audits {walk.name}, and writes the report", 1, ("run",)),
        "submit.sh": _submit(walk),
    }


def batch_script(options: Sequence[str], about: str, lead_seconds: int, steps: Sequence[str]) -> str:
    """A batch script of `steps`, shell commands of which each begins when the one before has ended well.

    Its job is queued again when its time is up, when it is preempted and when a node fails, and adds to its log. Steps
    get TERM `lead_seconds` before the time is up.
    """
    again = ("--open-mode=append", "--requeue", f"--signal=TERM@{lead_seconds}")
    return (
        "#!/bin/bash\n"
        + "".join(f"#SBATCH {option}\n" for option in (*options, *again))
        + f"# {_one_line(about)}\nset -u\n{_GO_ON}\n"
        + "\n".join(f"{step}\ngo_on $?\n" for step in steps)
    )


def _script(walk: Walk, job: str, about: str, nodes: int, verbs: Sequence[str]) -> str:
    trains = job == "train"
    tasks = walk.accelerators_per_node if trains else 1
    gpus = walk.accelerators_per_node if trains else 1 if job == "judge" else 0
    log = str(walk.recipe.parent / f"{job}-%j.log")
    options = [
        f"--job-name={walk.name}-{job}",
        f"--nodes={nodes}",
        f"--ntasks-per-node={tasks}",
        *([f"--gpus-per-node={gpus}"] if gpus else []),
        "--exclusive",
        "--mem=0",  # all of it
        f"--chdir={_quoted(str(walk.working_directory))}",
        f"--output={_quoted(_literal(log.removesuffix('-%j.log')) + '-%j.log')}",
    ]
    launch = ["srun", f"--nodes={nodes}", f"--ntasks={nodes * tasks}", f"--ntasks-per-node={tasks}"]
    launch += ["--cpu-bind=none", "--kill-on-bad-exit=1"] + (["--gpu-bind=none", "--wait=60"] if trains else [])
    first, *others = (f'{shlex.join(launch)} \\\n    "$PYTHON" {shlex.join(walk.verb(verb))}' for verb in verbs)
    first = f'[ -n "${{PYTHON:-}}" ] || PYTHON={shlex.quote(walk.python)}\n{first}'
    about = f"{about}. Written by `megalith run`, which writes it again."
    return batch_script(options, about, walk.lead_seconds if trains else 60, [first, *others])


def _submit(walk: Walk) -> str:
    folder = shlex.quote(str(walk.recipe.parent))
    return (
        "#!/bin/bash\n"
        "# Submits the jobs of the run after one another; options for sbatch may follow: --account=A --time=24:00:00\n"
        "set -e\n"
        f"cd {folder}\n"
        "after=()\n"
        f"if [ ! -e {shlex.quote(str(walk.finished_data))} ]; then\n"
        '    prepare=$(sbatch --parsable "$@" prepare.sbatch)\n'
        '    after=("--dependency=afterok:${prepare%%;*}")\n'
        "fi\n"
        'train=$(sbatch --parsable "${after[@]}" "$@" train.sbatch)\n'
        'judge=$(sbatch --parsable "--dependency=afterok:${train%%;*}" "$@" judge.sbatch)\n'
        'echo "submitted: ${prepare:-the data stand already}, $train, $judge"\n'
    )


def _quoted(value: str) -> str:
    """For an #SBATCH line, which knows quotes and no shell."""
    return f'"{value}"' if any(character.isspace() for character in value) else value


def _literal(path: str) -> str:
    """With the signs that Slurm would fill in taken as they are."""
    return path.replace("%", "%%")


def _one_line(text: str) -> str:
    return " ".join(text.split())
