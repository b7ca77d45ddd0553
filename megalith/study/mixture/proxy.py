"""`python -m megalith.study.mixture.proxy PLACE DIGEST RECIPE OVERRIDE...`: train a proxy, then measure its losses.

It trains as `megalith train` does; the losses on each data set's held-out documents are left in `losses.json`.
"""

import contextlib
import os
import sys
from pathlib import Path

from megalith import expedition
from megalith.console import note, settle_streams
from megalith.errors import MegalithError
from megalith.processes import wait_politely
from megalith.recipe import load_recipe
from megalith.study.mixture.held_out import held_out_losses
from megalith.study.mixture.ledger import write_losses


def main(place: str, digest: str, recipe: str, *overrides: str) -> None:
    """Make one run of a search in its directory."""
    home, loaded = Path(place), load_recipe(recipe, overrides)[0]
    made = expedition.run_stage("train", loaded, home)
    losses = held_out_losses(
        made.path, home / "tokenize", tuple(loaded.blend.datasets), document_mask=loaded.train.document_mask
    )
    write_losses(home, digest, losses, dict(made.facts))


if __name__ == "__main__":
    settle_streams()
    wait_politely()
    code = 0
    try:
        main(*sys.argv[1:])
    except MegalithError as error:
        note(f"megalith: {error}")
        code = 2
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # without the farewell of gloo's threads, which has been seen to abort
