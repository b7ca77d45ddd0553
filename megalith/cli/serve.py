"""The verb `serve`: a model behind OpenAI's API."""

import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.generate import Precision
from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.tables import print_json
from megalith.console import note


@verb
def serve(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A train artifact, or its `model` directory.")],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    name: Annotated[str | None, typer.Option(help="The model's name to clients. Default: its directory's.")] = None,
    precision: Precision = "fp32",
    kv_gigabytes: Annotated[
        float | None,
        typer.Option("--kv-gigabytes", min=0.001, help="Keys and values of all sequences. Default: ¼ of free memory."),
    ] = None,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=4096, help="Sequences at work at once.")] = 64,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=0, max=100_000, help="Sequences that may wait; past them: 429.")
    ] = 128,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.1, help="Seconds of a request; then: 504.")
    ] = 600.0,
    body_megabytes: Annotated[
        float, typer.Option("--body-megabytes", min=0.001, max=1000, help="Body of a request; past it: 413.")
    ] = 8.0,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds for unfinished requests at the end.")] = 10.0,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", help="A name besides localhost to be asked under; may be repeated."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="File of the key that clients send, or MEGALITH_API_KEY.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A model behind OpenAI's API, with a page to try it."""
    from megalith import verbs

    def ready(served: str, address: str) -> None:
        if as_json:
            print_json({"model": served, "address": address})
            sys.stdout.flush()
        note(f"{served} is served at {address} and {address}/v1; Ctrl-C ends it")
        if not (is_local(host) or api_key_file or os.environ.get("MEGALITH_API_KEY")):
            note("whoever reaches this address can use the model: set a key with --api-key-file")

    verbs.serve(
        model,
        host=host,
        port=port,
        name=name,
        precision=precision,
        kv_gigabytes=kv_gigabytes,
        max_batch=max_batch,
        max_waiting=max_waiting,
        time_limit=time_limit,
        body_megabytes=body_megabytes,
        grace=grace,
        allowed_host=allowed_host or (),
        api_key_file=api_key_file,
        ready=ready,
    )


def is_local(host: str) -> bool:
    """Whether an address is for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
