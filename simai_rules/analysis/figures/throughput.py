"""Throughput over message size, one line per backend, writes above reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from simai_rules.analysis.figures.style import Drawing, backend_style, size_axis, without_results
from simai_rules.analysis.grid import Grid
from simai_rules.analysis.statistics import Estimate, median_over_repeats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verb = Literal["write", "read"]


def estimates(grid: Grid, backend: str, verb: Verb) -> dict[int, Estimate]:
    """Return the throughput in MB/s by message size: median over repeats of the median transfer, with its interval."""
    found = {}
    for size in grid.sizes:
        samples = [result.samples for result in grid.done(size, backend) if result.samples]
        if samples:
            found[size] = median_over_repeats([[getattr(each, verb).rates] for each in samples])
    return found


def draw(grid: Grid, name: str) -> Drawing | None:
    """Draw the figure; None where no point has measured transfers."""
    from matplotlib.figure import Figure

    curves = {(verb, backend): estimates(grid, backend, verb) for verb in _VERBS for backend in grid.backends}
    if not any(curves.values()):
        return None
    figure = Figure(figsize=(5.6, 5.8), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for panel, verb in zip(panels, _VERBS, strict=True):
        for backend in grid.backends:
            _curve(panel, backend, curves[verb, backend])
        panel.set_yscale("log")
        panel.set_ylabel("throughput in MB/s")
        panel.set_title(_VERBS[verb])
        panel.grid(True)
        size_axis(panel, grid.sizes)
    _readable_rates(panels[0], [e for curve in curves.values() for e in curve.values()])
    panels[0].set_xlabel("")
    for backend in grid.backends:
        _mark_missing(panels, grid, backend)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    where = f" ({grid.label})" if grid.label else ""
    return Drawing(name, figure, f"Throughput over message size{where}", _caption(grid))


_VERBS: dict[Verb, str] = {"write": "Write: simulation to store", "read": "Read: store to training"}


def _curve(panel: Axes, backend: str, curve: dict[int, Estimate]) -> None:
    colour, marker = backend_style(backend)
    sizes, values = list(curve), [estimate.value for estimate in curve.values()]
    low, high = [each.low for each in curve.values()], [each.high for each in curve.values()]
    panel.plot(sizes, values, color=colour, marker=marker, label=backend)
    panel.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
    # A band between points has no width at a point of its own: whiskers show the interval there.
    panel.vlines(sizes, low, high, color=colour, linewidth=1.2)


def _readable_rates(panel: Axes, curve: list[Estimate]) -> None:
    """Label 10, 100, 1 000 … as plain numbers, and 2 and 5 between them where the range is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(each.low for each in curve) / 1.3, max(each.high for each in curve) * 1.3
    panel.set_ylim(low, high)
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0) if high / low > 8 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    panel.yaxis.set_major_locator(LogLocator(subs=steps))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _mark_missing(panels: list[Axes], grid: Grid, backend: str) -> None:
    """Put a cross at the lower edge where a backend has no result although there should be one."""
    lacking = [size for size in grid.sizes if (size, backend) in grid.cells and not grid.done(size, backend)]
    shift = 1 + 0.12 * (grid.backends.index(backend) - (len(grid.backends) - 1) / 2)
    for panel in panels:
        (crosses,) = panel.plot(
            [size * shift for size in lacking],
            [0.03] * len(lacking),
            "x",
            color=backend_style(backend)[0],
            markersize=7,
            markeredgewidth=2,
            transform=panel.get_xaxis_transform(),
            clip_on=False,
        )
        crosses.set_in_layout(False)


def _caption(grid: Grid) -> str:
    repeats = sorted({len(grid.done(*cell)) for cell in grid.cells} - {0})
    count = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    crosses = any(not grid.done(*cell) for cell in grid.cells)
    sentences = [
        "Higher is better; both axes are logarithmic. Each marker is the median over repeats "
        f"({count} here) of the median over all transfers of all ranks after the warm-up; a transfer counts its "
        "serialization, transport and deserialization, not the waiting for the writer (1 MB = 1e6 bytes).",
        "Bands and whiskers are 95 % intervals from a bootstrap of repeats and of the transfers inside them; with "
        "fewer than 6 repeats they are rough. The axis is the array; its header of some 300 bytes counts as well.",
        "A cross at the lower edge: this backend has no result at this size." if crosses else "",
        without_results(grid),
    ]
    return " ".join(sentence for sentence in sentences if sentence)
