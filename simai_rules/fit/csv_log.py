"""Iteration times from a CSV file: one line per iteration, one column with its time."""

from __future__ import annotations

import csv
import re
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simai_rules.errors import UserError
from simai_rules.fit.log import times_of

_NAMES = (
    "iteration_time",
    "time_per_iteration",
    "step_time",
    "time_per_step",
    "seconds",
    "duration",
    "elapsed",
    "time",
)
"""Names that a column of iteration times is known by, with or without a unit; the first that is there is taken."""
_UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIT = re.compile(r"[ _(\[]+(s|sec|seconds|ms|us|ns)[)\]]?$")

Rows = list[tuple[int, list[str]]]


def read(path: Path, text: str, column: str | None) -> tuple[NDArray[np.float64], float]:
    """Return the times of `column`, and what their last digit stands for, in seconds.

    Without `column` it is the one that is known by its name, or the only one. A unit at the end of its name, such as
    `time_ms` or `time (us)`, is converted; without one it is seconds. Blank lines and those that begin with # are
    skipped; a file without a header has one column. Raises UserError.
    """
    rows = _rows(text)
    if not rows:
        raise UserError(f"{path} is empty; it takes a header and one line per iteration.")
    header = [] if _is_number(rows[0][1][0]) else [cell.strip() for cell in rows[0][1]]
    if [name.lower() for name in header] == ["value", "probability"]:
        raise UserError(f"{path} is a histogram already. Use it as it is: run_time: {{histogram: {path.name}}}.")
    index = _column(path, header, column, len(rows[0][1]))
    unit = _unit(header[index]) if header else 1.0
    texts = []
    for line, row in rows[1:] if header else rows:
        try:
            float(row[index])
        except (ValueError, IndexError):
            name = f" in the column {header[index]!r}" if header else ""
            raise UserError(f"{path}, line {line}: no number{name}: {','.join(row)!r:.60}.") from None
        texts.append((line, row[index].strip()))
    return times_of(path, texts, [unit] * len(texts))


def _rows(text: str) -> Rows:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(StringIO(text), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} is not CSV: {error}.") from error
    return [(line, row) for line, row in rows if any(cell.strip() for cell in row) and not row[0].startswith("#")]


def _column(path: Path, header: list[str], wanted: str | None, count: int) -> int:
    if not header:
        if wanted is not None:
            raise UserError(f"{path} has no header, so it has no column {wanted!r}. Leave --column out.")
        if count > 1:
            raise UserError(
                f"{path} has {count} columns and no header. Name them in a first line, and say --column NAME."
            )
        return 0
    listing = ", ".join(header)
    if wanted is not None:
        if wanted not in header:
            near = get_close_matches(wanted, header, n=1)
            raise UserError(
                f"{path} has no column {wanted!r}.{f' Did you mean {near[0]!r}?' if near else ''} It has: {listing}."
            )
        return header.index(wanted)
    plain = [_UNIT.sub("", name.lower()).replace(" ", "_") for name in header]
    known = next((plain.index(name) for name in _NAMES if name in plain), None)
    if known is None and len(header) > 1:
        raise UserError(f"{path}: none of its columns is known to hold iteration times. Say --column NAME: {listing}.")
    return known or 0


def _unit(name: str) -> float:
    found = _UNIT.search(name.lower())
    return _UNITS[found[1]] if found else 1.0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
