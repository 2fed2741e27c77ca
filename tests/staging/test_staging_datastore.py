"""How a DataStore finds its server."""

import dataclasses
import json
import math
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from simai_rules.files import write_json
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import ServerLost, StagingError
from simai_rules.staging.info import ServerInfo


@pytest.fixture
def info(tmp_path):
    (tmp_path / "staging").mkdir()
    return ServerInfo("filesystem", "run", "ready", address={"folder": str(tmp_path / "staging")})


@pytest.fixture
def server_json(tmp_path, info):
    path = tmp_path / "server.json"
    write_json(path, info.as_dict())
    return path


def test_by_object_dict_and_path(info, server_json):
    for given in (info, info.as_dict(), server_json, str(server_json)):
        with DataStore("client", given) as store:
            store.stage_write("key", 1)
            assert store.stage_read("key") == 1


def test_a_starting_server_is_waited_for(info, server_json):
    write_json(server_json, dataclasses.replace(info, state="starting").as_dict())
    threading.Timer(0.3, lambda: write_json(server_json, info.as_dict())).start()
    with DataStore("client", server_json, timeout=30) as store:
        assert store.poll_staged_data("key") is False


def test_a_server_that_does_not_become_ready(info, server_json):
    write_json(server_json, dataclasses.replace(info, state="starting").as_dict())
    with pytest.raises(ServerLost, match="not become ready"):
        DataStore("client", server_json, timeout=0.1)


def test_a_failed_server_is_told_with_its_reason_at_once(info, server_json):
    write_json(server_json, dataclasses.replace(info, state="failed", reason="no memory").as_dict())
    start = time.monotonic()
    with pytest.raises(ServerLost, match="no memory"):
        DataStore("client", server_json)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_server_json_that_is_none(server_json, content):
    server_json.write_text(content)
    with pytest.raises(ServerLost, match=r"server\.json"):
        DataStore("client", server_json)


def test_a_server_json_that_is_not_there(tmp_path):
    with pytest.raises(ServerLost, match="simai-rules serve"):
        DataStore("client", tmp_path / "absent.json")


def test_an_unknown_backend(info):
    with pytest.raises(StagingError, match="filesystem, node-local, redis"):
        DataStore("client", dataclasses.replace(info, backend="carrier pigeon"))


def test_the_client_needs_no_torch_and_no_other_backend():
    code = "import json, sys, simai_rules.staging.datastore; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "mpi4py", "pyarrow", "pydantic", "redis", "simai_rules.staging.backends.redis"} & set(loaded)


@pytest.mark.parametrize(
    ("timeout", "least", "most"),
    [
        (0, 40, 41),  # the DataStore's
        (5, 5, 6),
        (0.001, 1, 2),  # a server that answers a bit later is not lost
        (100, 100, 101),
    ],
)
def test_polling_takes_no_longer_than_asked_where_the_server_is_silent(info, timeout, least, most):
    def exists(_key, deadline_ns):
        asked.append((deadline_ns - time.perf_counter_ns()) / 1e9)
        return True

    asked = []
    with DataStore("client", info, timeout=40) as store:
        store._backend = SimpleNamespace(exists=exists, close=store._backend.close)
        before = time.perf_counter()
        assert store.poll_staged_data("key", timeout=timeout)
    late = time.perf_counter() - before
    assert least - late <= asked[0] <= most


@pytest.mark.parametrize(
    ("timeout", "error"), [("5", TypeError), (None, TypeError), ([1], TypeError), (math.nan, ValueError)]
)
def test_a_timeout_that_is_none_is_refused_with_words(info, timeout, error):
    with pytest.raises(error, match="A timeout is a number of seconds, not"):
        DataStore("client", info, timeout=timeout)
    with DataStore("client", info) as store:
        uses = [lambda: store.poll_staged_data("key", timeout)]
        if timeout is not None:
            uses += [lambda: store.stage_read("key", timeout=timeout), lambda: store.lock("key", timeout)]
        for use in uses:
            with pytest.raises(error, match="A timeout is a number of seconds, not"):
                use()


@pytest.mark.parametrize("timeout", [math.inf, 1e300])
def test_an_endless_timeout_is_a_long_one(info, timeout):
    with DataStore("client", info, timeout=timeout) as store:
        threading.Timer(0.3, lambda: DataStore("writer", info).stage_write("key", 1)).start()
        assert store.stage_read("key", timeout=timeout) == 1
        assert store.poll_staged_data("key", timeout)
        with store.lock("key", timeout):
            pass
