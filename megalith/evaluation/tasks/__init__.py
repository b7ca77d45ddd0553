"""The tasks by name: each a small file of data and prompts. The data itself is never shipped."""

from collections.abc import Mapping

from megalith.errors import RecipeError
from megalith.evaluation.task import Task
from megalith.evaluation.tasks.ai2 import AI2
from megalith.evaluation.tasks.anli import ANLI
from megalith.evaluation.tasks.arithmetic import ARITHMETIC, ARITHMETIC_GPT3
from megalith.evaluation.tasks.bbh import BBH, BBH_COT
from megalith.evaluation.tasks.blimp import BLIMP
from megalith.evaluation.tasks.boolq import BOOLQ
from megalith.evaluation.tasks.closed_book import CLOSED_BOOK
from megalith.evaluation.tasks.gpt3_synthetic import GPT3_SYNTHETIC
from megalith.evaluation.tasks.gsm8k import GSM8K
from megalith.evaluation.tasks.hans import HANS
from megalith.evaluation.tasks.hans_generated import HANS_GENERATED
from megalith.evaluation.tasks.hellaswag import HELLASWAG
from megalith.evaluation.tasks.lambada import LAMBADA
from megalith.evaluation.tasks.mmlu import MMLU
from megalith.evaluation.tasks.piqa import PIQA
from megalith.evaluation.tasks.race import RACE_HIGH
from megalith.evaluation.tasks.sst2 import SST2
from megalith.evaluation.tasks.superglue import SUPERGLUE
from megalith.evaluation.tasks.unscrambling import UNSCRAMBLING
from megalith.evaluation.tasks.wikitext import WIKITEXT
from megalith.evaluation.tasks.winogrande import WINOGRANDE

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        LAMBADA, RACE_HIGH, BOOLQ, PIQA, HELLASWAG, WINOGRANDE, *ANLI, HANS, HANS_GENERATED, *SUPERGLUE, *AI2, MMLU,
        GSM8K, BBH, BBH_COT, BLIMP, *CLOSED_BOOK, SST2, *WIKITEXT, *GPT3_SYNTHETIC, ARITHMETIC, ARITHMETIC_GPT3,
        UNSCRAMBLING,
    )
}  # fmt: skip

__all__ = ["TASKS", "Task", "task"]


def task(name: str) -> Task:
    """The task of this name. Raises RecipeError for an unknown one, with the names that are near."""
    if name not in TASKS:
        import difflib

        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
        raise RecipeError(
            f"{name!r} is not a task.",
            where="evaluate.tasks",
            mend=f"Use {' or '.join(near)}." if near else f"Use {', '.join(sorted(TASKS))}, or a task file.",
        )
    return TASKS[name]
