"""One function for each verb of the command, with its names and defaults: `import megalith as m; m.run("quickstart")`.

The command parses words and prints results; these functions do the rest. Whatever takes long to import is imported when
it is called.
"""

from megalith.verbs.blends import blend, blend_search
from megalith.verbs.expeditions import (
    Expedition,
    audit_model,
    crawl,
    curate,
    evaluate,
    read_expedition,
    run,
    tokenize,
    train,
)
from megalith.verbs.interop import average, export_model, import_model
from megalith.verbs.judging import compare
from megalith.verbs.models import Continuation, chat, generate, load_model, serve
from megalith.verbs.pages import verify, write_card, write_report
from megalith.verbs.plans import (
    plan_budget,
    plan_calibrate,
    plan_curation,
    plan_dryrun,
    plan_explain,
    plan_layout,
    plan_ranks,
    plan_timeline,
    plan_validate,
)
from megalith.verbs.scaling import scaling_fit, scaling_predict, scaling_study
from megalith.verbs.scores import score
from megalith.verbs.storage import push

__all__ = [
    "Continuation",
    "Expedition",
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
    "tokenize",
    "train",
    "verify",
    "write_card",
    "write_report",
]
