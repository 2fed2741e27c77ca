"""redis-cluster against redis: the same bytes by the same client code, in turns; and how soon a cluster is ready.

python -m benchmarks.cluster: each row gives the medians of a cluster of three masters and of one redis-server, and the
median quotient of rounds in which both ran one after the other. The keys are spread over the masters. Non-zero exit if
a target is missed.
"""

import sys
from time import perf_counter

import numpy as np

from benchmarks.common import ROUNDS, Table, client, compare, payload, rate, size
from benchmarks.staging import RECYCLED, Timed, first_write, timed
from simai_rules.staging.datastore import DataStore

SIZES = (4_000, 400_000, 4_000_000, 64_000_000)
TARGET = 0.85
READY_S = 10.0
_NAMES = 4
"""Values that are read in turn; on three masters at least one of them is on another one."""


def put(store: DataStore, data: np.ndarray) -> Timed:
    """Time a write to a new name, which is removed again."""
    return first_write(lambda name: store.stage_write(name, data), store.clean_staged_data)


def get(store: DataStore, data: np.ndarray) -> Timed:
    """Time a read into fresh memory: small values are kept, so that the allocator has nothing to give again."""
    for number in range(_NAMES):
        store.stage_write(f"read-{number}", data)
    kept: list[np.ndarray] = []
    keep = kept.append if data.nbytes <= RECYCLED else len
    return lambda number: timed(lambda: keep(store.stage_read(f"read-{number % _NAMES}")))


def measure(table: Table, cluster: DataStore, single: DataStore, nbytes: int) -> None:
    """Compare put and get at one size."""
    data = payload(nbytes)
    rounds = 401 if nbytes < 1e6 else 61 if nbytes < 1e7 else ROUNDS
    for verb, make in (("put", put), ("get", get)):
        result = compare(make(cluster, data), make(single, data), rounds)
        cells = (size(nbytes), verb, rate(nbytes, result.ours_s), rate(nbytes, result.raw_s), f"{result.ratio:.2f}")
        table.add(*cells, target=f">= {TARGET}", met=result.ratio >= TARGET)
    for store in (cluster, single):
        for number in range(_NAMES):
            store.clean_staged_data(f"read-{number}")


def main() -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("size", "verb", "cluster", "redis", "ratio", "target"))
    with client("redis-cluster") as (cluster, _), client("redis") as (single, _):
        for number in range(50):
            cluster.poll_staged_data(f"first-{number}")  # connects to every master, outside of what is timed
        for nbytes in SIZES:
            measure(table, cluster, single, nbytes)
    start = perf_counter()
    with client("redis-cluster"):
        seconds = perf_counter() - start
    table.add("", "ready", f"{seconds:.1f} s", "", "", target=f"<= {READY_S:g} s", met=seconds <= READY_S)
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main())
