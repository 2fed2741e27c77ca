"""Iteration times from a log as nekRS writes it: `step= 7 … elapsedStep= 3.15e-02s`, on one line or on two.

Other codes' logs are read as well where each time step has a line with its number as `step` and its time as
`elapsedStep`, `elapsed` or `time per step`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simai_rules.fit.log import times_of

_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)"
_STEP = re.compile(
    r"^.*\bstep\b\s*[=:]?\s*[0-9]+\b.*?\b(?:elapsed ?Step|elapsed(?: time)?|time[ /_]?per[ _]step)\b"
    rf"\s*[=:]?\s*{_NUMBER}\s*(ms|s)?\b",
    re.IGNORECASE,
)


def is_nekrs(text: str) -> bool:
    """Say whether a log has lines of time steps."""
    return any(_STEP.match(line) for line in text.splitlines())


def read(path: Path, text: str) -> tuple[NDArray[np.float64], float]:
    """Return the seconds of each time step, in their order, and what their last digit stands for.

    Raises UserError for a time that none can take.
    """
    texts, units = [], []
    for number, line in enumerate(text.splitlines(), 1):
        found = _STEP.match(line)
        if found:
            texts.append((number, found[1]))
            units.append(1e-3 if found[2] and found[2].lower() == "ms" else 1.0)
    return times_of(path, texts, units)
