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
from simai_rules.fit.log import UNITS, times_of

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
_WORDS = "|".join(name for name in UNITS if name not in ("min", "h"))
_UNIT = re.compile(rf"[ _./-]+({_WORDS})$|[ _]*[(\[] *([^()\[\]]*?) *[)\]]$")
"""At the end of a name; `min` and `h` in brackets alone, for time_min may be a minimum."""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Rows = list[tuple[int, list[str]]]


def read(path: Path, text: str, column: str | None) -> tuple[NDArray[np.float64], float, str]:
    """Return the times of `column`, what their last digit stands for, in seconds, and in words the column and unit.

    Without `column` it is the one that is known by its name, or the only one. A unit at the end of its name, such as
    `time_ms` or `time (us)`, is converted; without one it is seconds. Blank lines and those that begin with # are
    skipped; a file without a header has one column. Raises UserError.
    """
    rows = _rows(path, text)
    if not rows:
        raise UserError(f"{path} is empty; it takes a header and one line per iteration.")
    header = [] if _is_number(rows[0][1][0]) else [cell.strip() for cell in rows[0][1]]
    if [name.lower() for name in header] == ["value", "probability"]:
        raise UserError(f"{path} is a histogram already. Use it as it is: run_time: {{histogram: {path.name}}}.")
    index = _column(path, header, column, len(rows[0][1]))
    name = header[index] if header else ""
    plain, unit = _plain(path, name)
    texts = []
    for line, row in rows[1:] if header else rows:
        cell = row[index].strip() if index < len(row) else ""
        if any(further.strip() for further in row[max(1, len(header)) :]):
            raise UserError(
                f"{path}, line {line}: {len(row)} columns, but the first line has {max(1, len(header))}: "
                f"{','.join(row)!r:.60}. Is a comma in it a decimal one? Write 0.5, not 0,5."
            )
        if not _is_number(cell):
            column_text = f" in the column {name!r}" if header else ""
            advice = ""
            if _is_number(cell.replace(",", ".", 1)):
                advice = " Write 0.5, not 0,5."
            elif len(cell.split()) > 1:
                advice = " Columns are separated by commas, semicolons or tabs."
            raise UserError(f"{path}, line {line}: no number{column_text}: {cell!r:.60}.{advice}")
        texts.append((line, cell))
    words = f"column {name!r} in {plain}" if header else f"its one column in {plain}"
    return *times_of(path, texts, [unit] * len(texts)), words


def _rows(path: Path, text: str) -> Rows:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(StringIO(text), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num} is not CSV: {error}.") from error
    return [
        (line, row) for line, row in rows if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
    ]


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
        if header.count(wanted) > 1:
            raise UserError(f"{path} has {header.count(wanted)} columns {wanted!r}. Give each a name of its own.")
        return header.index(wanted)
    plain = [_UNIT.sub("", _CAMEL.sub("_", name).lower()).replace(" ", "_") for name in header]
    known = next((name for name in _NAMES if name in plain), None)
    if known is None and len(header) > 1:
        raise UserError(f"{path}: none of its columns is known to hold iteration times. Say --column NAME: {listing}.")
    if known is not None and plain.count(known) > 1:
        raise UserError(f"{path} has several columns {known!r}. Say --column NAME, and give each a name: {listing}.")
    return 0 if known is None else plain.index(known)


def _plain(path: Path, name: str) -> tuple[str, float]:
    """Return the unit that a column's name ends with, and its seconds; seconds where it ends with none."""
    found = _UNIT.search(_CAMEL.sub("_", name).lower())
    if found is None:
        return "s", 1.0
    unit = found[1] or found[2]
    if unit not in UNITS:
        raise UserError(
            f"{path}: the unit of the column {name!r} is not known. Known are s, ms, us, ns, min and h, by these and "
            "longer names. Write another one, or leave it out where the times are in seconds."
        )
    return unit, UNITS[unit]


def _is_number(text: str) -> bool:
    """Say whether it is a number, with digits as every program writes them."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.isascii()
