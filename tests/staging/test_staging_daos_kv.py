"""What only daos-kv has. There is no DAOS here: tests/standins/pydaos stands in for pydaos. Not run on real DAOS."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from staging_servers import STANDINS

from simai_rules.errors import MissingProgram
from simai_rules.staging.backends.daos_kv import CHUNK, RUN
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingFull
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, server_registry

LONG = np.arange(5 * CHUNK // 8 + 1000)


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """The folder in which the stand-in keeps a pool with one container."""
    monkeypatch.setenv("PYTHONPATH", str(STANDINS))
    monkeypatch.syspath_prepend(str(STANDINS))
    monkeypatch.delitem(sys.modules, "pydaos", raising=False)
    folder = tmp_path / "pool"
    (folder / "container").mkdir(parents=True)
    yield folder
    (folder / "fault").unlink(missing_ok=True)
    sys.modules.pop("pydaos", None)


@pytest.fixture
def server(pool):
    config = server_registry.create_config("daos-kv", pool=str(pool), container="container")
    with ServerManager("daos", config) as started:
        yield started


@pytest.fixture
def info(server):
    return ServerInfo.from_dict(server.get_server_info())


@pytest.fixture
def store(info, connect):
    return connect(info)


@pytest.fixture
def content(pool, info):
    """Return a function that lists the names in the run's object."""
    import pydaos

    found = pydaos.DCont(str(pool), "container").get(f"simai-rules-{info.run_id}")
    return lambda: sorted(found)


def files_in(pool):
    return [path for path in pool.rglob("*") if path.is_file()]


def wait_for(state, server, seconds=20):
    """Wait until the server says `state`; return the reason."""
    deadline = time.monotonic() + seconds
    while (found := server._state())[0] != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found[1]


def test_the_stand_in_has_the_oddities_of_pydaos(pool):
    import pydaos

    container = pydaos.DCont(str(pool), "container")
    with pytest.raises(pydaos.DObjNotFound):
        container.get("absent")
    made = container.dict("object")
    with pytest.raises(pydaos.PyDError, match="DER_EXIST"):
        container.dict("object")
    for nothing in (None, "", b""):
        made.put("key", "ü")
        assert made["key"] == "ü".encode()
        made.put("key", nothing)
        assert "key" not in made
        with pytest.raises(KeyError):
            made.get("key")
    assert made.pop("key") is None
    made["cut\0here"] = b"x"
    asked = {"cut": 1, "absent": 2}
    made.bget(asked)
    assert asked == {"cut": b"x", "absent": None}
    assert list(made) == ["cut"]
    for wrong in (bytearray(b"x"), memoryview(b"x"), 3):
        with pytest.raises(TypeError):
            made.put("key", wrong)
    made.round_trips = 0
    made["large"] = bytes(CHUNK + 1)
    made.get("large")
    assert made.round_trips == 1 + 2
    assert len(made) == 2


def test_a_short_value_is_one_entry_and_a_long_one_chunks_of_one_round_trip_each(store, content):
    store.stage_write("a/b", 1)
    assert content() == ["ka%2Fb.safetensors", RUN]
    store.stage_write("a/b", LONG)
    chunks = [name for name in content() if name.startswith("c")]
    assert len(chunks) == 6
    asked = store._backend._object
    asked.round_trips = 0
    np.testing.assert_array_equal(store.stage_read("a/b"), LONG)
    assert asked.round_trips == 2 + len(chunks)


@pytest.mark.parametrize("nbytes", [CHUNK - 1, CHUNK, CHUNK + 1, 17 * CHUNK])
def test_sizes_around_those_of_chunks_and_of_what_is_asked_for_at_once(store, nbytes):
    header = 128
    data = np.random.default_rng(1).bytes(nbytes - header)
    store.stage_write("key", data)
    assert store.stage_read("key") == data


def test_chunks_go_with_their_value(store, content):
    store.stage_write("key", LONG)
    first = content()
    store.stage_write("key", LONG)
    assert len(content()) == len(first)
    assert set(content()) & set(first) == {RUN, "kkey.safetensors"}
    store.stage_write("key", "short")
    assert content() == ["kkey.safetensors", RUN]
    store.stage_write("key", LONG)
    assert store.clean_staged_data("key")
    assert content() == [RUN]


def test_a_value_that_is_replaced_while_it_is_opened_is_read_anew(store, info, connect, monkeypatch):
    store.stage_write("key", LONG)
    backend, other = store._backend, connect(info)
    real, replaced = backend._fetch, []

    def fetch(chunks, what):
        if not replaced:
            replaced.append(other.stage_write("key", LONG + 1))
        return real(chunks, what)

    monkeypatch.setattr(backend, "_fetch", fetch)
    np.testing.assert_array_equal(store.stage_read("key"), LONG + 1)
    assert replaced


def test_a_value_that_has_lost_a_chunk_is_corrupt(store, content):
    store.stage_write("key", LONG)
    del store._backend._object[next(name for name in content() if name.startswith("c"))]
    with pytest.raises(CorruptValue, match=r"'key' on daos-kv .* lost chunks"):
        store.stage_read("key")


def test_an_entry_with_a_flipped_bit_is_corrupt_and_can_be_replaced_and_deleted(store):
    """Each bit of the entry that names chunks."""
    values, name = store._backend._object, "kkey.safetensors"
    store.stage_write("key", LONG)
    entry = values[name]
    assert entry.startswith(b"c")
    for position in range(8 * len(entry)):
        damaged = bytearray(entry)
        damaged[position // 8] ^= 1 << position % 8
        values[name] = bytes(damaged)
        with pytest.raises(CorruptValue, match="'key'"):
            store.stage_read("key")
    huge = b"c%s 1048576 c0123456789abcdef.1" % (b"9" * 5000)
    for damaged in (b"c", b"c1", b"c9 0 x", b"x", huge, b"c1 \xff\xfe \x00", entry[:-1]):
        values[name] = damaged
        with pytest.raises(CorruptValue, match="'key'"):
            store.stage_read("key")
        assert store.clean_staged_data("key")
        values[name] = damaged
        store.stage_write("key", "new")
        assert store.stage_read("key") == "new"


def test_a_full_pool_is_told_and_keeps_the_value_before(store, pool, content):
    store.stage_write("key", "old")
    before = content()
    (pool / "fault").write_text("full")
    for value in ("new", LONG):
        with pytest.raises(StagingFull, match="no room to take key 'key'"):
            store.stage_write("key", value)
    (pool / "fault").unlink()
    assert content() == before
    assert store.stage_read("key") == "old"


def test_a_write_that_breaks_off_leaves_no_chunks(store, content, monkeypatch):
    real, calls = store._backend._store, []

    def break_off(entries, what):
        calls.append(entries)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(entries, what)

    monkeypatch.setattr(store._backend, "_store", break_off)
    with pytest.raises(KeyboardInterrupt):
        store.stage_write("key", LONG)
    assert content() == [RUN]


def test_stopping_empties_the_object_of_the_run_and_no_other(pool, server, info, connect):
    import pydaos

    pydaos.DCont(str(pool), "container").dict("of the user").put("mine", "kept")
    connect(info).stage_write("key", LONG)
    kept = files_in(pool / "container" / "of the user")
    server.stop_server()
    assert files_in(pool) == kept


def test_a_killed_writer_and_a_killed_server_leave_nothing_in_the_container(pool, server, info, store, start_peer):
    writer = start_peer("write_forever", info, "key", 20_000_000)
    store.stage_read("started")
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    store.close()
    os.kill(info.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while files_in(pool) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert files_in(pool) == []


def test_a_client_that_outlives_its_run_is_told(server, store):
    store.stage_write("key", LONG)
    server.stop_server()
    for verb in (
        lambda: store.stage_write("key", 1),
        lambda: store.stage_read("key", timeout=5),
        lambda: store.poll_staged_data("key", timeout=5),
        lambda: store.clean_staged_data("key"),
    ):
        with pytest.raises(ServerLost, match="gone"):
            verb()


def test_a_client_of_another_run_is_refused(info, connect):
    from dataclasses import replace

    with pytest.raises(ServerLost, match="not that of the run"):
        connect(replace(info, run_id="another"))


def test_a_dead_daos_is_told_to_clients_and_ends_the_server(pool, server, store):
    store.stage_write("key", 1)
    (pool / "fault").write_text("dead")
    with pytest.raises(ServerLost, match="DER_TIMEDOUT"):
        store.stage_read("key")
    reason = wait_for("failed", server)
    assert "does not answer any more: PyDError: " in reason
    assert "DER_TIMEDOUT" in reason


def test_a_daos_that_hangs_ends_the_server(pool, server):
    (pool / "fault").write_text("hanging")
    start = time.monotonic()
    assert "has not answered for 5 s" in wait_for("failed", server)
    server._process.wait(20)
    assert time.monotonic() - start < 25


def test_a_set_wall_clock_ends_no_run(pool, tmp_path, monkeypatch):
    from simai_rules.lifecycle.reaper import clean
    from simai_rules.lifecycle.run_folder import RunFolder
    from simai_rules.staging.servers.daos_kv import make_server

    run = RunFolder.create(tmp_path / "server.json", None)
    config = server_registry.create_config("daos-kv", pool=str(pool), container="container")
    server = make_server(config, run, ["here"], 0)
    try:
        server.start()
        server.check()
        for step_s in (-7200, 7200):
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda step_s=step_s, real=time.time: real() + step_s)
                server.check()
    finally:
        server.stop()
        clean(run, "")
    assert server._child.returncode == -signal.SIGKILL


def test_a_child_that_does_not_end_is_not_waited_for_without_a_deadline(pool, monkeypatch):
    from simai_rules.staging.servers import daos_kv

    class Stuck:
        killed = False

        def kill(self):
            self.killed = True

        def wait(self, timeout):
            raise subprocess.TimeoutExpired("keep", timeout)

    config = server_registry.create_config("daos-kv", pool=str(pool), container="container")
    server = daos_kv.DaosKvServer.__new__(daos_kv.DaosKvServer)
    server.config, server._child = config, Stuck()
    server.stop()
    assert server._child.killed


def test_a_halted_asker_ends_the_server(info, server):
    import psutil

    [asker] = [child for child in psutil.Process(info.pid).children() if "keep" in child.cmdline()]
    asker.suspend()
    assert "halted" in wait_for("failed", server)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"container": "absent"}, ["DER_NONEXIST", "type PYTHON"]), ({"pool": "/absent"}, ["/absent", "daos pool query"])],
)
def test_a_container_that_is_not_there(pool, options, words):
    config = server_registry.create_config("daos-kv", **({"pool": str(pool), "container": "container"} | options))
    with pytest.raises(ServerFailed) as caught:
        ServerManager("daos", config).start_server()
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_daos_that_does_not_answer_at_the_start(pool, monkeypatch):
    from simai_rules.lifecycle.run_folder import RunFolder
    from simai_rules.staging.servers import daos_kv

    (pool / "fault").write_text("hanging")
    monkeypatch.setattr(daos_kv, "_START_S", 2.0)
    run = RunFolder.create(pool / "server.json", None)
    try:
        config = server_registry.create_config("daos-kv", pool=str(pool), container="container")
        with pytest.raises(ServerFailed, match="did not answer within 2 s"):
            daos_kv.make_server(config, run, ["here"], 0).start()
        assert run.claimed_commands()[0][3:] == ["empty", str(pool), "container", f"simai-rules-{run.run_id}"]
    finally:
        from simai_rules.lifecycle.reaper import clean

        clean(run, "")
    assert not run.folder.exists()


def test_emptying_twice_or_nothing_is_fine(pool, info, store):
    import pydaos

    store.stage_write("key", LONG)
    command = [sys.executable, "-m", "simai_rules.staging.backends.daos_objects", "empty", str(pool), "container"]
    for name in (f"simai-rules-{info.run_id}", f"simai-rules-{info.run_id}", "absent"):
        assert subprocess.run([*command, name], check=False, timeout=60).returncode == 0
    assert len(pydaos.DCont(str(pool), "container").get(f"simai-rules-{info.run_id}")) == 0


@pytest.mark.skipif(importlib.util.find_spec("pydaos") is not None, reason="pydaos is installed here")
def test_without_pydaos(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setitem(sys.modules, "pydaos", None)
    address = {"pool": "p", "container": "c", "object": "o"}
    from simai_rules.staging.backends import connect as connect_backend

    with pytest.raises(MissingProgram, match="module load daos"):
        connect_backend(ServerInfo("daos-kv", "run", "ready", address=address), 0)
    config = server_registry.create_config("daos-kv", pool="p", container="c")
    with pytest.raises(ServerFailed, match="module load daos"):
        ServerManager("daos", config).start_server()


def test_the_stand_in_is_nowhere_else_on_the_path():
    assert not any(Path(folder).resolve() == STANDINS for folder in sys.path)
    assert str(STANDINS) not in os.environ.get("PYTHONPATH", "")
