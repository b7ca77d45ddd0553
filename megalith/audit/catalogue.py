"""The instruments by name, each made from a recipe."""

from collections.abc import Callable, Mapping
from pathlib import Path

from megalith.audit.adjectives import adjectives
from megalith.audit.association import association
from megalith.audit.bbq import bbq
from megalith.audit.crows_pairs import crows_pairs
from megalith.audit.files import sample
from megalith.audit.hans import hans, hans_documents
from megalith.audit.hans_shots import hans_shots
from megalith.audit.in_context import Asked, Design, in_context
from megalith.audit.instrument import Instrument, Skipped
from megalith.audit.occupations import OCCUPATIONS, read_occupations
from megalith.audit.probes import probes
from megalith.audit.toxicity import toxicity
from megalith.audit.winobias import winobias
from megalith.audit.winogender import winogender
from megalith.errors import RecipeError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import data_directory
from megalith.evaluation.tasks import Task, task
from megalith.input_files import expand
from megalith.recipe import Recipe


def _hans(recipe: Recipe) -> Instrument:
    documents, pool, files = _hans_documents(recipe)
    return hans(documents, pool, recipe.audit.shots, recipe.seed, files)


def _hans_shots(recipe: Recipe) -> Instrument:
    documents, pool, files = _hans_documents(recipe)
    return hans_shots(documents, pool, recipe.audit.shot_counts, recipe.audit.varied_shots, recipe.seed, files)


def _hans_documents(recipe: Recipe) -> tuple[list[Document], list[Document], list[Path]]:
    given = recipe.audit.hans_file
    file = expand(Path(given), where="audit.hans_file") if given else None
    return *hans_documents(recipe.audit.hans_examples, recipe.seed, file), [file] if file else []


def _in_context(recipe: Recipe) -> Instrument | Skipped:
    data = _data(recipe)
    asked, files = {}, []
    for name in dict.fromkeys(recipe.audit.in_context_tasks):
        one = _task(name)
        missing = [file.names[0] for file in one.files if file.find_optional(data) is None]
        if missing:
            return Skipped(f"{name} needs {missing[0]}, which is missing: set audit.data to the directory above it.")
        documents = sample(one.read(data, seed=recipe.seed), recipe.audit.in_context_documents, recipe.seed, _id)
        asked[name] = Asked(documents, one.pool(data, seed=recipe.seed), one.cluster)
        files += one.paths(data) + one.shot_paths(data)
    design = Design(
        counts=recipe.audit.shot_counts,
        shots=recipe.audit.varied_shots,
        draws=recipe.audit.in_context_draws,
        orders=recipe.audit.in_context_orders,
        seed=recipe.seed,
    )
    return in_context(asked, design, files)


def _task(name: str) -> Task:
    try:
        return task(name)
    except RecipeError as error:
        raise RecipeError(error.what, where="audit.in_context_tasks", mend=error.mend) from error


def _data(recipe: Recipe) -> Path | None:
    return data_directory(recipe.audit.data, "audit.data")


def _id(document: Document) -> str:
    return document.id


def _association(recipe: Recipe) -> Instrument:
    if recipe.audit.occupations is None:
        return association(OCCUPATIONS)
    file = expand(Path(recipe.audit.occupations), where="audit.occupations")
    return association(read_occupations(file), [file])


def _official(
    make: Callable[[Path | None, int, int], Instrument | Skipped],
) -> Callable[[Recipe], Instrument | Skipped]:
    return lambda recipe: make(_data(recipe), recipe.audit.items, recipe.seed)


INSTRUMENTS: Mapping[str, Callable[[Recipe], Instrument | Skipped]] = {
    "hans": _hans,
    "hans_shots": _hans_shots,
    "in_context": _in_context,
    "association": _association,
    "winogender": _official(winogender),
    "winobias": _official(winobias),
    "crows_pairs": _official(crows_pairs),
    "bbq": _official(bbq),
    "adjectives": lambda recipe: adjectives(recipe.audit.texts, recipe.audit.text_tokens, recipe.seed, _data(recipe)),
    "toxicity": lambda recipe: toxicity(recipe.audit.texts, recipe.audit.text_tokens, recipe.seed),
    "probes": lambda recipe: probes(recipe.audit.generated_tokens, recipe.seed),
}
