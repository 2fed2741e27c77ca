"""A timeline of one point: what every rank of its components did when, as a whole and zoomed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simai_rules.analysis.figures.style import PART_COLOURS, Drawing
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.summary import numbers, words
from simai_rules.analysis.units import size_text
from simai_rules.events.store import read_events

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Times = NDArray[np.float64]

MOST_RANKS = 4
ZOOMED_SNAPSHOTS = 4
ROW_OF_LEGEND = 95
"""Characters that fit into the width of the figure, with 6 for each entry's patch."""
_COLOURS = {
    "compute": PART_COLOURS["compute"],
    "start": PART_COLOURS["checkpoint"],
    "checkpoint": PART_COLOURS["checkpoint"],
    "barrier": PART_COLOURS["barrier"],
    "agree": PART_COLOURS["barrier"],
    "train": PART_COLOURS["train"],
    "infer": PART_COLOURS["infer"],
    "poll": PART_COLOURS["poll and delete"],
    "delete": PART_COLOURS["poll and delete"],
    "wait": PART_COLOURS["wait"],
    "write": PART_COLOURS["write transport"],
    "read": PART_COLOURS["read transport"],
    "publish": PART_COLOURS["publish and take"],
    "take": PART_COLOURS["publish and take"],
}
"""In the order of drawing: what comes later covers what came before, such as the kernels of a checkpoint."""
_LEGEND = {
    "compute": "compute",
    "start": "start, checkpoint",
    "barrier": "barrier, agree",
    "train": "train",
    "infer": "infer",
    "write": "write",
    "read": "read",
    "wait": "wait for data or room",
    "poll": "poll, delete",
    "publish": "publish, take",
}
_SAME = {"delete": "poll", "checkpoint": "start", "agree": "barrier", "take": "publish"}
"""Kinds without a name of their own in the legend."""
_HIDING = ("poll", "delete", "barrier", "agree")
_NEVER_HIDDEN = ("write", "read", "publish", "take")


@dataclass(frozen=True)
class Lane:
    """One rank: for each kind of activity the starts and ends in s, shape (n, 2); its transfers by snapshot in s."""

    component: str
    rank: int
    spans: dict[str, Times]
    transfers: dict[int, tuple[float, float]]


def choose(results: list[PointResult]) -> PointResult | None:
    """Choose the point to draw: the largest message, where transfers are easiest to see, and the most components."""
    from simai_rules.analysis.grid import exchanged

    done = [result for result in results if exchanged(result)]
    return max(done, key=lambda result: (result.message_bytes, len(result.components)), default=None)


def draw(result: PointResult, name: str) -> Drawing | None:
    """Draw the figure of a point; None where it has no events to show."""
    from matplotlib.figure import Figure

    lanes = _lanes(result)
    spans = [times for lane in lanes for times in lane.spans.values() if len(times)]
    if not spans:
        return None
    start, end = min(float(s[:, 0].min()) for s in spans), max(float(s[:, 1].max()) for s in spans)
    height = 0.3 * len(lanes)
    figure = Figure(figsize=(7.4, 2 * height + 2.3), layout="constrained")
    whole, zoomed = figure.subplots(2, 1)
    low, high = _zoom(lanes, start, end)
    _panel(whole, lanes, start, (start, end))
    _panel(zoomed, lanes, start, (low, high))
    whole.axvspan(low - start, high - start, color="#F3DFA2", alpha=0.6, zorder=0, linewidth=0)
    _arrows(zoomed, lanes, start, (low, high))
    whole.set_title("The whole run (highlighted: the part below)")
    whole.set_xlabel("s since the first event")
    zoomed.set_title("A few snapshots (lines: from the write of a snapshot to its read)")
    zoomed.set_xlabel("s since the first event")
    _legend(figure, lanes)
    return Drawing(name, figure, f"Timeline of {result.path}", _caption(result, lanes))


def _lanes(result: PointResult) -> list[Lane]:
    tables = {component: read_events(result.folder / f"{component}.parquet") for component in result.components}
    offsets: dict[str, int] = {}
    for table in tables.values():
        offsets |= {host: offset for host, offset in _offsets(table) if host not in offsets}
    # Processes of one node share the clock already: only the difference between nodes is put right.
    base = min(offsets.values(), default=0)
    shifts = {host: offset - base for host, offset in offsets.items()}
    lanes = [lane for component, table in tables.items() for lane in _lanes_of(component, table, shifts)]
    return sorted(lanes, key=lambda lane: (lane.rank, result.components.index(lane.component)))


def _offsets(table: pa.Table) -> Iterator[tuple[str, int]]:
    import json

    raw: list[Any] = json.loads((table.schema.metadata or {}).get(b"clock_offsets", b"[]"))
    for host, offset in raw:
        yield str(host), int(offset)


def _lanes_of(component: str, table: pa.Table, shifts: dict[str, int]) -> Iterator[Lane]:
    import numpy as np

    ranks, (host, hosts) = numbers(table, "rank"), words(table, "host")
    operation, operations = words(table, "operation")
    shift = np.array([shifts.get(name, 0) for name in hosts] or [0])[host]
    start, step = numbers(table, "start_ns") + shift, numbers(table, "step")
    end = start + numbers(table, "duration_ns")
    reads = [code for code, name in enumerate(operations) if name in ("read", "take")]
    # A read shows its waiting first; all of a "wait" is waiting; a train event starts after its wait for other ranks.
    waited = numbers(table, "wait_ns")
    ready = np.where(np.isin(operation, reads), start + waited, start)
    for rank in np.unique(ranks)[:MOST_RANKS]:
        spans: dict[str, Times] = {}
        waits: list[Times] = []
        transfers: dict[int, tuple[float, float]] = {}
        for code, name in enumerate(operations):
            chosen = (ranks == rank) & (operation == code)
            times = np.column_stack([ready[chosen], end[chosen]]) / 1e9
            if name == "wait":
                waits.append(times)
            elif name in _COLOURS:
                spans[name] = times
            if name in ("read", "take"):
                waits.append(np.column_stack([start[chosen], ready[chosen]]) / 1e9)
            if name == "train":
                waits.append(np.column_stack([start[chosen] - waited[chosen], start[chosen]]) / 1e9)
            if name in ("write", "read"):
                pairs = zip(step[chosen].tolist(), times.tolist(), strict=True)
                transfers |= {number: (begun, done) for number, (begun, done) in pairs if number >= 0}
        if waits:
            spans["wait"] = np.concatenate(waits)
        yield Lane(component, int(rank), spans, transfers)


def _zoom(lanes: list[Lane], start: float, end: float) -> tuple[float, float]:
    """Return the time from the middle write of the first writer over a few snapshots."""
    writes = sorted(
        times[0] for times in next((lane.transfers for lane in lanes if lane.component == "simulation"), {}).values()
    )
    if len(writes) < 2:
        return start, end
    first = max(0, min(len(writes) // 2, len(writes) - 1 - ZOOMED_SNAPSHOTS))
    last = min(first + ZOOMED_SNAPSHOTS, len(writes) - 1)
    margin = 0.12 * (writes[last] - writes[first]) / (last - first)
    return max(start, writes[first] - margin), min(end, writes[last] + margin)


def _panel(panel: Axes, lanes: list[Lane], origin: float, window: tuple[float, float]) -> None:
    low, high = window
    hairline = (high - low) / 900
    for position, lane in enumerate(lanes):
        for kind, colour in _COLOURS.items():
            spans = lane.spans.get(kind)
            if spans is not None and kind in _HIDING:
                # There is one after every step: joined or widened to a hairline, they would hide the steps.
                spans = spans[spans[:, 1] - spans[:, 0] >= hairline]
            merged = _merged(spans, low, high, hairline)
            if len(merged):
                # Transfers must be seen however short they are.
                least = hairline if kind in _NEVER_HIDDEN else 0.0
                bars = [(a - origin, max(b - a, least)) for a, b in merged]
                panel.broken_barh(bars, (position - 0.38, 0.76), facecolors=colour, linewidth=0)
    panel.set_yticks(range(len(lanes)), [f"{lane.component} {lane.rank}" for lane in lanes])
    panel.set_ylim(len(lanes) - 0.5, -0.5)
    panel.set_xlim(low - origin, high - origin)
    panel.tick_params(axis="y", length=0)
    for boundary in range(1, len(lanes)):
        if lanes[boundary].rank != lanes[boundary - 1].rank:
            panel.axhline(boundary - 0.5, color="#BBBBBB", linewidth=0.6)


def _merged(spans: Times | None, low: float, high: float, hairline: float) -> Times:
    """Join spans inside the window that are closer than a hairline, so that a long run stays a small drawing."""
    import numpy as np

    if spans is None or not len(spans):
        return np.empty((0, 2))
    inside = spans[(spans[:, 1] > low) & (spans[:, 0] < high) & (spans[:, 1] > spans[:, 0])]
    if not len(inside):
        return inside
    inside = np.clip(inside[np.argsort(inside[:, 0])], low, high)
    breaks = np.flatnonzero(inside[1:, 0] - inside[:-1, 1] > hairline)
    starts, ends = np.append(0, breaks + 1), np.append(breaks, len(inside) - 1)
    return np.column_stack([inside[starts, 0], inside[ends, 1]])


def _arrows(panel: Axes, lanes: list[Lane], origin: float, window: tuple[float, float]) -> None:
    where = {(lane.component, lane.rank): position for position, lane in enumerate(lanes)}
    for lane in lanes:
        reader = next((each for each in lanes if each.component == "training" and each.rank == lane.rank), None)
        if lane.component != "simulation" or reader is None:
            continue
        for step, (_, written) in lane.transfers.items():
            read = reader.transfers.get(step)
            if read and window[0] <= written <= window[1] and window[0] <= read[0] <= window[1]:
                panel.plot(
                    [written - origin, read[0] - origin],
                    [where["simulation", lane.rank] + 0.38, where["training", lane.rank] - 0.38],
                    color="black",
                    linewidth=0.9,
                )


def _legend(figure: Figure, lanes: list[Lane]) -> None:
    from matplotlib.patches import Patch

    used = {
        _SAME.get(kind, kind)
        for lane in lanes
        for kind, spans in lane.spans.items()
        if len(spans) and (spans[:, 1] > spans[:, 0]).any()
    }
    handles = [Patch(color=_COLOURS[kind], label=text) for kind, text in _LEGEND.items() if kind in used]
    one_row = sum(len(_LEGEND[kind]) + 6 for kind in _LEGEND if kind in used) <= ROW_OF_LEGEND
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles) if one_row else 4)


def _caption(result: PointResult, lanes: list[Lane]) -> str:
    import json

    ranks = len({lane.rank for lane in lanes})
    whole = max(int(row["ranks"] or 0) for row in result.rows)
    only = f" Only the first {ranks} of {whole} ranks are shown." if whole > ranks else ""
    nodes = json.dumps(result.axes.get("nodes", 1))
    clock = (
        "All ranks ran on one node and share its clock."
        if nodes == "1"
        else "Nodes are aligned by their wall clocks, which may differ by some milliseconds."
    )
    third = ", and below it the inference rank of the same number" if "inference" in result.components else ""
    return (
        f"{result.backend} with messages of {size_text(result.message_bytes)}, repeat {result.axes.get('repeat')}, "
        f"warm-up included. One lane per rank, a simulation rank above the training rank that reads from it{third}. A "
        f"transfer that is shorter than a hairline is drawn as one. {clock}{only}"
    )
