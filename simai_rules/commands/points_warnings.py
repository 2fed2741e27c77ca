"""What `simai-rules points` warns about: sweeps that will run and not measure what was meant."""

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simai_rules.commands.points_text import Row, in_bytes
from simai_rules.config.messages import counted

if TYPE_CHECKING:
    from simai_rules.config.experiment import Point


def warnings(rows: Sequence[Row], *, here: bool) -> list[str]:
    """Return all warnings, each a sentence with what to do. here: the points run on this machine."""
    return [*(_too_small(rows) if here else ()), *_no_measurement(rows), *_same_runs(rows)]


def _too_small(rows: Sequence[Row]) -> list[str]:
    """Warn about node-local folders that, on this machine, have no room for the snapshots of a node."""
    from simai_rules.config.backends import NodeLocalConfig
    from simai_rules.config.estimate import staged_bytes_per_node

    largest: dict[str, tuple[int, Point]] = {}
    for point, _ in rows:
        if isinstance(point.server, NodeLocalConfig):
            needed = staged_bytes_per_node(point)
            if needed > largest.get(point.server.folder, (0, point))[0]:
                largest[point.server.folder] = needed, point
    warnings = []
    for folder, (needed, point) in largest.items():
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            warnings.append(f"the node-local folder {folder} cannot be used on this machine: {error.strerror}")
            continue
        if needed > free:
            warnings.append(
                f"{folder} has {in_bytes(free)} free on this machine, and {point.path} may stage {in_bytes(needed)} "
                "per node (staging.in_flight × message × ranks per node). Use smaller messages, fewer ranks per "
                "node, or another backends.node-local.folder"
            )
    return warnings


def _no_measurement(rows: Sequence[Row]) -> list[str]:
    """Warn about points that end before their warm-up is over."""
    empty = [point for point, guess in rows if guess.snapshots is not None and guess.snapshots <= point.warmup]
    if not empty:
        return []
    return [
        f"{counted(len(empty), 'point')}, such as {empty[0].path}, will stage no snapshot after the warm-up, so "
        "nothing is measured. Give more training.iterations, or a smaller simulation.write_every or warmup"
    ]


def _same_runs(rows: Sequence[Row]) -> list[str]:
    """Warn about points that differ only in options of a backend that they do not use."""
    seen: set[str] = set()
    same = []
    for point, _ in rows:
        idle = [key for key in point.axes if key.startswith("backends.") and key.split(".")[1] != point.backend]
        if idle:
            used = json.dumps({key: value for key, value in point.axes.items() if key not in idle}, sort_keys=True)
            if used in seen:
                same.append(point)
            seen.add(used)
    if not same:
        return []
    return [
        f"{counted(len(same), 'point')}, such as {same[0].path}, differ from another point only in options of a "
        "backend that they do not use. Leave them out with sweep.exclude"
    ]
