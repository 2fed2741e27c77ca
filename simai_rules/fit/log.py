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


@dataclass(frozen=True)
class Log:
    """What a log says: seconds of each iteration's computing, shape (iterations,), in their order, all > 0.

    kind: of the log, in words. resolution: seconds that its last digit stands for (0: unknown). start: seconds of the
    iterations left out at the beginning. whole: seconds of each iteration with its output, where that is told apart.
    written: bytes that a rank writes in an iteration.
    """

    path: Path
    kind: str
    seconds: NDArray[np.float64]
    resolution: float = 0.0
    start: float = 0.0
    whole: NDArray[np.float64] | None = None
    written: int = 0

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
    if darshan.is_darshan(text):
        log = darshan.read(path, text)
    elif nekrs.is_nekrs(text):
        log = Log(path, "nekRS log", *nekrs.read(path, text))
    else:
        log = Log(path, "CSV file", *csv_log.read(path, text, column))
    if skip and log.kind == "Darshan log":
        skip = 0  # what comes before the first output is left out anyway
    kept: Any = log.seconds[skip:]
    if len(kept) < LEAST:
        raise UserError(
            f"{path}: {len(log.seconds)} iterations are in it, and {skip} of them are left out as start-up (--skip), "
            f"so {len(kept)} remain; it takes {LEAST} or more."
        )
    start = float(log.seconds[:skip].sum())
    return replace(log, seconds=kept, start=start)


def times_of(path: Path, texts: list[tuple[int, str]], units: list[float]) -> tuple[NDArray[np.float64], float]:
    """Return the times that stand as `texts` (with their lines) in a log, and what their last digit stands for, in s.

    The texts are numbers. Raises UserError, which names the line, for a time that no iteration can take.
    """
    numbers = [Decimal(text) for _, text in texts]
    seconds = [float(number) * unit for number, unit in zip(numbers, units, strict=True)]
    lines = [line for line, _ in texts]
    times = np.asarray(seconds, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if len(wrong):
        raise UserError(
            f"{path}, line {lines[wrong[0]]}: {seconds[wrong[0]]} is no iteration time, a finite number > 0 (s)."
        )
    digits = [float(number.as_tuple().exponent) for number in numbers]
    return times, float(np.median(10.0 ** np.array(digits) * np.array(units)))
