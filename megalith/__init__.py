"""Megalith: from a compute budget to an audited language model.

`import megalith as m; m.run("quickstart", output="out")`: a function for each verb of the command, imported when it is
first named, so that importing the package stays light. See docs/python.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from megalith.artifacts import Artifact
    from megalith.errors import MegalithError
    from megalith.recipe import Recipe, load_recipe, shipped_recipes
    from megalith.verbs import (
        Continuation,
        Expedition,
        audit_model,
        average,
        blend,
        blend_search,
        chat,
        compare,
        crawl,
        curate,
        evaluate,
        export_model,
        generate,
        import_model,
        load_model,
        plan_budget,
        plan_calibrate,
        plan_curation,
        plan_dryrun,
        plan_explain,
        plan_layout,
        plan_ranks,
        plan_timeline,
        plan_validate,
        push,
        read_expedition,
        run,
        scaling_fit,
        scaling_predict,
        scaling_study,
        score,
        serve,
        tokenize,
        train,
        verify,
        write_card,
        write_report,
    )

__version__ = "0.1.0"

_ELSEWHERE = {
    "Artifact": "megalith.artifacts",
    "MegalithError": "megalith.errors",
    "Recipe": "megalith.recipe",
    "load_recipe": "megalith.recipe",
    "shipped_recipes": "megalith.recipe",
}

__all__ = [
    "Artifact",
    "Continuation",
    "Expedition",
    "MegalithError",
    "Recipe",
    "__version__",
    "audit_model",
    "average",
    "blend",
    "blend_search",
    "chat",
    "compare",
    "crawl",
    "curate",
    "evaluate",
    "export_model",
    "generate",
    "import_model",
    "load_model",
    "load_recipe",
    "plan_budget",
    "plan_calibrate",
    "plan_curation",
    "plan_dryrun",
    "plan_explain",
    "plan_layout",
    "plan_ranks",
    "plan_timeline",
    "plan_validate",
    "push",
    "read_expedition",
    "run",
    "scaling_fit",
    "scaling_predict",
    "scaling_study",
    "score",
    "serve",
    "shipped_recipes",
    "tokenize",
    "train",
    "verify",
    "write_card",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'megalith' has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "megalith.verbs")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
