"""Staging at the speed of the hardware: the DataStore's verbs against the plainest code that moves the same bytes.

python -m benchmarks.staging [backend …]: each row gives the medians of ours and of the plain code, and the median
quotient of rounds in which both ran one after the other. Non-zero exit if a target is missed.

`first write` is one to a new key, after the value before was deleted, untimed. The plain code makes a new file for it.
From 64 KiB on, node-local does not: it fills one segment again and again, as for any steady writer of one value at a
time, so its row says what that is worth. benchmarks.node_local has several values in flight.

`read` fills fresh memory: what is read is kept, as by a training that learns from it, so that the allocator has nothing
to give a second time. `read, reused` drops each value at once and gets the same memory again; `replacing` writes over
the value that is there, which on ext4 forces a flush. These two have no target. Nor have the rows of `null`, which
moves nothing: they are the microseconds that a verb of the DataStore takes by itself.
"""

import os
import socket
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.common import BACKENDS, ROUNDS, Table, client, compare, payload, rate, size
from simai_rules.staging.datastore import DataStore

SIZES = (4_000, 400_000, 4_000_000, 32_000_000, 128_000_000)
RECYCLED = 32_000_000
"""The C library gives memory of up to about this size out again; larger ones are always fresh."""
Timed = Callable[[int], float]


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


class RawFiles:
    """open, write, rename; open, readv into a fresh buffer."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def write(self, name: str, data: np.ndarray) -> None:
        temporary = f"{self.folder}/.tmp.raw"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, data)
        os.close(descriptor)
        os.rename(temporary, f"{self.folder}/{name}")  # noqa: PTH104 - the plainest call

    def read(self, name: str, elements: int) -> np.ndarray:
        descriptor = os.open(f"{self.folder}/{name}", os.O_RDONLY)
        data = np.empty(elements, np.float32)
        os.readv(descriptor, (data,))
        os.close(descriptor)
        return data

    def delete(self, name: str) -> None:
        os.unlink(f"{self.folder}/{name}")  # noqa: PTH108 - the plainest call


class RawRedis:
    """SET by sendmsg, GET by recv_into a fresh buffer."""

    def __init__(self, address: dict) -> None:
        self.socket = socket.create_connection((address["host"], address["port"]))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(f"AUTH {address['password']}\r\n".encode())
        assert self.socket.recv(100) == b"+OK\r\n"

    def write(self, name: str, data: np.ndarray) -> None:
        key = name.encode()
        start = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, data.nbytes)
        sent = self.socket.sendmsg((start, data, b"\r\n"))
        assert sent == len(start) + data.nbytes + 2
        assert self.socket.recv(100) == b"+OK\r\n"

    def read(self, name: str, elements: int) -> np.ndarray:
        key = name.encode()
        self.socket.sendall(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
        data = np.empty(elements, np.float32)
        start = b"$%d\r\n" % data.nbytes
        assert self.socket.recv(len(start), socket.MSG_WAITALL) == start
        view = memoryview(data).cast("B")
        while len(view):
            view = view[self.socket.recv_into(view) :]
        assert self.socket.recv(2, socket.MSG_WAITALL) == b"\r\n"
        return data

    def delete(self, name: str) -> None:
        key = name.encode()
        self.socket.sendall(b"*2\r\n$6\r\nUNLINK\r\n$%d\r\n%b\r\n" % (len(key), key))
        self.socket.recv(100)


def first_write(write: Callable[[str], object], delete: Callable[[str], object]) -> Timed:
    """Time a write to a new name; the value is removed again, untimed."""

    def run(number: int) -> float:
        seconds = timed(lambda: write(f"first-{number}"))
        delete(f"first-{number}")
        return seconds

    return run


def measure(table: Table, backend: str, store: DataStore, raw: RawFiles | RawRedis, nbytes: int) -> None:
    """Compare the first write, reads and the replacing write at one size."""
    data = payload(nbytes)
    elements = data.size
    small = nbytes < 100_000
    rounds = 201 if nbytes < 1e6 else 31 if nbytes < 1e7 else ROUNDS
    target = 0.7 if backend == "redis" else 0.8

    def row(verb: str, ours: Timed, plain: Timed, counted: bool) -> None:
        result = compare(ours, plain, rounds)
        cells = (backend, size(nbytes), verb, rate(nbytes, result.ours_s), rate(nbytes, result.raw_s))
        if not counted:
            table.add(*cells, f"{result.ratio:.2f}")
        elif small:
            table.add(*cells, f"{result.ratio:.2f}", target="< 100 us", met=result.ours_s < 100e-6)
        else:
            table.add(*cells, f"{result.ratio:.2f}", target=f">= {target}", met=result.ratio >= target)

    counted = backend != "redis" or nbytes >= 4_000_000
    row(
        "first write",
        first_write(lambda key: store.stage_write(key, data), store.clean_staged_data),
        first_write(lambda key: raw.write(key, data), raw.delete),
        counted,
    )
    store.stage_write("ours", data)
    raw.write("raw", data)
    kept: list[np.ndarray] = []
    keep = kept.append if nbytes <= RECYCLED else len
    row(
        "read",
        lambda _: timed(lambda: keep(store.stage_read("ours"))),
        lambda _: timed(lambda: keep(raw.read("raw", elements))),
        counted,
    )
    kept.clear()
    if nbytes <= RECYCLED:
        row(
            "read, reused",
            lambda _: timed(lambda: store.stage_read("ours")),
            lambda _: timed(lambda: raw.read("raw", elements)),
            counted=False,
        )
    assert np.array_equal(store.stage_read("ours"), data)
    if nbytes <= RECYCLED:
        rounds = min(rounds, ROUNDS)
        row(
            "replacing",
            lambda _: timed(lambda: store.stage_write("ours", data)),
            lambda _: timed(lambda: raw.write("raw", data)),
            counted=False,
        )
    store.clean_staged_data("ours")
    raw.delete("raw")


def measure_own_layers(table: Table) -> None:
    """Add the microseconds of each verb where nothing is moved; a read allocates its array."""
    rounds = 1001
    with client("null") as (store, _):
        for nbytes in (4_000, 4_000_000):
            data, out = payload(nbytes), np.empty(nbytes // 4, np.float32)
            verbs: dict[str, Callable[[], object]] = {
                "write": lambda data=data: store.stage_write("key", data),
                "read": lambda: store.stage_read("key"),
                "read into out": lambda out=out: store.stage_read("key", out=out),
                "poll": lambda: store.poll_staged_data("key"),
                "delete": lambda: store.clean_staged_data("key"),
            }
            for verb, action in verbs.items():
                seconds = statistics.median(timed(action) for _ in range(rounds))
                table.add("null", size(nbytes), verb, f"{seconds * 1e6:.1f} us", "-", "-")


def main(backends: list[str]) -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("backend", "size", "verb", "ours", "plain", "ratio", "target"))
    for backend in backends or (*BACKENDS, "null"):
        if backend == "null":
            measure_own_layers(table)
            continue
        with client(backend) as (store, address):
            raw = RawRedis(address) if backend == "redis" else RawFiles(Path(address["folder"]))
            for nbytes in SIZES:
                measure(table, backend, store, raw, nbytes)
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
