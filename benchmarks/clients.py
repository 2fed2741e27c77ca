"""Many clients at once: eight processes that stage 4 MB values through one server, against one of them alone.

python -m benchmarks.clients [backend …]: `one` and `eight` are bytes per second, of one client and the sum over eight,
medians of turns in which both were measured one after the other. `slowest` is the longest mean time per call of a
client over the median of the clients, in the worst turn. `put` writes a value and deletes it, `get` reads one, each
client under keys of its own. Where there are two cores or more, the sum is to be 1.5 times one client's, and no client
is to take three times as long as the others. `memcpy` is what the machine itself allows: the same processes copy arrays
of 4 MB and stage nothing; where that does not gain 1.5 (other work on the cores, one memory channel), the sum has no
target. `cores` is what one client and its server keep busy: where 1.5 times that is more than there are, the sum has no
target either. Non-zero exit if a target is missed.
"""

import multiprocessing
import os
import statistics
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from time import perf_counter_ns, sleep
from typing import Any

import psutil

from benchmarks.common import BACKENDS, Table, payload, rate, staging
from simai_rules.staging.datastore import DataStore

CLIENTS = 8
VALUE = 4_000_000
TURNS = 4
TURN_S = 1.5
TARGET_SUM, TARGET_SLOWEST = 1.5, 3.0


def client(info: dict[str, Any], number: int, orders: Connection) -> None:
    """Carry out orders (verb, begin, end) on the clock of perf_counter_ns: answer with calls and their mean seconds."""
    data = payload(VALUE)
    copied = data.copy()
    with DataStore(f"client {number}", info) as store:
        store.stage_write(f"{number}/value", data)
        orders.send("connected")
        while order := orders.recv():
            verb, begin, end = order
            sleep(max(begin - perf_counter_ns(), 0) / 1e9)
            calls, spent = 0, 0
            # Once at least: on a busy machine a client may come too late for its turn, and its one call then counts.
            while (start := perf_counter_ns()) < end or not calls:
                if verb == "memcpy":
                    copied[:] = data
                    spent += perf_counter_ns() - start
                elif verb == "put":
                    store.stage_write(f"{number}/new", data)
                    spent += perf_counter_ns() - start
                    store.clean_staged_data(f"{number}/new")
                else:
                    store.stage_read(f"{number}/value")
                    spent += perf_counter_ns() - start
                calls += 1
            orders.send((calls, spent / 1e9 / calls, (perf_counter_ns() - begin) / 1e9))


def turn(clients: list[Connection], verb: str) -> tuple[float, float]:
    """Have `clients` work at the same time; return the sum of their bytes per second, and slowest over median."""
    begin = perf_counter_ns() + 50_000_000
    for orders in clients:
        orders.send((verb, begin, begin + int(TURN_S * 1e9)))
    answers = []
    for orders in clients:
        assert orders.poll(120), "a client does not answer"
        answers.append(orders.recv())
    means = [mean for _, mean, _ in answers]
    return sum(calls * VALUE / seconds for calls, _, seconds in answers), max(means) / statistics.median(means)


def measure(table: Table, backend: str) -> None:
    context = multiprocessing.get_context("spawn")
    with staging(backend) as info:
        ends = [context.Pipe() for _ in range(CLIENTS)]
        processes = [
            context.Process(target=client, args=(info, number, end), daemon=True)
            for number, (_, end) in enumerate(ends)
        ]
        clients = [orders for orders, _ in ends]
        for process in processes:
            process.start()
        try:
            for orders in clients:
                assert orders.poll(120), "a client does not connect"
                orders.recv()
            allowed = row(table, backend, "memcpy", clients, 0.0)
            for verb in ("put", "get"):
                row(table, backend, verb, clients, allowed)
            for orders in clients:
                orders.send(None)
        finally:
            for process in processes:
                process.join(10)
                process.kill()


def cpu_seconds() -> float:
    """Return the processor time of all processes that this one has started: the clients and the server."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def row(table: Table, backend: str, verb: str, clients: list[Connection], allowed: float) -> float:
    """Measure and print one verb; return what eight clients gained. allowed: what the machine lets them gain."""
    turn(clients, verb)
    alone, together, busy = [], [], []
    for _ in range(TURNS):
        before, start = cpu_seconds(), perf_counter_ns()
        alone.append(turn(clients[:1], verb)[0])
        busy.append((cpu_seconds() - before) / ((perf_counter_ns() - start) / 1e9))
        together.append(turn(clients, verb))
    ratio = statistics.median(both / one for one, (both, _) in zip(alone, together, strict=True))
    slowest = max(worst for _, worst in together)
    met, target = slowest <= TARGET_SLOWEST, f"slowest <= {TARGET_SLOWEST:g}"
    cores = statistics.median(busy)
    if allowed >= TARGET_SUM and cores * TARGET_SUM <= len(os.sched_getaffinity(0)):
        met, target = met and ratio >= TARGET_SUM, f"ratio >= {TARGET_SUM:g}, {target}"
    total = statistics.median(both for both, _ in together)
    cells = (rate(VALUE, VALUE / statistics.median(alone)), rate(VALUE, VALUE / total))
    table.add(
        backend,
        verb,
        *cells,
        f"{cores:.1f}",
        f"{ratio:.2f}",
        f"{slowest:.2f}",
        target=target,
        met=met if allowed else None,
    )
    return ratio


def main(backends: list[str]) -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("backend", "verb", "one", "eight", "cores", "ratio", "slowest", "target"))
    for backend in backends or BACKENDS:
        measure(table, backend)
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
