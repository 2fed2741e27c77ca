"""The figure of a fit: the distribution of the log's iteration times, what was fitted, and the mini-app's times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simai_rules.analysis.figures.style import Drawing, drawing_style
from simai_rules.fit.distribution import Fit, two_sample_distance
from simai_rules.fit.log import Log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Times = NDArray[np.float64]

_COLOURS = {"constant": "#E69F00", "lognormal": "#0072B2", "histogram": "#009E73"}
_MINIAPP = "#D55E00"
_BINS = 60


def draw(log: Log, fits: list[Fit], miniapp: Times | None) -> Drawing:
    """Draw the densities on the left and the distribution functions on the right; the chosen fit is fits[0]."""
    from matplotlib.figure import Figure

    with drawing_style("fit"):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        density, cumulated = figure.subplots(1, 2)
        times = log.as_written(log.iterations)
        samples = [times] if miniapp is None else [times, miniapp]
        low, high = _range(samples)
        factor, unit = (1.0, "s") if high >= 1 else (1e3, "ms") if high >= 1e-3 else (1e6, "µs")
        fitted = fits if log.whole is None else []  # what was fitted is the computing alone
        _densities(density, samples, fitted[:1], np.linspace(low, high, _BINS + 1), factor)
        _functions(cumulated, samples, fitted, np.linspace(low, high, 1000), factor)
        for panel in (density, cumulated):
            panel.set_xlabel(f"time of an iteration ({unit})")
            panel.set_xlim(low * factor, high * factor)
            panel.grid(axis="y")
        density.set_title("Density")
        density.set_ylabel(f"per {unit}")
        density.set_ylim(bottom=0)
        cumulated.set_title("Share of iterations that are done by then")
        cumulated.set_ylim(0, 1.02)
        handles = dict(zip(*reversed(cumulated.get_legend_handles_labels()), strict=True))
        figure.legend(handles=list(handles.values()), loc="outside upper left", ncols=2)
    caption = f"{log.path.name} ({log.kind}, {len(log.iterations)} iterations); chosen: {fits[0].kind}"
    return Drawing("fit", figure, "Iteration times", caption)


def _range(samples: list[Times]) -> tuple[float, float]:
    """Return limits that hold all but the rarest times of every sample, with some room."""
    low = min(float(np.percentile(times, 0.2)) for times in samples)
    high = max(float(np.percentile(times, 99.8)) for times in samples)
    room = max(0.08 * (high - low), 0.01 * high)
    return max(0.0, low - room), high + room


def _densities(panel: Axes, samples: list[Times], fitted: list[Fit], edges: Times, factor: float) -> None:
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    for number, times in enumerate(samples):
        heights = np.histogram(times, edges)[0] / len(times) / widths / factor
        if number == 0:
            panel.bar(centres * factor, heights, widths * factor, color="#C4C4C4", linewidth=0)
        else:
            panel.stairs(heights, edges * factor, color=_MINIAPP, linewidth=1.6)
    for each in fitted:
        # A mean over each bin, as the bars are; a constant or a histogram has no density of its own.
        heights = np.diff(each.cdf(edges)) / widths / factor
        if each.kind == "lognormal":
            panel.plot(centres * factor, heights, color=_COLOURS[each.kind])
        else:
            panel.stairs(heights, edges * factor, color=_COLOURS[each.kind], linewidth=1.2)


def _functions(panel: Axes, samples: list[Times], fitted: list[Fit], places: Times, factor: float) -> None:
    names = ["the log", "the mini-app"]
    for number, times in enumerate(samples):
        share = np.searchsorted(np.sort(times), places, side="right") / len(times)
        colour, width = ("#8A8A8A", 5.0) if number == 0 else (_MINIAPP, 1.6)
        distance = f", distance from the log {two_sample_distance(samples[0], times):.3f}" if number else ""
        panel.plot(
            places * factor,
            share,
            color=colour,
            linewidth=width,
            label=f"{names[number]} ({len(times)} iterations{distance})",
        )
    for number, each in enumerate(fitted):
        chosen = "chosen: " if number == 0 else ""
        panel.plot(
            places * factor,
            each.cdf(places),
            color=_COLOURS[each.kind],
            linestyle="-" if number == 0 else "--",
            linewidth=1.8 if number == 0 else 1.1,
            label=f"{chosen}{each.kind}, held-out distance {each.distance:.3f}",
        )
