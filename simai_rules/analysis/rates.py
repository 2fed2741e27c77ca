"""What kernels achieved: GFLOP/s and GB/s of one rank, from the operations, bytes and times of their events.

A rate is an event's operations or bytes over the time of its calls: by the device's own events where there are any,
else by the clock (work_ns). The busy finish that fills a run_time is in neither, so a rate tells what the iteration's
time hides: a kernel that is slowed down does less work in the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNITS = ("GFLOPps", "GBps")
"""Of the columns: 1e9 floating-point operations per second, 1e9 bytes per second."""
STATISTICS = ("median", "p5", "p95", "slowest_rank")
RATES = tuple(f"{statistic}_{unit}" for unit in UNITS for statistic in STATISTICS)
COLUMNS = ("calls", "median_call_s", *RATES)
EVENT_COLUMNS = ("calls", "work_ns", "device_ns", "flops")
"""Of a file of events, beside its older ones; files of the first versions lack them."""


def kernel_rates(data: Mapping[str, NDArray[np.float64]]) -> dict[str, float | int]:
    """Return those of COLUMNS that are known, from the columns rank, nbytes and EVENT_COLUMNS of a kernel's events.

    Events without a call are left out; a rate is there only where a call has operations or bytes at all. The slowest
    rank is the one with the smallest median; a rank that has nothing to do (such as all but the first of
    WriteSingleRank) is none.
    """
    import numpy as np

    spent = np.where(data["device_ns"] > 0, data["device_ns"], data["work_ns"])  # in ns, as are GFLOP/s and GB/s
    called = (data["calls"] > 0) & (spent > 0)
    if not called.any():
        return {}
    spent, rank, calls = spent[called], data["rank"][called], data["calls"][called]
    found: dict[str, float | int] = {
        "calls": int(calls.sum()),
        "median_call_s": float(np.median(spent / calls)) / 1e9,
    }
    for unit, amount in zip(UNITS, (data["flops"][called], data["nbytes"][called]), strict=True):
        working = amount > 0
        if not working.any():
            continue
        by_rank = np.flatnonzero(working)[np.argsort(rank[working], kind="stable")]
        rates, of = amount[by_rank] / spent[by_rank], rank[by_rank]
        p5, median, p95 = np.percentile(rates, [5, 50, 95])
        slowest = min(np.median(each) for each in np.split(rates, np.flatnonzero(np.diff(of)) + 1))
        values = {"median": median, "p5": p5, "p95": p95, "slowest_rank": slowest}
        found |= {f"{statistic}_{unit}": float(values[statistic]) for statistic in STATISTICS}
    return found


def sizes(data: Mapping[str, NDArray[np.float64]], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each event which size of its kernel it is, 1 being the smallest; 0 where a rank runs only one size.

    `group`, shape (events,), tells kernels apart by other things than their work; `data` is that of kernel_rates.
    The size is told by the operations and bytes of a call. Where they differ between ranks alone (a halo at the edge of
    the mesh, a file that rank 0 writes), that is one size.
    """
    import numpy as np

    found = np.zeros(len(group), np.int64)
    called = np.flatnonzero(data["calls"] > 0)
    for one in np.unique(group[called]):
        events = called[group[called] == one]
        calls = data["calls"][events]
        # Rounded: what was multiplied by the calls and is divided by them need not be the same to the last bit.
        flops, nbytes = (data["flops"][events] / calls).astype(np.float32), data["nbytes"][events] // calls
        if flops.min() == flops.max() and nbytes.min() == nbytes.max():
            continue
        by_flops, by_bytes = (np.unique(amounts, return_inverse=True)[1] for amounts in (flops, nbytes))
        work = by_flops * (int(by_bytes.max()) + 1) + by_bytes
        pairs, which = np.unique(data["rank"][events] * (int(work.max()) + 1) + work, return_inverse=True)
        ranks = pairs // (int(work.max()) + 1)
        if len(np.unique(ranks)) < len(ranks):
            place = np.arange(len(ranks)) - np.searchsorted(ranks, ranks)
            found[events] = place[which] + 1
    return found
