"""Values derived for the page: headlines, comparisons of plan and measurement, scores against chance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from megalith.console import human_count
from megalith.report.formats import DASH, data, duration, fixed, number, pair, percent, power, span, whole, words

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """One of the five figures under the title."""

    label: str
    figure: str
    beside: str


@dataclass(frozen=True)
class Comparison:
    """One quantity, planned and measured."""

    quantity: str
    predicted: str
    interval: str
    measured: str
    difference: float | None
    """measured / predicted − 1"""
    inside: bool | None
    """Whether the measurement lies in the predicted interval; None without an interval."""
    aside: str = ""
    """The reason why no difference is given."""


def headlines(expedition: Facts) -> list[Headline]:
    """Return the five figures that summarise a run."""
    curation, tokens, plan, train = (_part(expedition, key) for key in ("curation", "tokens", "plan", "train"))
    text = Headline("Tokens", _many(tokens.get("train")), "for training, in shards that stood already")
    if curation:
        share = percent(kept_share(curation), 0)
        beside_text = f"{share} of {whole(curation.get('documents_in'))} documents"
        text = Headline("Text kept", data(curation.get("bytes_out")), beside_text)
    beside_loss = f"nats per token; unigram entropy {fixed(train.get('unigram_entropy'), 2)}"
    beside_time = f"all stages; peak memory {data(expedition.get('peak_memory_bytes'))}"
    vocabulary = f"parameters, vocabulary of {whole(tokens.get('vocab_size'))}"
    return [
        text,
        Headline("Model", _many(plan.get("parameters")), vocabulary),
        Headline("Trained on", _many(train.get("tokens")), f"tokens in {whole(train.get('steps'))} steps"),
        Headline("Validation loss", fixed(train.get("validation_loss")), beside_loss),
        Headline("Time", duration(expedition.get("seconds")), beside_time),
    ]


def comparisons(expedition: Facts) -> list[Comparison]:
    """Compare the plan with the measurements."""
    plan, train = _part(expedition, "plan"), _part(expedition, "train")

    def row(quantity: str, planned: str, measured: str, form: Callable[[Any], str], interval: Any = None) -> Comparison:
        before, after = number(plan.get(planned)), number(train.get(measured))
        times = ratio(after, before)
        told, inside = "", None
        if (bounds := pair(interval)) and after is not None:
            told, inside = span(interval, form), bounds[0] <= after <= bounds[1]
        return Comparison(quantity, form(before), told, form(after), None if times is None else times - 1, inside)

    loss = row("Validation loss, nats per token", "predicted_loss", "validation_loss", fixed)
    if any(law.get("extrapolated") for law in plan.get("laws") or () if law.get("law") == plan.get("law")):
        loss = replace(loss, predicted=DASH)  # so far outside of what it was fitted on, the law's figure is no forecast
    return [
        row("Time of a step", "step_seconds", "step_seconds", duration, plan.get("interval")),
        row("Peak memory of training", "memory_bytes", "peak_memory_bytes", data),
        row("Steps", "steps", "steps", whole),
        row("Tokens trained on", "tokens", "tokens", whole),
        row("Time of training", "seconds", "seconds", duration),
        replace(loss, difference=None, aside="see below"),  # another text and vocabulary: not the same quantity
    ]


def kept_share(curation: Facts) -> float | None:
    """Return the share of documents that no step dropped; the pieces of one that decontamination cut count once."""
    into_pieces = sum(number(step.get("split_off")) or 0 for step in curation.get("steps") or ())
    kept = number(curation.get("documents_out"))
    return None if kept is None else ratio(kept - into_pieces, curation.get("documents_in"))


def pieces_note(curation: Facts) -> str:
    """Return why more documents came out of decontamination than went in; empty where that is not so."""
    pieces = sum(int(number(step.get("split_off")) or 0) for step in curation.get("steps") or ())
    if not pieces:
        return ""
    return (
        "Decontamination cuts evaluation text out of documents; what is left of one may be several pieces, and each "
        f"counts as a document from there on ({whole(pieces)} more)."
    )


def asked(recipe: Facts, sources: Sequence[str]) -> list[tuple[str, str]]:
    """Summarise the recipe in a few lines."""
    budget, train, evaluate = (_part(recipe, key) for key in ("budget", "train", "evaluate"))
    tasks = evaluate.get("tasks") or []
    batch = f"{whole(train.get('global_batch_size'))} sequences a step"
    taken = [str(source.get("prefix")) for source in _part(recipe, "tokens").get("from") or ()]
    text = ", ".join(sources) if sources else "the Python documentation of this machine, crawled"
    vocabulary = f"{whole(_part(recipe, 'tokenize').get('vocab_size'))} entries, byte-level BPE"
    return [
        ("Text", f"the shards {', '.join(taken)}" if taken else text),
        ("Seed", _said(recipe.get("seed"))),
        ("Budget", _budget(budget)),
        ("Vocabulary", "that of the shards" if taken else vocabulary),
        ("Context", f"{whole(_part(recipe, 'model').get('sequence_length'))} tokens"),
        ("Batch", f"{batch}, peak learning rate {_said(train.get('learning_rate'))}"),
        ("Judged by", ", ".join(map(words, tasks)) or DASH),
    ]


def _budget(budget: Facts) -> str:
    """The budget in a few words: FLOPs or hours, and the law that spends it."""
    flops, hours = number(budget.get("flops")), number(budget.get("hours"))
    if flops is None and hours is None:
        return "none: the recipe gives the tokens"
    asked = f"{power(flops)} FLOPs" if hours is None else f"{duration(3600 * hours)} of training"
    return f"{asked}; law: {budget.get('law')}"


def standing(task: Facts) -> str:
    """Compare a score with chance by its interval: better, worse or level."""
    chance, bounds = number(task.get("chance")), pair(task.get("interval"))
    if chance is None or bounds is None:
        return DASH
    if bounds[0] <= chance <= bounds[1]:
        return "level"
    return "better" if (bounds[0] > chance) == bool(task.get("higher_is_better", True)) else "worse"


def split_candidates(plan: Facts, shown: int = 8) -> tuple[list[Facts], list[Facts]]:
    """Split the candidate layouts into the best ones and the rest."""
    candidates = list(plan.get("candidates") or [])
    return candidates[:shown], candidates[shown:]


def is_chosen(candidate: Facts, layout: Facts) -> bool:
    """Whether a candidate is the chosen layout."""
    shared = [key for key in layout if key in candidate]
    return bool(shared) and all(candidate[key] == layout[key] for key in shared)


def dropped(step: Facts) -> float:
    """Count the documents that a step dropped, for any reason."""
    return sum(number(many) or 0 for many in (step.get("dropped") or {}).values())


def ratio(above: Any, below: Any) -> float | None:
    """Divide two figures, if both are numbers."""
    top, bottom = number(above), number(below)
    return top / bottom if top is not None and bottom else None


def reasons(curation: Facts) -> list[tuple[str, list[tuple[str, int]]]]:
    """List each step that dropped documents with its (reason, documents), the most frequent first."""
    rows = []
    for step in curation.get("steps") or []:
        dropped = [(str(reason), int(number(many) or 0)) for reason, many in (step.get("dropped") or {}).items()]
        dropped.sort(key=lambda pair: (-pair[1], pair[0]))
        if found := [pair for pair in dropped if pair[1]]:
            rows.append((str(step.get("name")), found))
    return rows


def _part(facts: Facts, key: str) -> Facts:
    found = facts.get(key)
    return found if isinstance(found, Mapping) else {}


def _said(value: Any) -> str:
    """Return a value of the recipe as text, or a dash."""
    return DASH if value is None else str(value)


def _many(value: Any) -> str:
    found = number(value)
    return DASH if found is None else human_count(found)
