"""daos-posix without DAOS: the table of mounts is the tests' own (SIMAI_MOUNTINFO). Not run on a real dfuse mount."""

import pytest

from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, make_server, server_registry
from simai_rules.staging.servers.daos_posix import mount_of


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Return a function that says what is mounted where, in the order of mounting."""
    table = tmp_path / "mountinfo"
    monkeypatch.setenv("SIMAI_MOUNTINFO", str(table))

    def write(*entries):
        lines = []
        for number, (point, kind) in enumerate(entries):
            escaped = str(point).replace(" ", r"\040")
            shared = " shared:1" if number % 2 else ""  # optional fields, of which there may be none
            lines.append(f"{number + 20} 1 0:20 / {escaped} rw,relatime{shared} - {kind} source rw")
        table.write_text("\n".join(lines) + "\n")

    return write


class OneRun:
    """A run that only writes down what is claimed."""

    run_id = name = "0123456789abcdef"

    def __init__(self):
        self.claimed = []

    def claim(self, path, *, only_if_empty=False):
        self.claimed.append(path)


def server_in(folder, **options):
    config = server_registry.create_config("daos-posix", folder=str(folder), **options)
    return make_server(config, OneRun(), ["here"], 0)


def test_the_mount_that_lies_nearest_and_on_top_counts(tmp_path, mounts):
    container = tmp_path / "a container"
    (container / "of mine").mkdir(parents=True)
    mounts(("/", "ext4"), (container, "fuse.dfuse"), (tmp_path / "a cont", "xfs"))
    assert mount_of(container / "of mine") == (container, "fuse.dfuse")
    assert mount_of(container) == (container, "fuse.dfuse")
    assert mount_of(tmp_path)[1] == "ext4"
    mounts(("/", "ext4"), (container, "fuse.dfuse"), (container, "tmpfs"))
    assert mount_of(container / "of mine")[1] == "tmpfs"


def test_a_link_counts_as_what_it_leads_to(tmp_path, mounts):
    (tmp_path / "daos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "daos")
    mounts(("/", "ext4"), (tmp_path / "daos", "fuse.dfuse"))
    assert mount_of(tmp_path / "link")[1] == "fuse.dfuse"


def test_the_true_table_of_mounts_is_read_where_no_test_names_another(monkeypatch):
    monkeypatch.delenv("SIMAI_MOUNTINFO", raising=False)
    from pathlib import Path

    assert mount_of(Path("/proc/self"))[1] == "proc"


def test_makes_its_shards_below_the_mount_and_leaves_the_users_files(tmp_path, mounts):
    mine = tmp_path / "daos" / "mine"
    mine.mkdir(parents=True)
    (mine / "results").write_text("of the user")
    mounts(("/", "ext4"), (tmp_path / "daos", "fuse.daos"))
    config = server_registry.create_config("daos-posix", folder=str(mine), shards=3)
    with ServerManager("daos", config) as server:
        [folder] = [path for path in mine.iterdir() if path.is_dir()]
        assert sorted(path.name for path in folder.iterdir()) == ["0000", "0001", "0002"]
        assert server.get_server_info()["address"] == {"folder": str(folder), "shards": 3}
    assert [path.name for path in mine.iterdir()] == ["results"]


def test_a_folder_elsewhere_is_refused_and_nothing_is_made(tmp_path, mounts):
    mounts(("/", "ext4"))
    server = server_in(tmp_path)
    with pytest.raises(
        ServerFailed, match=r"backends\.daos-posix\.folder: .* not lie on a dfuse mount but on / \(ext4"
    ):
        server.start()
    assert [path.name for path in tmp_path.iterdir()] == ["mountinfo"]


def test_a_folder_that_is_not_there_is_refused(tmp_path, mounts):
    mounts(("/", "fuse.dfuse"))
    with pytest.raises(ServerFailed, match="there is no folder"):
        server_in(tmp_path / "absent").start()


def test_an_unmounted_container_is_noticed(tmp_path, mounts):
    mounts(("/", "fuse.dfuse"))
    server = server_in(tmp_path)
    server.start()
    server.check()
    mounts(("/", "ext4"))
    with pytest.raises(ServerFailed, match="dfuse"):
        server.check()


def test_the_folder_is_required():
    from simai_rules.errors import ConfigError

    with pytest.raises(ConfigError, match=r"backends\.daos-posix\.folder"):
        server_registry.create_config("daos-posix")
