"""Files are replaced whole, and never through somebody else's link."""

import json
import os

import pytest

from simai_rules.errors import UserError
from simai_rules.files import overwrite_json, replacing, write_json
from simai_rules.staging.backends import connect
from simai_rules.staging.errors import StagingError
from simai_rules.staging.info import ServerInfo


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "server.json"
    write_json(file, {"state": "starting"}, mode=0o600)
    write_json(file, {"state": "ready"}, mode=0o600)
    assert json.loads(file.read_text()) == {"state": "ready"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["server.json"]


def test_a_link_with_the_temporary_name_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("data")
    (tmp_path / f".server.json.{os.getpid()}.tmp").symlink_to(precious)
    write_json(tmp_path / "server.json", {"password": "secret"})
    assert precious.read_text() == "data"
    assert names(tmp_path) == ["precious", "server.json"]


def test_what_is_written_over_is_json_whether_it_is_shorter_or_longer(tmp_path):
    file = tmp_path / "server.json"
    write_json(file, {"state": "ready", "address": {"password": "secret"}}, mode=0o600)
    for content in ({"state": "stopped"}, {"state": "failed", "reason": "x" * 500}):
        overwrite_json(file, content)
        assert json.loads(file.read_text()) == content
    assert "secret" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_has_gone_does_not_come_back(tmp_path):
    overwrite_json(tmp_path / "server.json", {"state": "stopped"})
    assert names(tmp_path) == []


def test_a_failed_write_leaves_the_old_content(tmp_path):
    file = tmp_path / "table"
    file.write_text("old")

    def write_half():
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"Cannot write .*table: No space left"):
        write_half()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["table"]


@pytest.mark.parametrize("address", [{"folder": "a\0b"}, {"folder": 3}, {}, {"folder": None}])
@pytest.mark.parametrize("backend", ["filesystem", "node-local"])
def test_an_address_that_is_none_is_a_message(backend, address):
    with pytest.raises(StagingError, match=r"address of the .* server"):
        connect(ServerInfo(backend, "run", "ready", address=address), 0)
