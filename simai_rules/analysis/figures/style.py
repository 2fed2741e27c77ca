"""What all figures share: fonts, colours, message sizes on an axis, and saving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.analysis.grid import Grid
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.units import listing, size_text
from simai_rules.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), told apart by colour-blind readers, and two darker colours; each backend has its
# colour in every figure, and a marker of its own.
_BACKENDS = {
    "filesystem": ("#0072B2", "o"),
    "node-local": ("#009E73", "s"),
    "redis": ("#D55E00", "^"),
    "dragon": ("#CC79A7", "D"),
    "daos-posix": ("#E69F00", "v"),
    "adios2": ("#56B4E9", "P"),
    "redis-cluster": ("#8C6D31", "<"),
    "daos-kv": ("#7F3C8D", ">"),
}
_OTHERS = (("#000000", "X"), ("#4D4D4D", "p"), ("#6B8E23", "h"))

# Parts of a step, from Paul Tol's muted palette: no colour of a backend, light and dark in turn.
PART_COLOURS = {
    "compute": "#C4C4C4",
    "checkpoint": "#999933",
    "barrier": "#44AA99",
    "train": "#8A8A8A",
    "infer": "#5A5A5A",
    "serialize": "#882255",
    "write transport": "#332288",
    "wait": "#DDCC77",
    "read transport": "#88CCEE",
    "deserialize": "#117733",
    "poll and delete": "#CC6677",
    "publish and take": "#AA4499",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name (without suffix), its title and its caption (plain text)."""

    name: str
    figure: Figure
    title: str
    caption: str


def backend_style(backend: str) -> tuple[str, str]:
    """Return colour and marker of a backend; an unknown one gets those that its name chooses."""
    return _BACKENDS.get(backend) or _OTHERS[sum(backend.encode()) % len(_OTHERS)]


@contextmanager
def drawing_style(salt: str) -> Iterator[None]:
    """Draw on white with fonts that stay readable at half a page; ids in the SVG depend on `salt` only."""
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context(
        {
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "legend.fontsize": 9.5,
            "legend.frameon": False,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": "#E2E2E2",
            "grid.linewidth": 0.7,
            "lines.linewidth": 1.8,
            "lines.markersize": 5.5,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "svg.hashsalt": salt,
        }
    ):
        yield


def size_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """Make x a logarithmic axis of message sizes, labelled at the measured sizes as far as there is room."""
    import math

    axes.set_xscale("log")
    low, high = sizes[0] / 1.4, sizes[-1] * 1.4
    axes.set_xlim(low, high)
    room, labelled = 0.085 * math.log(high / low), [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if math.log(labelled[-1] / size) >= room:
            labelled.append(size)
    labelled.reverse()
    axes.set_xticks(labelled, [size_text(size) for size in labelled])
    axes.set_xticks([size for size in sizes if size not in labelled], minor=True)
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set_xlabel("message size")


def without_results(grid: Grid) -> str:
    """Name the points of a grid that failed or are missing, for a caption; "" where there is none."""

    def names(state: str) -> list[str]:
        return [_short(result) for result in grid.incomplete() if result.state == state]

    parts = [f"{state}: {listing(names(state))}" for state in ("failed", "missing") if names(state)]
    return f"Not in the figure: {'; '.join(parts)}." if parts else ""


def _short(result: PointResult) -> str:
    return f"{result.backend} {size_text(result.message_bytes)} repeat {result.axes.get('repeat', '?')}"


def save(drawing: Drawing, folder: Path) -> list[Path]:
    """Write the figure as SVG and PNG into `folder`, atomically, and return the two paths."""
    written = []
    options: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 200}}
    for suffix, more in options.items():
        path = folder / f"{drawing.name}.{suffix}"
        with replacing(path) as temporary:
            drawing.figure.savefig(temporary, format=suffix, **more)
        written.append(path)
    return written
