"""What a server.json may hold: the description of a server, or it is refused as ServerLost."""

import dataclasses
import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from staging_values import JSON

from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo

INFO = ServerInfo("redis", "run", "ready", hosts=("a", "b"), address={"port": 1}, run_folder="/x", pid=7)
FIELDS = [field.name for field in dataclasses.fields(INFO)]


class Held(type(Path())):
    """A file that is in memory."""

    content = b""

    def read_bytes(self):
        return self.content


def read(content):
    file = Held("server.json")
    file.content = content
    return ServerInfo.read(file)


def check(content):
    """It is read, and can be written and read again, or it is refused."""
    try:
        info = read(content)
    except ServerLost as error:
        message = str(error)
    else:
        assert repr(ServerInfo.from_dict(json.loads(json.dumps(info.as_dict())))) == repr(info)
        return
    message.encode()
    assert len(message) < 500


def test_what_was_written_is_read():
    assert ServerInfo.from_dict(INFO.as_dict()) == INFO
    assert read(json.dumps(INFO.as_dict()).encode()) == INFO


@given(st.binary())
def test_any_bytes(content):
    check(content)


@given(JSON)
def test_any_json(value):
    check(json.dumps(value).encode())


@given(st.dictionaries(st.sampled_from([*FIELDS, "more"]), JSON, max_size=4), st.sets(st.sampled_from(FIELDS)))
def test_any_wrong_entry(wrong, lacking):
    content = {key: value for key, value in (INFO.as_dict() | wrong).items() if key not in lacking}
    check(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hosts": 5}, "hosts"),
        ({"hosts": [1]}, "hosts"),
        ({"hosts": "abc"}, "hosts"),
        ({"state": "odd"}, "state"),
        ({"state": []}, "state"),
        ({"address": ["127.0.0.1"]}, "address"),
        ({"run_id": None}, "run_id"),
        ({"backend": 1, "pid": "7"}, "backend, pid"),
        ({"format": 3}, "format 3"),
        ({"format": [[1]]}, "format"),
    ],
)
def test_what_is_wrong_is_named(change, named):
    with pytest.raises(ServerLost, match=named):
        ServerInfo.from_dict(INFO.as_dict() | change)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b'{"format":' + b"9" * 5000 + b"}", b"null", b"5"])
def test_what_is_no_server_json_is_refused(content):
    with pytest.raises(ServerLost, match=r"server\.json"):
        read(content)


def test_a_capsule_is_told_how_data_moves_and_no_secret():
    address = {"token": "secret", "transport": "tcp"}
    info = ServerInfo("dragon", "run", "ready", config={"total_mem": 1}, address=address)
    assert info.described == {"backend": "dragon", "options": {"total_mem": 1}, "transport": "tcp"}
