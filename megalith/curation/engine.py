"""Daft, as curation uses it: embedded, silent, and with no word to the outside.

Every module of this room takes `daft` from here, so that its telemetry is off before it is first imported.
"""

import os

os.environ.update(
    {
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "1",
        "DAFT_ANALYTICS_ENABLED": "0",
        "DAFT_PROGRESS_BAR": "0",
    }
)

import daft

daft.set_runner_native()

__all__ = ["daft"]
