"""Numbers of cores as people write them, `"0-51,104-155"`, and the other way."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from simai_rules.config.base import Says

HIGHEST_CORE = 65_535


def parse_ranges(value: Any) -> Any:
    """Return the numbers of `"0-3,8"`, of one number, or of a list of both; the order stays.

    Raises ValueError that names the part which is no number and no range.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    numbers: list[int] = []
    for part in parts:
        if isinstance(part, str):
            for piece in part.split(","):
                numbers += _range(piece.strip())
        elif isinstance(part, int) and not isinstance(part, bool) and 0 <= part <= HIGHEST_CORE:
            numbers.append(part)
        else:
            raise ValueError(f"{part!r} is no core number and no range such as '0-51,104-155'")
    return numbers


def ranges_text(numbers: Iterable[int]) -> str:
    """Return [0, 1, 2, 5] as `0-2,5`; the numbers are sorted, and each is there once."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _range(text: str) -> range:
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    if match is None:
        raise ValueError(f"{text!r} is no core number and no range such as '0-51,104-155'")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last > HIGHEST_CORE:
        raise ValueError(f"{text!r} is no range of core numbers from 0 to {HIGHEST_CORE}, lower number first")
    return range(first, last + 1)


CoreNumbers = Annotated[
    list[Annotated[int, Field(ge=0, le=HIGHEST_CORE)]],
    BeforeValidator(parse_ranges),
    Says("core numbers and ranges, such as [0, 52] or '0-51,104-155'"),
]
