import os
import subprocess
import sys


def test_daft_is_imported_with_its_telemetry_off() -> None:
    program = (
        "import socket\n"
        "def refuse(*arguments): raise SystemExit('tried to connect')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from megalith.curation.daft_engine import daft\n"
        "from daft.scarf_telemetry import opted_out\n"
        "assert opted_out()\n"
        "daft.from_pydict({'a': [1]}).collect()\n"
    )
    silent = ("DO_NOT_TRACK", "SCARF_NO_ANALYTICS", "DAFT_ANALYTICS_ENABLED")
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
