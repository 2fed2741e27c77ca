"""`simai-rules points`: what a sweep will run, before anything runs."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.errors import ConfigError

if TYPE_CHECKING:
    from simai_rules.config.estimate import Estimate
    from simai_rules.config.experiment import Point

HELP = """List the points of a sweep with their nodes, ranks and the bytes they will move.

Snapshots, bytes and seconds are estimates from the run times in the config ('?' where it gives none). Seconds are a
lower bound: staging, start-up and waiting for cores come on top. 1 MB = 1e6 bytes."""

Row = tuple["Point", "Estimate"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config file and the form of the output."""
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="the config file (default: config.yaml)")
    parser.add_argument("--json", action="store_true", help="print JSON, with plain bytes and seconds")
    parser.add_argument("--limit", type=_limit, metavar="N", help="list the first N points only; totals are of all")


def run(args: argparse.Namespace) -> int:
    """Print the points, the totals, and warnings to stderr."""
    from simai_rules.config.estimate import estimate
    from simai_rules.config.loader import load_experiment

    experiment = load_experiment(args.config or _default_config())
    rows = [(point, estimate(point)) for point in experiment.points.values()]
    if args.json:
        listed = [_as_dict(*row) for row in rows[: args.limit]]
        print(json.dumps({"experiment": experiment.config.name, "points": listed, "totals": _totals(rows)}, indent=1))
    else:
        _print_table(rows[: args.limit])
        if args.limit is not None and args.limit < len(rows):
            print(f"… and {len(rows) - args.limit} more")
        print(_summary(experiment.config.name, rows))
    for warning in [*_too_small(rows), *_no_measurement(rows), *_same_runs(rows)]:
        print(f"simai-rules points: warning: {warning}", file=sys.stderr)
    return 0


def in_bytes(nbytes: float) -> str:
    """Return `1.23 GB` and the like; 1 MB = 1e6 bytes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} PB" if nbytes < 1e6 else f"{nbytes:.1e} PB"


def in_time(seconds: float) -> str:
    """Return `12.3 s`, `4.5 min` or `6.7 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.4g} h"


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("takes a number >= 0")
    return number


def _default_config() -> Path:
    path = Path("config.yaml")
    if not path.exists():
        raise ConfigError(
            "there is no config.yaml here; name the file, for example: simai-rules points "
            "Snakefiles/one_to_one/config.yaml"
        )
    return path


def _as_dict(point: "Point", guess: "Estimate") -> dict[str, Any]:
    return {
        "path": point.path,
        "axes": point.axes,
        "nodes": point.nodes,
        "simulation_ranks": guess.simulation_ranks,
        "training_ranks": guess.training_ranks,
        "message_bytes": guess.message_bytes,
        "snapshots": guess.snapshots,
        "bytes_moved": guess.bytes_moved,
        "seconds": guess.seconds,
    }


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    from simai_rules.config.estimate import total

    nbytes, unknown = total(guess.bytes_moved for _, guess in rows)
    seconds, _ = total(guess.seconds for _, guess in rows)
    return {
        "points": len(rows),
        "most_nodes": max(point.nodes for point, _ in rows),
        "most_ranks": max(guess.simulation_ranks + guess.training_ranks for _, guess in rows),
        "bytes_moved": nbytes,
        "seconds": seconds,
        "points_without_estimate": unknown,
    }


def _print_table(rows: Sequence[Row]) -> None:
    table = [("point", "nodes", "ranks", "snapshots", "moved", "time")]
    for point, guess in rows:
        table.append(
            (
                point.path,
                str(point.nodes),
                f"{guess.simulation_ranks}+{guess.training_ranks}",
                "?" if guess.snapshots is None else str(guess.snapshots),
                "?" if guess.bytes_moved is None else in_bytes(guess.bytes_moved),
                "?" if guess.seconds is None else in_time(guess.seconds),
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for path, *cells in table:
        print(
            "  ".join([path.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]).rstrip()
        )


def _summary(name: str, rows: Sequence[Row]) -> str:
    totals = _totals(rows)
    unknown = totals["points_without_estimate"]
    if unknown == len(rows):
        sums = "no estimate of bytes and time, because the config does not give every run_time"
    else:
        sums = (
            f"about {in_bytes(totals['bytes_moved'])} moved (written + read) in at least {in_time(totals['seconds'])}"
        )
        sums += f" ({_count(unknown, 'point')} without an estimate not counted)" if unknown else ""
    return (
        f"{name}: {_count(len(rows), 'point')} on up to {_count(totals['most_nodes'], 'node')} and "
        f"{_count(totals['most_ranks'], 'rank')} (simulation+training); {sums}"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


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
        f"{_count(len(empty), 'point')}, such as {empty[0].path}, will stage no snapshot after the warm-up, so nothing "
        "is measured. Give more training.iterations, or a smaller simulation.write_every or warmup"
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
        f"{_count(len(same), 'point')}, such as {same[0].path}, differ from another point only in options of a backend "
        "that they do not use. Leave them out with sweep.exclude"
    ]
