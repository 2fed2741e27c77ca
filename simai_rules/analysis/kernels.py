"""What the kernels of an experiment did, as the report and its warnings need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from simai_rules.analysis.grid import grids
from simai_rules.analysis.rates import RATES, UNITS
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.summary import Row

SLOWED = 0.10
"""Of a kernel's rate beside another backend: what is worth a warning."""
FEWEST_POINTS = 4
"""Of each of two backends, all of one above all of the other: by chance alone in 3 % of all cases (2 of 70 orders)."""


def kernel_rows(results: Sequence[PointResult]) -> Iterator[Row]:
    """Give the rows of the summary that tell of a kernel's calls."""
    for result in results:
        yield from (row for row in result.rows if row["operation"] == "compute" and row["calls"])


def kernel_name(row: Row) -> str:
    """Return the kernel of a row as a reader needs it: with the component, where that is no simulation, and variant."""
    variant = f" ({row['variant']})" if row["variant"] else ""
    component = "" if row["component"] == "simulation" else f"{row['component']} "
    return f"{component}{row['kernel']}{variant}"


def kernel_table(results: Sequence[PointResult]) -> list[dict[str, Any]]:
    """Return one row per setting, kernel, size and backend; its numbers are medians over the repeats."""
    found = []
    for grid in grids(results):
        groups: dict[tuple[str, int, str], list[Row]] = {}
        for (size, backend), cell in sorted(grid.cells.items()):
            for row in kernel_rows(cell):
                groups.setdefault((kernel_name(row), size, backend), []).append(row)
        for (kernel, size, backend), rows in sorted(groups.items()):
            per_iteration = median(row["calls"] / row["count"] for row in rows)
            values = {name: _median(rows, name) for name in ("median_call_s", *RATES)}
            keys = {"setting": grid.label, "kernel": kernel, "size": size, "backend": backend}
            found.append({**keys, "repeats": len(rows), "calls_per_iteration": per_iteration, **values})
    return found


def _median(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return median(values) if values else None


def slowed_kernels(results: Sequence[PointResult]) -> list[str]:
    """Return a sentence for each kernel that ran slower beside one backend than beside another.

    Compared are the medians of whole points with the same simulation, all sizes and repeats of a backend together: all
    points of the one must lie below all points of the other, and their medians more than SLOWED apart.
    """
    found = []
    for grid in grids(results):
        of_backend: dict[tuple[str, str], dict[str, list[float]]] = {}
        for (_, backend), cell in grid.cells.items():
            for result in cell:
                work = str(result.settings.get("simulation"))
                for row in kernel_rows([result]):
                    unit = next((unit for unit in UNITS if row[f"median_{unit}"] is not None), None)
                    if unit:
                        rates = of_backend.setdefault((kernel_name(row), work), {})
                        rates.setdefault(backend, []).append(row[f"median_{unit}"])
        for (kernel, _), rates in of_backend.items():
            enough = {backend: values for backend, values in rates.items() if len(values) >= FEWEST_POINTS}
            ordered = sorted(enough, key=lambda backend: median(enough[backend]))
            if len(ordered) < 2:
                continue
            slow, fast = ordered[0], ordered[-1]
            share = median(enough[slow]) / median(enough[fast])
            if share < 1 - SLOWED and max(enough[slow]) < min(enough[fast]):
                where = f" ({grid.label})" if grid.label else ""
                found.append(
                    f"{kernel} ran at {share:.0%} of its rate with {fast} when {slow} carried the data{where}: "
                    "something took its core, cache or memory bandwidth. With a run_time, such an iteration is not "
                    "longer, but does less work; see Kernels."
                )
    return found
