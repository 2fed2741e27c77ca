"""The iteration times of a real run, whichever kind of log they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simai_rules.errors import UserError

LEAST = 2
"""Iterations that a distribution can be fitted to."""
UNITS = {
    name: seconds
    for names, seconds in (
        ("s sec secs second seconds", 1.0),
        ("ms msec msecs millisecond milliseconds", 1e-3),
        ("us µs μs usec usecs microsecond microseconds", 1e-6),
        ("ns nsec nsecs nanosecond nanoseconds", 1e-9),
        ("min mins minute minutes", 60.0),
        ("h hr hrs hour hours", 3600.0),
    )
    for name in names.split()
}
"""Names of units, in lower case, with their seconds."""
_SHORTEST, _LONGEST = 1e-9, 1e8
_LEAST_FOR_ORDER = 20
"""So many times that only increase do so by chance in one of 1e18 cases."""


@dataclass(frozen=True)
class Log:
    """What a log says: seconds of each iteration's computing, shape (iterations,), in their order, all > 0.

    kind: of the log, in words. resolution: seconds that its last digit stands for (0: unknown). start: seconds of the
    iterations left out at the beginning. whole: seconds of each iteration with its output, where that is told apart.
    written: bytes that a rank writes in an iteration. column: what was read, in words, where there was a choice.
    """

    path: Path
    kind: str
    seconds: NDArray[np.float64]
    resolution: float = 0.0
    start: float = 0.0
    whole: NDArray[np.float64] | None = None
    written: int = 0
    column: str = ""

    @property
    def iterations(self) -> NDArray[np.float64]:
        """Seconds of whole iterations, output included."""
        return self.seconds if self.whole is None else self.whole

    def as_written(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `times` as the log would have them, so that both can be compared.

        A log of three digits has many equal times, and each time of a mini-app would be just above one of them.
        """
        return np.round(times / self.resolution) * self.resolution if self.resolution else times


def read_log(path: Path, *, column: str | None = None, skip: int = 0) -> Log:
    """Read a log of any known kind; `skip` leading iterations are start-up.

    column: of a CSV file. Raises UserError that names the file, the line and what was expected there.
    """
    from simai_rules.fit import csv_log, darshan, nekrs

    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if "\0" in text:
        raise UserError(
            f"{path} is no text in UTF-8, but a binary file. It takes a CSV file or a log with the time of each step; "
            "a Darshan log is printed by: darshan-parser LOG > FILE."
        )
    if darshan.is_darshan(text):
        log = darshan.read(path, text)
    elif nekrs.is_nekrs(text):
        log = Log(path, "nekRS log", *nekrs.read(path, text))
    else:
        seconds, resolution, described = csv_log.read(path, text, column)
        log = Log(path, "CSV file", seconds, resolution, column=described)
    if skip and log.kind == "Darshan log":
        skip = 0  # what comes before the first output is left out anyway
    kept: Any = log.seconds[skip:]
    if len(kept) < LEAST:
        raise UserError(
            f"{path}: the number of iterations in it is {len(log.seconds)}, and {skip} of them are left out as "
            f"start-up (--skip), so {len(kept)} remain; it takes {LEAST} or more."
        )
    if log.kind != "Darshan log" and len(kept) >= _LEAST_FOR_ORDER and (np.diff(kept) > 0).all():
        raise UserError(
            f"{path}: each of the {len(kept)} times{f' of {log.column}' if log.column else ''} is greater than the one "
            "before it, as time stamps are, and sorted times. Give the time that each iteration took, in their order "
            "(of time stamps, the differences)."
        )
    start = float(log.seconds[:skip].sum())
    return replace(log, seconds=kept, start=start)


def times_of(path: Path, texts: list[tuple[int, str]], units: list[float]) -> tuple[NDArray[np.float64], float]:
    """Return the times that stand as `texts` (with their lines) in a log, and what their last digit stands for, in s.

    The texts are numbers. Raises UserError, which names the line, for a time that no iteration can take.
    """
    numbers = [Decimal(text) for _, text in texts]
    seconds = [float(number) * unit for number, unit in zip(numbers, units, strict=True)]
    times = np.asarray(seconds, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if len(wrong):
        line, text = texts[wrong[0]]
        raise UserError(f"{path}, line {line}: {text} is no iteration time, a finite number > 0.")
    wrong = np.flatnonzero((times < _SHORTEST * (1 - 1e-9)) | (times > _LONGEST))
    if len(wrong):
        line, text = texts[wrong[0]]
        raise UserError(
            f"{path}, line {line}: {text} is {seconds[wrong[0]]:.3g} s, which no iteration takes (1 ns to 3 years). Is "
            "it a time stamp, or in another unit? A unit stands at the end of a column's name: time_ms."
        )
    if not texts:
        return times, 0.0
    digits = [float(number.as_tuple().exponent) for number in numbers]
    return times, float(np.median(10.0 ** np.array(digits) * np.array(units)))
