"""How late a waiting reader is: from the end of a write in another process to the return of `stage_read`.

python -m benchmarks.waiting [backend …]: median and 95th percentile of 4 KB values written at odd moments, and the
share of a core that a reader uses who waits for 1 s. Non-zero exit if a target is missed.
"""

import contextlib
import multiprocessing
import random
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.common import BACKENDS, Table, payload, staging
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import StagingTimeout

MESSAGES = 200
TARGETS_MS = {"node-local": (0.5, 2.0), "redis": (0.5, 2.0), "filesystem": (5.0, 5.0)}
CPU = 0.20


def write(info: dict[str, Any], pipe: Connection) -> None:
    """Write a value some milliseconds after each request; answer with the moment when the write had ended."""
    data = payload(4000)
    with DataStore("writer", info) as store:
        while key := pipe.recv():
            time.sleep(random.uniform(0.005, 0.02))
            store.stage_write(key, data)
            pipe.send(time.perf_counter_ns())


def late_ms(store: DataStore, info: dict[str, Any]) -> np.ndarray:
    """Return how much later than the end of the write each read returned."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=write, args=(info, theirs))
    writer.start()
    late = []
    for number in range(MESSAGES):
        key = f"message/{number}"
        ours.send(key)
        store.stage_read(key, timeout=30)
        returned = time.perf_counter_ns()
        # Negative where the reader had it before the writer knew that it was done.
        late.append((returned - ours.recv()) / 1e6)
        store.clean_staged_data(key)
    ours.send("")
    writer.join()
    return np.array(late)


def share_of_a_core(store: DataStore) -> float:
    """Return the processor time of a fruitless wait of 1 s over its length."""
    used, start = time.process_time(), time.perf_counter()
    with contextlib.suppress(StagingTimeout):
        store.stage_read("never", timeout=1)
    return (time.process_time() - used) / (time.perf_counter() - start)


def main(backends: list[str]) -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("backend", "median", "p95", "maximum", "core used", "target"))
    for backend in backends or BACKENDS:
        with staging(backend) as info, DataStore("reader", info) as store:
            late = late_ms(store, info)
            share = share_of_a_core(store)
        median, p95 = np.percentile(late, [50, 95])
        most, most95 = TARGETS_MS[backend]
        table.add(
            backend,
            f"{median:.3f} ms",
            f"{p95:.3f} ms",
            f"{late.max():.3f} ms",
            f"{share:.1%}",
            target=f"<= {most:g} ms, <= {most95:g} ms, < {CPU:.0%}",
            met=median <= most and p95 <= most95 and share < CPU,
        )
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
