"""What the kernels achieved: GFLOP/s and GB/s of a rank, one row per backend, so that a slowed-down kernel is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from simai_rules.analysis.figures.style import Drawing, backend_style, drawing_style, without_results
from simai_rules.analysis.grid import Grid
from simai_rules.analysis.kernels import kernel_name, kernel_rows
from simai_rules.analysis.summary import Row
from simai_rules.analysis.units import size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 12
"""Of one kernel in one figure; where settings and backends make more, each setting has a figure of its own."""
_LOGARITHMIC = 6
"""Times the smallest value: from there on, an axis is logarithmic."""
_Lane = tuple[Grid, str]
_Cells = dict[tuple[int, int], list[Row]]
"""The repeats by lane and message size."""


def draw_each(grids: Sequence[Grid]) -> Iterator[Drawing]:
    """Draw `kernels` for all settings together, or for each setting where that would be too much for one figure."""
    together = sum(len(grid.backends) for grid in grids) <= MOST_ROWS
    for number, chosen in enumerate([list(grids)] if together else [[grid] for grid in grids], start=1):
        name = "kernels" if number == 1 else f"kernels-{number}"
        with drawing_style(name):
            drawing = draw(chosen, name)
        if drawing is not None:
            yield drawing


def draw(grids: Sequence[Grid], name: str) -> Drawing | None:
    """Draw the figure of some settings; None where no kernel has operations or bytes."""
    from matplotlib.figure import Figure

    lanes = [(grid, backend) for grid in grids for backend in grid.backends]
    found: dict[str, _Cells] = {}
    for lane, (grid, backend) in enumerate(lanes):
        for size in grid.sizes:
            for row in kernel_rows(grid.cells.get((size, backend), [])):
                if row["median_GFLOPps"] is not None or row["median_GBps"] is not None:
                    found.setdefault(kernel_name(row), {}).setdefault((lane, size), []).append(row)
    if not found:
        return None
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    height = 0.28 * len(lanes) + 1.0
    figure = Figure(figsize=(2.6 + 2.4 * columns, height * rows + 0.1), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, (kernel, cells) in zip(panels.flat, sorted(found.items()), strict=False):
        _dots(panel, lanes, cells)
        panel.set_title(kernel)
    for unused in panels.flat[len(found) :]:
        unused.remove()
    for of_row in panels:
        _lane_names(of_row[0], lanes, several=len(grids) > 1)
    only = f" ({grids[0].label})" if len(grids) == 1 and grids[0].label else ""
    return Drawing(name, figure, f"What the kernels achieved{only}", _caption(grids, found))


def _dots(panel: Axes, lanes: Sequence[_Lane], cells: _Cells) -> None:
    """Draw a dot, the range of its repeats and its slowest rank for each backend and message size."""
    everything = [row for rows in cells.values() for row in rows]
    unit = "GFLOPps" if any(row["median_GFLOPps"] is not None for row in everything) else "GBps"
    ends: list[float] = []
    for (lane, size), all_rows in cells.items():
        rows = [row for row in all_rows if row[f"median_{unit}"] is not None]
        if not rows:
            continue
        grid, backend = lanes[lane]
        colour, marker = backend_style(backend)
        place = lane + 0.62 * ((grid.sizes.index(size) + 0.5) / len(grid.sizes) - 0.5)
        values = sorted(row[f"median_{unit}"] for row in rows)
        slowest = median(row[f"slowest_rank_{unit}"] for row in rows)
        panel.plot([values[0], values[-1]], [place, place], color=colour, linewidth=1.2)
        panel.plot([slowest], [place], "|", color=colour, markersize=5.5, markeredgewidth=1.2)
        panel.plot([median(values)], [place], marker, color=colour, markersize=4, label=f"{backend} {size}")
        ends += [values[0], values[-1], slowest]
    panel.set_ylim(len(lanes) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    _axis(panel, min(ends), max(ends), _bytes_per_operation(everything) if unit == "GFLOPps" else None)
    if unit == "GBps":
        panel.set_xlabel("GB/s of a rank")


def _bytes_per_operation(rows: Sequence[Row]) -> float | None:
    """Return how many bytes come with a floating-point operation; None where there are none, or it differs."""
    both = [row for row in rows if row["median_GFLOPps"] is not None and row["median_GBps"] is not None]
    ratios = [row["median_GBps"] / row["median_GFLOPps"] for row in both]
    same = len(both) == len(rows) and max(ratios) <= 1.001 * min(ratios)
    return ratios[0] if same else None


def _axis(panel: Axes, low: float, high: float, bytes_per_operation: float | None) -> None:
    """Label the axis in GFLOP/s and below that in GB/s; a tenth of room on both sides keeps small differences small."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    panel.grid(True, axis="x")
    panel.set_xlim(low / 1.1, high * 1.1)
    if high / low >= _LOGARITHMIC:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 50 else (1.0, 2.0, 5.0)))
        panel.xaxis.set_minor_locator(NullLocator())
    else:
        panel.xaxis.set_major_locator(MaxNLocator(4))
    below = "" if bytes_per_operation is None else "\n{:,.3g}"
    factor = bytes_per_operation or 1.0
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}" + below.format(value * factor)))
    panel.set_xlabel("GFLOP/s of a rank, below GB/s" if below else "GFLOP/s of a rank")


def _lane_names(panel: Axes, lanes: Sequence[_Lane], several: bool) -> None:
    names = [f"{backend}, {grid.label}" if several else backend for grid, backend in lanes]
    panel.set_yticks(range(len(lanes)), names)
    for label, (_, backend) in zip(panel.get_yticklabels(), lanes, strict=True):
        label.set_color(backend_style(backend)[0])


def _caption(grids: Sequence[Grid], found: dict[str, _Cells]) -> str:
    sizes = sorted({size for cells in found.values() for _, size in cells})
    order = "" if len(sizes) == 1 else f", for messages of {', '.join(map(size_text, sizes))} from top to bottom"
    sentences = [
        "More is better; a kernel's dots lie on one vertical line if nothing slows it down. Each dot is a rank's rate "
        f"in the median iteration, the median over the repeats{order}; the line through it is the range of repeats, "
        "the tick the slowest rank. Operations and bytes are those of the kernel's formula, the time is that of its "
        "calls, without the busy finish that fills a run_time. Each kernel has a scale of its own.",
        *(without_results(grid) for grid in grids),
    ]
    return " ".join(sentence for sentence in sentences if sentence)
