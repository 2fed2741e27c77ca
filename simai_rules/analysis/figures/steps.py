"""Stacked time per exchanged snapshot: the whole step, and its exchange enlarged for every message size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simai_rules.analysis.figures.style import PART_COLOURS, Drawing, backend_style, without_results
from simai_rules.analysis.grid import Grid
from simai_rules.analysis.samples import EXCHANGE, PARTS
from simai_rules.analysis.units import size_text, time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Parts = dict[str, float]


def mean_parts(grid: Grid, size: int, backend: str) -> Parts | None:
    """Return the mean over repeats of the seconds per exchanged snapshot by part; None where there is no result."""
    found = [result.samples.parts for result in grid.done(size, backend) if result.samples]
    return {part: sum(each[part] for each in found) / len(found) for part in PARTS} if found else None


def draw(grid: Grid, name: str) -> Drawing | None:
    """Draw the figure; None where no point has measured transfers."""
    from matplotlib.figure import Figure

    cells = {(size, backend): mean_parts(grid, size, backend) for size in grid.sizes for backend in grid.backends}
    sizes = [size for size in grid.sizes if any(cells[size, backend] for backend in grid.backends)]
    if not sizes:
        return None
    row = 0.26 * len(grid.backends) + 0.3
    figure = Figure(figsize=(7.4, row * len(sizes) + 1.45), layout="constrained")
    panels = figure.subplots(len(sizes), 2, squeeze=False, sharex="col" if len(sizes) == 1 else False)
    longest = max(sum(parts.values()) for parts in cells.values() if parts)
    for (whole, enlarged), size in zip(panels, sizes, strict=True):
        shown = {backend: cells[size, backend] for backend in grid.backends}
        _bars(whole, shown, PARTS, longest, with_share=True)
        exchange = max(sum(parts[part] for part in EXCHANGE) for parts in shown.values() if parts)
        _bars(enlarged, shown, EXCHANGE, exchange or 1.0, with_share=False)
        whole.set_ylabel(size_text(size), rotation=0, ha="right", va="center", weight="bold", labelpad=4)
        _backend_names(whole, grid.backends)
        enlarged.set_yticks([])
        whole.tick_params(axis="x", labelbottom=size == sizes[-1])
    panels[0][0].set_title("Whole step")
    panels[0][1].set_title("Its exchange, enlarged")
    panels[-1][0].set_xlabel("s per exchanged snapshot" if longest >= 1 else "ms per exchanged snapshot")
    panels[-1][1].set_xlabel("own scale for each message size")
    used = [part for part in PARTS if any(parts and parts[part] > 0 for parts in cells.values())]
    _legend(figure, used)
    where = f" ({grid.label})" if grid.label else ""
    return Drawing(name, figure, f"Where the time of a step goes{where}", _caption(grid, used))


def _bars(
    panel: Axes, shown: dict[str, Parts | None], parts: tuple[str, ...], longest: float, with_share: bool
) -> None:
    for position, (_, values) in enumerate(shown.items()):
        if values is None:
            panel.text(longest * 0.01, position, "no result", va="center", style="italic", color="#555555", fontsize=9)
            continue
        start = 0.0
        for part in parts:
            panel.barh(position, values[part], left=start, height=0.74, color=PART_COLOURS[part], linewidth=0)
            start += values[part]
        exchange = sum(values[part] for part in EXCHANGE)
        text = f"{_percent(exchange / start)} exchange" if with_share else time_text(start)
        panel.text(start + longest * 0.015, position, text, va="center", fontsize=9)
    panel.set_xlim(0, longest * (1.36 if with_share else 1.2))
    panel.set_ylim(len(shown) - 0.45, -0.55)
    if with_share:
        factor = 1 if longest >= 1 else 1000
        panel.xaxis.set_major_formatter(lambda value, _: f"{value * factor:g}")
    else:
        panel.set_xticks([])
        panel.spines["bottom"].set_visible(False)


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def _backend_names(panel: Axes, backends: list[str]) -> None:
    panel.set_yticks(range(len(backends)), backends)
    for label, backend in zip(panel.get_yticklabels(), backends, strict=True):
        label.set_color(backend_style(backend)[0])
    panel.tick_params(axis="y", length=0)


def _legend(figure: Figure, used: list[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=PART_COLOURS[part], label=part) for part in used]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)


_FURTHER = {
    "checkpoint": "checkpoint: the kernels that run after every so many steps",
    "barrier": "barrier: the simulation's ranks wait for each other, also for one that stages its snapshot slowly",
    "infer": "infer: the net alone, without learning",
    "publish and take": "publish and take: the training stages its weights, the inference looks for newer ones",
}


def _further(used: Sequence[str]) -> str:
    """Explain the parts that not every experiment has."""
    texts = [text for part, text in _FURTHER.items() if part in used]
    return f"Here also {'; '.join(texts)}." if texts else ""


def _caption(grid: Grid, used: Sequence[str]) -> str:
    sentences = [
        "Shorter is better. Each bar adds up the mean time that the components spend per exchanged snapshot and rank: "
        "the simulation computes, waits for room, serializes, writes and looks for the stop message; the training "
        "trains, waits for data and for ranks that are still reading theirs, reads, deserializes, looks for new "
        "snapshots and deletes old ones. They run at the same time, so a bar is work, not elapsed time.",
        _further(used),
        "Left: the whole step, with the share of the exchange. Right: the exchange alone, on a scale of its own for "
        "each message size. Means over ranks and repeats, without the warm-up.",
        without_results(grid),
    ]
    return " ".join(sentence for sentence in sentences if sentence)
