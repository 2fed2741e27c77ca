"""node-local at memory speed: what a writer that stages one value after another pays, against what the node can do.

python -m benchmarks.node_local: each row gives the medians of ours and of the plain code in GB/s, and the median
quotient of rounds in which both ran one after the other. Non-zero exit if a target is missed.

`put` is what a coupled run does: a new key each time, and what was staged IN_FLIGHT values ago is deleted, untimed, as
by its reader. It is measured against open, write and rename to new names in the same folder, and against memcpy
(np.copyto into memory that is used again). `cycle` is all of it: put a new key, read the oldest into a fresh array,
delete it; against the same with plain files.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import ROUNDS, Table, client, compare, payload, rate, size
from benchmarks.staging import RawFiles, timed
from simai_rules.staging.datastore import DataStore

SIZES = (4_000, 100_000, 1_000_000, 4_000_000, 32_000_000, 128_000_000)
IN_FLIGHT = 3
COUNTED = 4_000_000
"""Bytes from which on the targets hold."""
Write = Callable[[str, np.ndarray], object]
Delete = Callable[[str], object]


class Stream:
    """Writes one key after another; IN_FLIGHT of them are there at a time."""

    def __init__(self, data: np.ndarray, write: Write, delete: Delete, read: Callable[[str], np.ndarray]) -> None:
        self._data, self._write, self._delete, self._read = data, write, delete, read
        self._step = 0

    def put(self, _round: int) -> float:
        """Return the seconds of a write; the oldest value is deleted before."""
        self.drop(self._step - IN_FLIGHT)
        seconds = timed(lambda: self._write(f"step-{self._step}", self._data))
        self._step += 1
        return seconds

    def cycle(self, _round: int) -> float:
        """Return the seconds of a write, a read of the oldest value and its deletion."""

        def act() -> None:
            oldest = f"step-{self._step - IN_FLIGHT}"
            self._write(f"step-{self._step}", self._data)
            self._read(oldest)
            self._delete(oldest)

        seconds = timed(act)
        self._step += 1
        return seconds

    def drop(self, step: int) -> None:
        """Delete the value of `step`, if there is one."""
        if step >= 0:
            self._delete(f"step-{step}")

    def end(self) -> None:
        """Check the last value and delete what is left."""
        assert np.array_equal(self._read(f"step-{self._step - 1}"), self._data)
        for step in range(self._step - IN_FLIGHT, self._step):
            self.drop(step)


def measure(table: Table, store: DataStore, raw: RawFiles, nbytes: int) -> None:
    """Add the rows of one size."""
    data = payload(nbytes)
    rounds = 201 if nbytes < COUNTED else 51 if nbytes == COUNTED else ROUNDS
    counted = nbytes >= COUNTED
    ours = Stream(data, store.stage_write, store.clean_staged_data, store.stage_read)
    plain = Stream(data, raw.write, raw.delete, lambda name: raw.read(name, data.size))
    warm = np.zeros_like(data)

    def row(verb: str, mine: Callable[[int], float], other: Callable[[int], float], least: float | None) -> None:
        result = compare(mine, other, rounds)
        cells = (size(nbytes), verb, rate(nbytes, result.ours_s), rate(nbytes, result.raw_s), f"{result.ratio:.2f}")
        if nbytes < 100_000 and least is not None:
            table.add(*cells, target="< 100 us", met=result.ours_s < 100e-6)
        elif counted and least is not None:
            table.add(*cells, target=f">= {least}", met=result.ratio >= least)
        else:
            table.add(*cells)

    for _ in range(2 * IN_FLIGHT):  # the first values of a size go to new files
        ours.put(0)
        plain.put(0)
    row("put / new file", ours.put, plain.put, 2.0)
    row("put / memcpy", ours.put, lambda _: timed(lambda: np.copyto(warm, data)), 0.5)
    row("cycle / plain", ours.cycle, plain.cycle, None)
    ours.end()
    plain.end()


def main() -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("size", f"{'verb':<15}", "ours", "plain", "ratio", "target"))
    with client("node-local") as (store, address):
        raw = RawFiles(Path(address["folder"]))
        for nbytes in SIZES:
            measure(table, store, raw, nbytes)
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main())
