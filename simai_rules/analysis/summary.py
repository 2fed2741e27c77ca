"""The summary: one row per point, component, operation, kernel, variant and status, with its statistics.

Columns (times in seconds, sizes in bytes):

- backend, elements, nodes, repeat, the further axes of the sweep
- component, operation, kernel; variant: `first` and `replaced` writes, `found` and `absent` polls, `start` for kernels
  that run once before the first iteration, `size 1`, `size 2`, … where a rank runs a kernel in several sizes
- status: ok, stale (another rank's or step's data was read), torn (its digest differed), discarded (a write that
  found a stream's queue full); for a point without results one row with `failed` or `missing`, and why in `reason`
- ranks: how many ranks have such an event; warmup_count: events of the warm-up, which nothing else here counts
- count; nbytes: mean bytes of one operation; total_bytes
- mean_s, std_s (n - 1), median_s, p95_s, p99_s (linear interpolation), max_s: of the whole operation
- max_rank_mean_s: the mean of the slowest rank
- mean_serialize_s, mean_transport_s, mean_wait_s, mean_deserialize_s: the parts of a transfer
- throughput_MBps: total bytes / total transfer time (serialize + transport + deserialize, without the waiting for the
  writer), in 1e6 bytes per second
- calls: of a kernel, in all its iterations and ranks; median_call_s: the time of one
- median_GFLOPps, p5_GFLOPps, p95_GFLOPps, slowest_rank_GFLOPps, median_GBps, …: what one rank achieves in an iteration,
  over the iterations (see rates.py); null for a kernel without operations or bytes
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.analysis import rates
from simai_rules.files import replacing

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Row = dict[str, Any]

_WORDS = ("component", "operation", "kernel", "variant", "status", "reason")
_COUNTS = ("ranks", "warmup_count", "count", "total_bytes", "calls")
_NUMBERS = (
    "nbytes",
    "mean_s",
    "std_s",
    "median_s",
    "p95_s",
    "p99_s",
    "max_s",
    "max_rank_mean_s",
    "mean_serialize_s",
    "mean_transport_s",
    "mean_wait_s",
    "mean_deserialize_s",
    "throughput_MBps",
)
COLUMNS = (*_WORDS, "ranks", "warmup_count", "count", "nbytes", "total_bytes", *_NUMBERS[1:], *rates.COLUMNS)
VARIANTS = ("", "first", "replaced", "found", "absent", "start")


def blank_row(axes: Mapping[str, Any], *, status: str, reason: str) -> Row:
    """Return the row of a point that has no results."""
    return {**axes, **dict.fromkeys(COLUMNS), "status": status, "reason": reason, "count": 0, "warmup_count": 0}


def words(table: pa.Table, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Return a dictionary-encoded column as codes, shape (rows,), and the words they stand for."""
    import numpy as np

    column = table.select([name]).unify_dictionaries().column(0)
    if column.num_chunks == 0:
        return np.empty(0, np.int64), []
    codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return codes.astype(np.int64), column.chunk(0).dictionary.to_pylist()


def numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return an integer column, shape (rows,)."""
    import numpy as np

    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def _flags(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column of true, false and null as 1, 0 and -1."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(table.column(name).cast(pa.int8()), -1).to_numpy(), dtype=np.int64)


def has_word(table: pa.Table, name: str, *texts: str) -> NDArray[np.bool_]:
    """Return in which rows a dictionary-encoded column has one of `texts`, shape (rows,)."""
    import numpy as np

    codes, found = words(table, name)
    return np.asarray(np.isin(codes, [code for code, word in enumerate(found) if word in texts]))


def after_warmup(table: pa.Table) -> NDArray[np.bool_]:
    """Return which events come after the warm-up, shape (rows,)."""
    return has_word(table, "phase", "measured")


def _before_iterations(table: pa.Table) -> NDArray[np.bool_]:
    """Return which events are kernels that run once, before the first iteration and in any case before the warm-up."""
    once = has_word(table, "operation", "compute") & ~after_warmup(table)
    chosen: NDArray[np.bool_] = once & (numbers(table, "iteration") < 0)
    return chosen


def measured(table: pa.Table) -> NDArray[np.bool_]:
    """Return which events count: those after the warm-up, and what a component does once, which is before any."""
    return after_warmup(table) | has_word(table, "operation", "init", "start") | _before_iterations(table)


def rows_of(table: pa.Table, axes: Mapping[str, Any]) -> list[Row]:
    """Return the rows of one component's events, ordered by operation, kernel, variant and status."""
    import numpy as np

    if table.num_rows == 0:
        return []
    replaced, found = _flags(table, "replaced"), _flags(table, "found")
    variant = np.where(replaced >= 0, replaced + 1, np.where(found >= 0, 4 - found, 0))
    variant[_before_iterations(table)] = VARIANTS.index("start")
    named = {name: words(table, name) for name in ("component", "operation", "kernel", "status")}
    codes = [*(each[0] for each in named.values()), variant]
    group = np.ravel_multi_index(codes, [int(code.max()) + 1 for code in codes])
    counts = measured(table)
    data = {
        name: numbers(table, name)
        for name in ("rank", "nbytes", "duration_ns", "serialize_ns", "transport_ns", "wait_ns", "deserialize_ns")
    }
    computing = np.flatnonzero(has_word(table, "operation", "compute"))
    size = np.zeros(len(group), np.int64)
    kernels = _kernel_columns(table)
    if kernels:
        work = {name: column[computing] for name, column in (data | kernels).items()}
        size[computing] = rates.sizes(work, group[computing])
        group = group * (int(size.max()) + 1) + size
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rows = []
    for members in np.split(order, starts[1:]):
        one = members[0]
        labels = {name: texts[code[one]] for name, (code, texts) in named.items()}
        labels["variant"] = ", ".join(filter(None, (VARIANTS[variant[one]], f"size {size[one]}" if size[one] else "")))
        chosen = members[counts[members]]
        statistics = _statistics({name: column[chosen] for name, column in data.items()})
        row = {**axes, **dict.fromkeys(COLUMNS), **labels, "reason": "", **statistics}
        if kernels:
            row |= rates.kernel_rates({name: column[chosen] for name, column in (data | kernels).items()})
        row["ranks"] = len(np.unique(data["rank"][members]))
        row["warmup_count"] = len(members) - len(chosen)
        rows.append(row)
    return sorted(rows, key=lambda row: [str(row[name]) for name in ("operation", "kernel", "variant", "status")])


def _kernel_columns(table: pa.Table) -> dict[str, NDArray[Any]]:
    """Return what the events say of kernels' calls; nothing where the file is of a version that did not note it."""
    if not set(rates.EVENT_COLUMNS) <= set(table.column_names):
        return {}
    return {name: table.column(name).to_numpy() for name in rates.EVENT_COLUMNS}


def _statistics(data: Mapping[str, NDArray[np.int64]]) -> Row:
    import numpy as np

    duration = data["duration_ns"] / 1e9
    count = len(duration)
    if not count:
        return {"count": 0, "total_bytes": 0}
    median, p95, p99 = np.percentile(duration, [50, 95, 99])
    of_rank = np.bincount(data["rank"])
    slowest = np.max(np.bincount(data["rank"], duration)[of_rank > 0] / of_rank[of_rank > 0])
    total_bytes = int(data["nbytes"].sum())
    transfer_s = float((data["serialize_ns"] + data["transport_ns"] + data["deserialize_ns"]).sum()) / 1e9
    parts = {
        f"mean_{part}_s": float(data[f"{part}_ns"].mean()) / 1e9
        for part in ("serialize", "transport", "wait", "deserialize")
    }
    return {
        "count": count,
        "nbytes": total_bytes / count,
        "total_bytes": total_bytes,
        "mean_s": float(duration.mean()),
        "std_s": float(duration.std(ddof=1)) if count > 1 else None,
        "median_s": float(median),
        "p95_s": float(p95),
        "p99_s": float(p99),
        "max_s": float(duration.max()),
        "max_rank_mean_s": float(slowest),
        **parts,
        "throughput_MBps": total_bytes / transfer_s / 1e6 if total_bytes and transfer_s else None,
    }


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Return the rows as a table: axes first, each as number or text; an axis of lists or mappings as JSON text."""
    import pyarrow as pa

    fixed = {
        **dict.fromkeys(_WORDS, pa.string()),
        **dict.fromkeys(_COUNTS, pa.int64()),
        **dict.fromkeys((*_NUMBERS, *rates.COLUMNS[1:]), pa.float64()),
    }
    axes = list(dict.fromkeys(name for row in rows for name in row if name not in fixed))
    columns = {name: _axis([row.get(name) for row in rows]) for name in axes}
    columns |= {name: pa.array([row.get(name) for row in rows], fixed[name]) for name in COLUMNS}
    return pa.table(columns)


def _axis(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or (len(kinds) == 1 and kinds <= {str, bool}):
        return pa.array([float(v) if float in kinds and v is not None else v for v in values])
    return pa.array([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values], pa.string())


def write_summary(rows: Sequence[Row], outputs: Iterable[Path]) -> None:
    """Write the rows to each of `outputs`, atomically: as CSV where it is named so, else as Parquet.

    Raises UserError where a file cannot be written.
    """
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    table = to_table(rows)
    for path in outputs:
        with replacing(path) as temporary:
            if path.suffix == ".csv":
                csv.write_csv(table, temporary)
            else:
                pq.write_table(table, temporary, compression="zstd")
