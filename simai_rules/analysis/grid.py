"""Points ordered for comparison: message sizes against backends, apart for every setting of the other axes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simai_rules.analysis.results import PointResult

_COMPARED = ("backend", "elements", "repeat")


@dataclass(frozen=True)
class Grid:
    """The points of one setting of the other axes.

    `cells[message bytes, backend]` holds the repeats; `label` names the setting ("" where there is only one).
    """

    label: str
    cells: dict[tuple[int, str], list[PointResult]] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """Message sizes in bytes, ascending, those without results included."""
        return sorted({size for size, _ in self.cells})

    @property
    def backends(self) -> list[str]:
        """Names of the backends in alphabetical order."""
        return sorted({backend for _, backend in self.cells})

    def done(self, size: int, backend: str) -> list[PointResult]:
        """Return the repeats that have measured transfers both ways."""
        return [result for result in self.cells.get((size, backend), []) if exchanged(result)]

    def incomplete(self) -> list[PointResult]:
        """Return the points that failed or are missing."""
        return [result for cell in self.cells.values() for result in cell if result.state != "done"]


def exchanged(result: PointResult) -> bool:
    """Tell whether a point has intact transfers both ways after its warm-up."""
    return result.samples is not None and len(result.samples.write.seconds) > 0 and len(result.samples.read.seconds) > 0


def grids(results: Sequence[PointResult]) -> list[Grid]:
    """Return one grid per setting of the axes other than backend, elements and repeat, in the order of the points.

    An axis that follows from backend and elements (zipped with one of them) makes no setting of its own.
    """
    free = [name for name in _other_axes(results) if not _follows(name, results)]
    found: dict[str, Grid] = {}
    for result in results:
        setting = {name: result.axes.get(name) for name in free}
        label = ", ".join(f"{name} {value}" for name, value in setting.items())
        grid = found.setdefault(json.dumps(setting), Grid(label))
        grid.cells.setdefault((result.message_bytes, result.backend), []).append(result)
    return list(found.values())


def following_axes(results: Sequence[PointResult]) -> list[str]:
    """Return the swept axes that change together with backend or elements, and so are no setting of their own."""
    names = [name for name in _other_axes(results) if _follows(name, results)]
    return [name for name in names if len({_text(result.axes.get(name)) for result in results}) > 1]


def _other_axes(results: Sequence[PointResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.axes if name not in _COMPARED))


def _follows(name: str, results: Sequence[PointResult]) -> bool:
    values: dict[tuple[int, str], set[str]] = {}
    for result in results:
        values.setdefault((result.message_bytes, result.backend), set()).add(_text(result.axes.get(name)))
    return all(len(seen) == 1 for seen in values.values())


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
