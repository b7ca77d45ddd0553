"""The table at the end of a run: one row a stage."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

from megalith.console import table
from megalith.report.formats import count, data, difference, duration, fixed, number, pair, percent, whole, words
from megalith.report.views import comparisons, kept_share, standing

Facts = Mapping[str, Any]


def summary_table(expedition: Facts) -> Table:
    """Return a table with the result of each stage, its main figure, its time, and whether it was built or reused.

    `expedition` is the content of `expedition.json`.
    """
    rows = []
    for artifact in expedition.get("artifacts") or []:
        stage = str(artifact.get("stage"))
        made, figure = _TOLD[stage](expedition) if stage in _TOLD else ("", "")
        how = "reused" if artifact.get("reused") else "built"
        rows.append((stage, made, figure, duration(artifact.get("seconds")), how))
    headings = ("stage", "what came out", "figure", "time", "")
    return table(f"{expedition.get('name')}: the expedition", headings, rows, left=2)


def _crawl(expedition: Facts) -> tuple[str, str]:
    crawl = _part(expedition, "crawl")
    return f"{whole(crawl.get('pages'))} pages", f"{data(crawl.get('bytes'))} of HTML"


def _curate(expedition: Facts) -> tuple[str, str]:
    curation = _part(expedition, "curation")
    share = percent(kept_share(curation), 0)
    return (
        f"{whole(curation.get('documents_out'))} documents, {data(curation.get('bytes_out'))} of text",
        f"{share} of documents kept",
    )


def _tokenize(expedition: Facts) -> tuple[str, str]:
    tokens = _part(expedition, "tokens")
    return f"{count(tokens.get('train'))} training tokens", f"{fixed(tokens.get('bytes_per_token'), 2)} bytes per token"


def _plan(expedition: Facts) -> tuple[str, str]:
    plan = _part(expedition, "plan")
    made = f"{count(plan.get('parameters'))} parameters on {count(plan.get('tokens'))} tokens"
    return made, f"{duration(plan.get('step_seconds'))} a step predicted"


def _train(expedition: Facts) -> tuple[str, str]:
    train = _part(expedition, "train")
    told = {comparison.quantity: comparison for comparison in comparisons(expedition)}
    step, total = told["Time of a step"], told["Time of training"]
    made = f"validation loss {fixed(train.get('validation_loss'))}, unigram {fixed(train.get('unigram_entropy'))}"
    speed = f"{step.measured} a step ({difference(step.difference)}), MFU {percent(train.get('mfu'))}"
    return made, f"{speed}, in all {total.measured} ({difference(total.difference)})"


def _evaluate(expedition: Facts) -> tuple[str, str]:
    tasks = _part(expedition, "evaluate").get("tasks") or []
    perplexity: Facts = next((task for task in tasks if "perplexity" in str(task.get("metric"))), {})
    figure = f"{words(perplexity.get('metric'))} {fixed(perplexity.get('score'), 1)}" if perplexity else ""
    return f"{len(tasks)} scores with intervals", figure


def _audit(expedition: Facts) -> tuple[str, str]:
    audit = _part(expedition, "audit")
    hans, association = _part(audit, "hans"), _part(audit, "association")
    made = f"HANS {percent(hans.get('accuracy'))} of {whole(hans.get('examples'))}"
    if standing(hans) == "level":
        made += ", at chance level"
    ratio, bounds = number(association.get("mean_log_odds_ratio")), pair(association.get("log_odds_ratio_interval"))
    if ratio is None or bounds is None:
        return made, ""
    if bounds[0] <= 0 <= bounds[1]:
        return made, "no gender association told"
    return made, f"gender log odds {'+' * (ratio > 0)}{fixed(ratio, 2)} nats"


_TOLD: Mapping[str, Callable[[Facts], tuple[str, str]]] = {
    "crawl": _crawl,
    "curate": _curate,
    "tokenize": _tokenize,
    "plan": _plan,
    "train": _train,
    "evaluate": _evaluate,
    "audit": _audit,
}


def _part(facts: Facts, key: str) -> Facts:
    found = facts.get(key)
    return found if isinstance(found, Mapping) else {}
