"""The verbs of `megalith plan`, one file each."""

import typer

from megalith.cli.help import Sections
from megalith.cli.plan.budget import plan_budget
from megalith.cli.plan.calibrate import plan_calibrate
from megalith.cli.plan.curation import plan_curation
from megalith.cli.plan.dryrun import plan_dryrun
from megalith.cli.plan.explain import plan_explain
from megalith.cli.plan.layout import plan_layout
from megalith.cli.plan.ranks import plan_ranks
from megalith.cli.plan.timeline import plan_timeline
from megalith.cli.plan.validate import plan_validate

app = typer.Typer(cls=Sections, no_args_is_help=True, help="What it will cost, before it is spent.")
app.command("budget")(plan_budget)
app.command("layout")(plan_layout)
app.command("explain")(plan_explain)
app.command("ranks")(plan_ranks)
app.command("timeline")(plan_timeline)
app.command("dryrun")(plan_dryrun)
app.command("curation")(plan_curation)
app.command("validate")(plan_validate)
app.command("calibrate")(plan_calibrate)
