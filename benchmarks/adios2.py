"""Streams by ADIOS2: ours against the library's own calls on the same bytes, between two processes.

python -m benchmarks.adios2: each row gives the medians of ours and of the plain calls for one step, from the word to
the writer until the reader has the array and has given the step back, and the median quotient of rounds in which both
ran one after the other. Both engines have the same parameters, and sockets that send at once: with SST's own settings a
small step takes 44 ms, which is a timer of TCP, and nothing else would be seen. Non-zero exit if a target is missed.
"""

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.common import Table, compare, payload, rate, size
from simai_rules.staging.backends.adios2 import Options, bindings
from simai_rules.staging.backends.sst_sockets import own_sockets, send_at_once
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.servers import ServerManager, server_registry

SIZES = (4_000, 4_000_000, 64_000_000)
TARGET = 0.9


class Plain:
    """One variable, and the calls of ADIOS2's documentation."""

    def __init__(self, info: dict[str, Any], mode: str) -> None:
        self.sst = bindings()
        self.adios = self.sst.ADIOS()
        self.io = self.adios.DeclareIO("plain")
        self.io.SetEngine("SST")
        self.io.SetParameters(Options(**info["address"]["streams"]).engine())
        before = own_sockets()
        self.engine = self.io.Open(str(Path(info["address"]["folder"], "plain")), getattr(self.sst.Mode, mode))
        for descriptor in own_sockets() - before:
            send_at_once(descriptor)
        self.variable = None

    def write(self, data: np.ndarray) -> None:
        if self.variable is None:
            self.variable = self.io.DefineVariable("data", data, [], [], [data.size], False)
        self.engine.BeginStep(self.sst.StepMode.Append, -1.0)
        self.variable.SetSelection(([], [data.size]))
        self.engine.Put(self.variable, data, self.sst.Mode.Deferred)
        self.engine.EndStep()

    def read(self) -> np.ndarray:
        assert self.engine.BeginStep(self.sst.StepMode.Read, 60.0) == self.sst.StepStatus.OK
        variable = self.io.InquireVariable("data")
        variable.SetBlockSelection(0)
        data = np.empty(variable.SelectionSize(), np.float32)
        self.engine.Get(variable, data, self.sst.Mode.Sync)
        self.engine.EndStep()
        return data


def write_on_word(info: dict[str, Any], words: Connection) -> None:
    """The writer's process: a step of the named kind and size for each word."""
    with DataStore("writer", info) as store, store.stream_writer("ours") as ours:
        plain = Plain(info, "Write")
        data = {nbytes: payload(nbytes) for nbytes in SIZES}
        while word := words.recv():
            kind, nbytes = word
            if kind == "plain":
                plain.write(data[nbytes])
            else:
                ours.begin_step()
                ours.write(data[nbytes])
                ours.end_step()
        plain.engine.Close()


def main() -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("size", "ours", "plain", "ratio", "target"))
    words, others = multiprocessing.Pipe()
    with (
        TemporaryDirectory(prefix="simai-rules-bench-") as folder,
        ServerManager("bench", server_registry.create_config("adios2", folder=folder)) as server,
    ):
        info = server.get_server_info()
        child = multiprocessing.get_context("spawn").Process(target=write_on_word, args=(info, others), daemon=True)
        child.start()
        with DataStore("reader", info) as store, store.stream_reader("ours") as ours:
            plain = Plain(info, "Read")

            def read() -> np.ndarray:
                ours.begin_step()
                data: np.ndarray = ours.read()
                ours.end_step()
                return data

            for nbytes in SIZES:
                measure(table, words, nbytes, read, plain.read)
            words.send(None)
            plain.engine.Close()
        child.join(30)
    return min(table.failed, 1)


def measure(
    table: Table, words: Connection, nbytes: int, ours: Callable[[], np.ndarray], plain: Callable[[], np.ndarray]
) -> None:
    """Compare steps of one size."""
    expected = payload(nbytes)

    def timed(kind: str, read: Callable[[], np.ndarray]) -> float:
        start = perf_counter()
        words.send((kind, nbytes))
        data = read()
        seconds = perf_counter() - start
        assert np.array_equal(data, expected)
        return seconds

    result = compare(lambda _: timed("ours", ours), lambda _: timed("plain", plain), 31 if nbytes > 10_000_000 else 101)
    table.add(
        size(nbytes),
        rate(nbytes, result.ours_s),
        rate(nbytes, result.raw_s),
        f"{result.ratio:.2f}",
        target=f">= {TARGET}",
        met=result.ratio >= TARGET,
    )


if __name__ == "__main__":
    sys.exit(main())
