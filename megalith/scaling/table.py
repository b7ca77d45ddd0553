"""Runs from a CSV whose first line names the columns, by the names that are usual for them."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from megalith.errors import InputError
from megalith.input_files import read_text
from megalith.scaling.points import Floats, Points
from megalith.scaling.runs import Runs

_PARAMETERS = {
    "total": ("parameters", "params", "n_params", "num_params", "num_parameters", "n_parameters", "total_parameters",
              "total_params", "parameters_total", "params_total", "model_size"),
    "with_head": ("parameters_with_head", "params_with_head", "n_with_head"),
    "non_embedding": ("non_embedding_parameters", "non_embedding_params", "parameters_non_embedding",
                      "params_non_embedding", "n_non_embedding", "non_embedding", "params_no_embed"),
    "unknown": ("n", "size"),
}  # fmt: skip
_TOKENS = ("tokens", "d", "n_tokens", "num_tokens", "train_tokens", "training_tokens", "tokens_trained", "dataset_size")
_FLOPS = ("flops", "c", "compute", "flop", "train_flops", "training_flops", "total_flops", "training_flop", "budget")
_LOSSES = {
    "nats per token": ("loss", "final_loss", "l", "nll", "cross_entropy"),
    "nats per token, validation": ("validation_loss", "val_loss", "eval_loss", "test_loss", "loss_val"),
    "nats per token, training": ("train_loss", "training_loss", "loss_train"),
    "bits per byte": ("bits_per_byte", "bpb", "validation_bits_per_byte", "val_bpb"),
}
_UNIQUE = ("unique_tokens", "unique", "d_unique", "u", "unique_data")
_EPOCHS = ("epochs", "n_epochs", "num_epochs")
_CYCLE = ("cycle_tokens", "decay_tokens", "lr_cycle_tokens", "schedule_tokens")
_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def read_table(path: Path, only: Sequence[str] = ()) -> Runs:
    """The runs of a CSV. Raises InputError where a column is missing or a cell is not a positive number.

    Rows without a loss are left out and counted. Tokens, where only FLOPs are given, are C / 6N.
    """
    columns, rows = _rows(path)
    lines = _kept(columns, rows, only, path)
    names = {_plain(column): column for column in reversed(columns)}
    counted = {kind: found for kind, known in _PARAMETERS.items() if (found := _first(names, known)) is not None}
    tokens, flops = _first(names, _TOKENS), _first(names, _FLOPS)
    unit, loss = next(
        ((unit, found) for unit, known in _LOSSES.items() if (found := _first(names, known)) is not None), ("", None)
    )
    for wanted, is_there in (("parameters", bool(counted)), ("flops", bool(tokens or flops)), ("loss", bool(loss))):
        if not is_there:
            raise InputError(
                f"the column {wanted} is missing.",
                where=str(path),
                mend="The first line names the columns: parameters, loss, and tokens or flops.",
            )
    assert loss is not None
    with_loss = [(number, row) for number, row in lines if row[loss] != ""]

    def read(column: str) -> Floats:
        return np.array([_positive(row, column, path, number) for number, row in with_loss])

    counts = {kind: read(column) for kind, column in counted.items()}
    kind = next(kind for kind in ("with_head", "total", "non_embedding", "unknown") if kind in counts)
    n = counts[kind]
    spent = read(flops) if flops and (tokens is None or _whole(with_loss, flops)) else None
    if tokens is not None and (spent is None or _whole(with_loss, tokens)):
        d = read(tokens)
    else:
        assert spent is not None
        d = spent / (6 * n)
    unique = read(name) if (name := _first(names, _UNIQUE)) else d
    if name is None and (epochs := _first(names, _EPOCHS)):
        unique = d / np.maximum(read(epochs), 1.0)
    blank = len(lines) - len(with_loss)
    return Runs(
        points=Points(n, d, read(loss), np.empty(0) if spent is None else spent, np.minimum(unique, d)),
        source=str(path),
        parameters_counted=kind,
        flops_counted="6·N·D" if spent is None else f"the column {flops}",
        loss_unit=f"{unit} (the column {loss})",
        counts=counts,
        cycle_tokens=read(name) if (name := _first(names, _CYCLE)) else None,
        left_out=(f"{blank} rows without a loss",) if blank else (),
    )


def _rows(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        rows: list[dict[str, str | None]] = list(reader)
        return list(reader.fieldnames or []), rows
    except csv.Error as error:
        raise InputError(f"these runs cannot be read: {error}.", where=str(path)) from error


def _kept(
    columns: Sequence[str], rows: Sequence[dict[str, str | None]], only: Sequence[str], path: Path
) -> list[tuple[int, dict[str, str | None]]]:
    """The rows, with their lines, that have every COLUMN=VALUE."""
    lines = list(enumerate(rows, start=2))
    for asked in only:
        column, sign, value = asked.partition("=")
        if not sign or column not in columns:
            raise InputError(
                f"{asked!r} does not name a column of this table.",
                where="--only",
                mend=f"Use COLUMN=VALUE with one of {', '.join(columns)}.",
            )
        lines = [(number, row) for number, row in lines if row[column] == value]
        if not lines:
            raise InputError(f"no row has {asked}.", where=str(path), mend="Use a value that the column has.")
    return lines


def _plain(column: str) -> str:
    """A column's name in lower case, words joined by underscores, without a unit in brackets."""
    return re.sub(r"[\s\-.]+", "_", re.sub(r"[(\[].*?[)\]]", "", column).strip().lower())


def _first(names: Mapping[str, str], known: Sequence[str]) -> str | None:
    return next((names[name] for name in known if name in names), None)


def _whole(lines: Sequence[tuple[int, Mapping[str, str | None]]], column: str) -> bool:
    """Whether every row has a value there."""
    return all(row[column] != "" for _, row in lines)


def _positive(row: Mapping[str, str | None], name: str, path: Path, line: int) -> float:
    text = row[name]
    plain = (text or "").strip().replace("_", "")
    factor = _SUFFIXES.get(plain[-1:].lower(), 1.0)
    try:
        value = float(plain[:-1] if factor > 1 else plain) * factor
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"{name} is {text!r}, and a positive number is wanted.", where=f"{path}:{line}")
    return value
