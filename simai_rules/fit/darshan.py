"""Iterations from a Darshan log, as `darshan-parser` prints it.

Darshan counts per file and does not know of time steps. But a code that writes a file (or one per rank) every so many
steps leaves the time of each in the log: from one burst of output to the next is one iteration here. Its computing is
what lies between the end of the one and the start of the other, its output the bytes of the burst.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simai_rules.errors import UserError
from simai_rules.fit.log import Log

_MODULES = ("POSIX", "STDIO")
_LONG = 0.5
"""Of the run time: a file that is written for longer is no burst but a log, or holds all steps."""
_LEAST_BURSTS = 3


class Burst(NamedTuple):
    """Output without a pause in it: seconds from the start of the run, and bytes of all ranks."""

    start: float
    end: float
    nbytes: float


def is_darshan(text: str) -> bool:
    """Say whether a text was printed by darshan-parser."""
    return text.lstrip().startswith("# darshan log version")


def read(path: Path, text: str) -> Log:
    """Return the iterations between bursts of output; raises UserError where the log does not tell them."""
    header = _header(text)
    try:
        ranks, run_time = int(header["nprocs"]), float(header["run time"].split()[0])
    except (KeyError, ValueError, IndexError):
        raise UserError(
            f"{path} has no '# nprocs:' and '# run time:' of darshan-parser. Print it anew: darshan-parser LOG > FILE."
        ) from None
    bursts = merged([burst for burst in _written(path, text) if burst.end - burst.start <= _LONG * run_time])
    if len(bursts) < _LEAST_BURSTS:
        raise UserError(
            f"{path}: {len(bursts)} separate bursts of output are in it, and it takes {_LEAST_BURSTS}. Darshan does "
            "not tell the time of a step where a code writes all the time into the same file. Fit the iteration times "
            "of the code's own log (CSV or 'step=… elapsedStep=…')."
        )
    seconds = np.array([after.start - before.end for before, after in pairwise(bursts)])
    whole = np.array([after.start - before.start for before, after in pairwise(bursts)])
    written = sum(burst.nbytes for burst in bursts) / len(bursts) / ranks
    return Log(path, "Darshan log", seconds, whole=whole, written=round(written))


def merged(bursts: list[Burst]) -> list[Burst]:
    """Return the bursts in their order, those that overlap as one."""
    found: list[Burst] = []
    for burst in sorted(bursts):
        if found and burst.start <= found[-1].end:
            last = found.pop()
            burst = Burst(last.start, max(last.end, burst.end), last.nbytes + burst.nbytes)
        found.append(burst)
    return found


def _header(text: str) -> dict[str, str]:
    pairs = (line[1:].partition(":") for line in text.splitlines() if line.startswith("#") and ":" in line)
    header: dict[str, str] = {}
    for name, _, value in pairs:
        header.setdefault(name.strip(), value.strip())
    return header


def _written(path: Path, text: str) -> list[Burst]:
    """Return when each rank has written each file, and how much."""
    records: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split("\t")
        if cells[0] not in _MODULES or len(cells) < 6 or cells[5].startswith("<"):  # <STDOUT> and its like
            continue
        try:
            records[cells[0], cells[1], cells[2]][cells[3].removeprefix(f"{cells[0]}_")] = float(cells[4])
        except ValueError:
            raise UserError(f"{path}, line {number}: {cells[4]!r} is no value of a counter.") from None
    return [
        Burst(record.get("F_WRITE_START_TIMESTAMP", 0.0), record["F_WRITE_END_TIMESTAMP"], record["BYTES_WRITTEN"])
        for record in records.values()
        if record.get("BYTES_WRITTEN", 0) > 0 and record.get("F_WRITE_END_TIMESTAMP", 0) > 0
    ]
