"""Iteration times from a log as nekRS writes it: `step= 7 … elapsedStep= 3.15e-02s`, on one line or on two.

Other codes' logs are read as well where each time step has a line with its number as `step` and its time as
`elapsedStep`, `elapsed` or `time per step`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simai_rules.errors import UserError
from simai_rules.fit.log import UNITS, times_of

_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)"
_STEP = re.compile(
    r"^.*\bstep\b\s*[=:]?\s*[0-9]+\b.*?\b(?:elapsed ?Step|elapsed(?: time)?|time[ /_]?per[ _]step)\b"
    rf"\s*[=:]?\s*{_NUMBER}(?![:0-9])(\s*[a-zµμ]+)?",
    re.IGNORECASE,
)


def is_nekrs(text: str) -> bool:
    """Say whether a log has lines of time steps."""
    return any(_STEP.match(line) for line in text.splitlines())


def read(path: Path, text: str) -> tuple[NDArray[np.float64], float]:
    """Return the seconds of each time step, in their order, and what their last digit stands for.

    A time without a unit is in seconds. Raises UserError for a time that none can take, or a unit that is not known.
    """
    texts, units = [], []
    for number, line in enumerate(text.splitlines(), 1):
        found = _STEP.match(line)
        if found:
            texts.append((number, found[1]))
            units.append(_seconds(path, number, found[1], found[2] or ""))
    return times_of(path, texts, units)


def _seconds(path: Path, line: int, time: str, word: str) -> float:
    """Return the seconds of the unit that a `word` after a time is; a word apart that is none is something else."""
    unit = UNITS.get(word.strip().lower())
    if unit is None and word and not word[0].isspace():
        raise UserError(f"{path}, line {line}: {word!r} after the time {time} is no unit of time that is known.")
    return 1.0 if unit is None else unit
