"""The points of a sweep as a table and as JSON, with their totals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simai_rules.config.messages import counted

if TYPE_CHECKING:
    from simai_rules.config.estimate import Estimate
    from simai_rules.config.experiment import Point

Row = tuple["Point", "Estimate"]


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


def as_dict(point: "Point", guess: "Estimate") -> dict[str, Any]:
    """Return one point for JSON, with plain bytes and seconds."""
    return {
        "path": point.path,
        "axes": point.axes,
        "nodes": point.nodes,
        "simulation_ranks": guess.simulation_ranks,
        "training_ranks": guess.training_ranks,
        "inference_ranks": guess.inference_ranks,
        "message_bytes": guess.message_bytes,
        "snapshots": guess.snapshots,
        "bytes_moved": guess.bytes_moved,
        "seconds": guess.seconds,
    }


def totals_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the sums over all points."""
    from simai_rules.config.estimate import total

    nbytes, unknown = total(guess.bytes_moved for _, guess in rows)
    seconds, _ = total(guess.seconds for _, guess in rows)
    return {
        "points": len(rows),
        "most_nodes": max(point.nodes for point, _ in rows),
        "most_ranks": max(sum(_ranks(guess)) for _, guess in rows),
        "bytes_moved": nbytes,
        "seconds": seconds,
        "points_without_estimate": unknown,
    }


def print_table(rows: Sequence[Row]) -> None:
    """Print a line for each point."""
    table = [("point", "nodes", "ranks", "snapshots", "moved", "time")]
    for point, guess in rows:
        table.append(
            (
                point.path,
                str(point.nodes),
                "+".join(map(str, _ranks(guess))),
                "?" if guess.snapshots is None else str(guess.snapshots),
                "?" if guess.bytes_moved is None else in_bytes(guess.bytes_moved),
                "?" if guess.seconds is None else in_time(guess.seconds),
            )
        )
    print_columns(table)


def _ranks(guess: "Estimate") -> list[int]:
    """Return the ranks of each component that the point has."""
    ranks = [guess.simulation_ranks, guess.training_ranks]
    return [*ranks, guess.inference_ranks] if guess.inference_ranks else ranks


def print_columns(table: Sequence[Sequence[str]]) -> None:
    """Print lines of cells, the first column to the left and the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *cells in table:
        print(
            "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]).rstrip()
        )


def summary(name: str, rows: Sequence[Row]) -> str:
    """Return the line below the table."""
    totals = totals_of(rows)
    unknown = totals["points_without_estimate"]
    if unknown == len(rows):
        sums = "no estimate of bytes and time, because the config does not give every run_time"
    else:
        sums = (
            f"about {in_bytes(totals['bytes_moved'])} moved (written + read) in at least {in_time(totals['seconds'])}"
        )
        sums += f" ({counted(unknown, 'point')} without an estimate not counted)" if unknown else ""
    return (
        f"{name}: {counted(len(rows), 'point')} on up to {counted(totals['most_nodes'], 'node')} and "
        f"{counted(totals['most_ranks'], 'rank')} (all components); {sums}"
    )
