"""The options of filesystem, tried on local file systems: none of this has run on a parallel one."""

import errno
import fcntl
import mmap
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from simai_rules.errors import ConfigError
from simai_rules.staging.backends import direct
from simai_rules.staging.backends.direct import BLOCK, BUFFER
from simai_rules.staging.backends.files import shard_name
from simai_rules.staging.backends.step_files import lock
from simai_rules.staging.errors import CorruptValue, StagingError, StagingFull
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, make_server, server_registry

STEP = {"layout": "file-per-step"}


@pytest.fixture
def open_store(tmp_path, connect):
    """Return a function that opens a DataStore on a folder of its own with some options."""
    folder = tmp_path / "staging"
    folder.mkdir(exist_ok=True)

    def opened(**options):
        for number in range(options.get("shards", 0)):
            (folder / f"{number:04d}").mkdir(exist_ok=True)
        return connect(ServerInfo("filesystem", "run", "ready", address={"folder": str(folder)} | options))

    opened.folder = folder
    return opened


class OneRun:
    """A run that only writes down what is claimed."""

    run_id = name = "0123456789abcdef"

    def __init__(self):
        self.claimed = []

    def claim(self, path, *, only_if_empty=False):
        assert only_if_empty or not path.exists()
        self.claimed.append(path)

    def claimed_if_empty(self):
        return set()


def server_in(folder, **options):
    config = server_registry.create_config("filesystem", folder=str(folder), **options)
    return make_server(config, OneRun(), ["here"], 0)


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.rglob(pattern))


def used(path):
    """Return the bytes that a file takes on the disk."""
    return path.stat().st_blocks * 512


# Folders


def test_folders_that_were_missing_go_with_the_run_and_those_of_the_user_stay(tmp_path):
    (tmp_path / "mine").mkdir()
    config = server_registry.create_config("filesystem", folder=str(tmp_path / "mine" / "a" / "b" / "c"))
    with ServerManager("files", config):
        (tmp_path / "mine" / "a" / "of the user").write_text("kept")
    assert names(tmp_path) == ["a", "mine", "of the user"]
    (tmp_path / "mine" / "a" / "of the user").unlink()
    config = server_registry.create_config("filesystem", folder=str(tmp_path / "mine" / "x" / "y"))
    with ServerManager("files", config):
        assert "y" in names(tmp_path)
    assert names(tmp_path) == ["a", "mine"]


def test_a_missing_folder_that_two_runs_share_goes_with_the_last_of_them(tmp_path):
    config = server_registry.create_config("filesystem", folder=str(tmp_path / "shared" / "staging"))
    first, second = ServerManager("first", config), ServerManager("second", config)
    with first:
        second.start_server()
    assert len(list((tmp_path / "shared" / "staging").iterdir())) == 1
    second.stop_server()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_of_the_user_stays_although_two_runs_share_it(tmp_path):
    config = server_registry.create_config("filesystem", folder=str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    with ServerManager("first", config), ServerManager("second", config):
        assert len(list((tmp_path / "mine").iterdir())) == 2
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("goes", [1, 3])
def test_a_folder_that_another_run_removes_meanwhile_is_made_again(tmp_path, monkeypatch, goes):
    """It was there when this server looked, and goes before the server makes its own folder in it."""
    left = [goes]

    class Unlucky(OneRun):
        def claim(self, path, *, only_if_empty=False):
            super().claim(path, only_if_empty=only_if_empty)
            if not only_if_empty and left[0]:
                left[0] -= 1
                (tmp_path / "staging").rmdir()

    (tmp_path / "staging").mkdir()
    config = server_registry.create_config("filesystem", folder=str(tmp_path / "staging"))
    run = Unlucky()
    address = make_server(config, run, ["here"], 0).start()
    assert Path(address["folder"]).is_dir()
    assert tmp_path / "staging" in run.claimed
    assert left == [0]


def test_a_folder_that_goes_again_and_again_is_told(tmp_path):
    class Hopeless(OneRun):
        def claim(self, path, *, only_if_empty=False):
            if not only_if_empty:
                path.parent.rmdir()

    config = server_registry.create_config("filesystem", folder=str(tmp_path / "staging"))
    with pytest.raises(ServerFailed, match=r"cannot be made \(No such file"):
        make_server(config, Hopeless(), ["here"], 0).start()


def test_the_users_folder_and_files_outlive_a_killed_server(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with ServerManager("files", server_registry.create_config("filesystem", folder=str(tmp_path))) as server:
        info = server.get_server_info()
        assert Path(info["address"]["folder"]).parent == tmp_path
        os.kill(info["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while Path(info["address"]["folder"]).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert names(tmp_path) == ["mine"]


# Shards


def test_keys_are_spread_over_the_shards_by_a_hash_that_never_changes(open_store):
    store = open_store(shards=4)
    for number in range(64):
        store.stage_write(f"snapshot/{number}/7", number)
    assert {len(list(folder.iterdir())) > 5 for folder in open_store.folder.iterdir()} == {True}
    assert shard_name("snapshot%2F0%2F7.safetensors", 16) == "0005"
    assert [store.stage_read(f"snapshot/{number}/7") for number in range(64)] == list(range(64))


def test_what_is_half_written_lies_in_the_shard_of_its_key(open_store, monkeypatch):
    store, moved = open_store(shards=16), []
    real = os.rename

    def rename(source, target, **folders):
        moved.append((source, target))
        real(source, target, **folders)

    monkeypatch.setattr(os, "rename", rename)
    store.stage_write("../../x", 1)
    [(source, target)] = moved
    assert source.split("/")[0] == target.split("/")[0]
    assert source.split("/")[1].startswith(".tmp.")


def test_the_reader_watches_the_shard_and_one_at_a_time(open_store):
    store = open_store(shards=16)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(40):
        assert store.poll_staged_data(f"never {number}", timeout=0.001) is False
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert str(store._backend._waiter._folder).endswith(store._backend._name_of("never 39")[:4])


def test_a_server_makes_the_shards(tmp_path):
    config = server_registry.create_config("filesystem", folder=str(tmp_path), shards=3, layout="file-per-step")
    with ServerManager("files", config) as server:
        address = server.get_server_info()["address"]
        assert names(Path(address["folder"])) == ["0000", "0001", "0002"]
        assert (address["shards"], address["layout"]) == (3, "file-per-step")
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in Path(address["folder"]).iterdir())
    assert names(tmp_path) == []


# One file per step


def test_all_values_of_a_step_share_one_file(open_store):
    store, other = open_store(**STEP), open_store(**STEP)
    for rank in range(5):
        (store if rank % 2 else other).stage_write(f"snapshot/{rank}/7", np.full(1000, rank))
        store.stage_write(f"snapshot/{rank}/8", rank)
    assert names(open_store.folder, "*.step") == ["7.step", "8.step"]
    assert [store.stage_read(f"snapshot/{rank}/7")[0] for rank in range(5)] == list(range(5))
    assert (open_store.folder / "7.step").stat().st_mode & 0o777 == 0o600
    for rank in range(5):
        assert store.clean_staged_data(f"snapshot/{rank}/7")
    assert names(open_store.folder, "*.step") == ["8.step"]
    for rank in range(5):
        store.clean_staged_data(f"snapshot/{rank}/8")
    assert names(open_store.folder) == []


@pytest.mark.parametrize("direct", [False, True])
def test_room_comes_back_when_a_value_is_deleted_or_replaced(open_store, direct):
    store = open_store(**STEP, direct=direct)
    data = np.random.default_rng(1).random(250_000)
    for rank in range(4):
        store.stage_write(f"{rank}/s", data)
    path = open_store.folder / "s.step"
    full = used(path)
    assert full > 4 * data.nbytes
    store.clean_staged_data("1/s")
    assert used(path) < full - data.nbytes + 2 * BLOCK
    for _ in range(5):
        store.stage_write("2/s", data)
    assert used(path) < full - data.nbytes + 8 * BLOCK
    for rank in (0, 2, 3):
        np.testing.assert_array_equal(store.stage_read(f"{rank}/s"), data)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("change", ["delete", "replace"])
def test_a_value_that_is_read_stays_and_its_last_reader_frees_it(open_store, change, direct):
    store, reader = open_store(**STEP, direct=direct), open_store(**STEP, direct=direct)
    old = np.random.default_rng(1).bytes(1_000_000)
    store.stage_write("other/s", b"keeps the file")
    store.stage_write("key/s", old)
    readings = [reader._backend.open("key/s", 0) for _ in range(2)]
    if change == "delete":
        store.clean_staged_data("key/s")
    else:
        store.stage_write("key/s", b"new")
    path = open_store.folder / "s.step"
    for reading in readings:
        assert used(path) > len(old)
        assert reading.header or reading.read_header()
        text = bytearray(len(old))
        reading.readinto(memoryview(text))
        assert text == old
        reading.close()
    assert used(path) < 10 * BLOCK
    assert store.stage_read("other/s") == b"keeps the file"


def test_the_file_of_a_step_may_go_while_it_is_read(open_store):
    store = open_store(**STEP)
    store.stage_write("key/s", b"old" * 1000)
    reading = store._backend.open("key/s", 0)
    store.clean_staged_data("key/s")
    store.stage_write("key/s", b"new" * 1000)
    assert reading.header or reading.read_header()
    text = bytearray(3000)
    reading.readinto(memoryview(text))
    reading.close()
    assert text == b"old" * 1000
    assert store.stage_read("key/s") == b"new" * 1000


def test_a_writer_that_fails_or_is_interrupted_leaves_nothing(open_store, monkeypatch):
    store = open_store(**STEP)
    store.stage_write("key/s", "old")
    real = os.writev
    before = used(open_store.folder / "s.step")

    for error, seen in ((OSError(errno.ENOSPC, "No space"), StagingFull), (KeyboardInterrupt(), KeyboardInterrupt)):

        def fail(descriptor, buffers, error=error):
            real(descriptor, [bytes(100_000)])
            raise error

        monkeypatch.setattr(os, "writev", fail)
        for key in ("key/s", "new/s", "new/t"):
            with pytest.raises(seen):
                store.stage_write(key, np.zeros(100_000))
    monkeypatch.undo()
    assert names(open_store.folder) == ["key%2Fs.safetensors", "s.step"]
    assert used(open_store.folder / "s.step") == before
    assert store.stage_read("key/s") == "old"
    store.clean_staged_data("key/s")
    assert names(open_store.folder) == []


def test_a_killed_writer_blocks_nobody_and_the_next_one_gives_its_region_back(open_store, start_peer):
    store = open_store(**STEP)
    store.stage_write("mine/s", "kept")
    info = ServerInfo("filesystem", "run", "ready", address={"folder": str(open_store.folder)} | STEP)
    left = []
    while not left:  # killed between two writes, it leaves nothing
        writer = start_peer("write_forever", info, "theirs/s", 30_000_000)
        store.stage_read("started")
        deadline = time.monotonic() + 30
        while not names(open_store.folder, ".tmp.*") and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        store.clean_staged_data("started")
        left = names(open_store.folder, ".tmp.*")
    assert left[0].split(".")[2] == str(writer.pid)
    open_store(**STEP).stage_write("next/s", "written")
    assert names(open_store.folder, ".tmp.*") == []
    assert store.stage_read("mine/s") == "kept"
    for key in ("mine/s", "next/s", "theirs/s"):
        store.clean_staged_data(key)
    assert names(open_store.folder) == []


def test_a_file_that_somebody_keeps_locked_is_told_at_the_deadline(open_store, connect):
    info = ServerInfo("filesystem", "run", "ready", address={"folder": str(open_store.folder)} | STEP)
    store = connect(info, timeout=0.3)
    store.stage_write("key/s", 1)
    with (open_store.folder / "s.step").open("r+b") as file:
        assert lock(file.fileno(), fcntl.F_WRLCK, 0, BLOCK, 0)
        with pytest.raises(StagingError, match=r"s\.step was locked .*SIGSTOP"):
            store.stage_write("key/s", 2)
        assert store.stage_read("key/s") == 1
    store.stage_write("key/s", 2)


@pytest.mark.parametrize("next_key", ["key/s", "other/t"])
def test_what_a_write_could_not_take_back_for_a_lock_goes_with_the_next_write(open_store, connect, next_key):
    """A peer is halted with the lock after the value was written: the next write waits, and says so, then tidies."""
    info = ServerInfo("filesystem", "run", "ready", address={"folder": str(open_store.folder)} | STEP)
    store = connect(info, timeout=0.2)
    store.stage_write("kept/s", 1)
    real = store._backend._write
    with (open_store.folder / "s.step").open("r+b") as file:

        def write(*arguments):
            real(*arguments)
            assert lock(file.fileno(), fcntl.F_WRLCK, 0, BLOCK, 0)

        store._backend._write = write
        with pytest.raises(StagingError, match="SIGSTOP"):
            store.stage_write("key/s", 2)
        store._backend._write = real
        with pytest.raises(StagingError, match=r"s\.step was locked .*SIGSTOP"):
            store.stage_write(next_key, 3)
    assert len(names(open_store.folder, ".tmp.*")) == 1
    store.stage_write(next_key, 4)
    assert names(open_store.folder, ".tmp.*") == []
    assert (store.stage_read(next_key), store.stage_read("kept/s")) == (4, 1)
    for key in ("kept/s", next_key):
        store.clean_staged_data(key)
    assert names(open_store.folder) == []


def test_no_key_leaves_the_folder_and_keys_that_end_alike_are_kept_apart(open_store, tmp_path):
    store = open_store(**STEP)
    odd = ["../../x", "..", "a/..", "/", "a/", "b/", ".", "s.step", "x/s.step", "k" * 9_999 + "/7", "%2F", "nul\0/\0"]
    for number, key in enumerate(odd):
        store.stage_write(key, number)
    assert [store.stage_read(key) for key in odd] == list(range(len(odd)))
    assert list(tmp_path.iterdir()) == [open_store.folder]
    assert all(store.clean_staged_data(key) for key in odd)
    assert names(tmp_path) == ["staging"]


@pytest.mark.parametrize("damage", ["file gone", "no link", "odd link", "cut"])
def test_what_others_damage_is_corrupt(open_store, damage):
    store = open_store(**STEP)
    store.stage_write("key/s", np.zeros(1000))
    link = open_store.folder / "key%2Fs.safetensors"
    if damage == "file gone":
        (open_store.folder / "s.step").unlink()
    elif damage == "cut":
        os.truncate(open_store.folder / "s.step", BLOCK + 1000)
    else:
        link.unlink()
        link.write_text("text") if damage == "no link" else link.symlink_to("elsewhere")
    with pytest.raises(CorruptValue if damage != "no link" else StagingError, match=r"key/s|key%2Fs"):
        store.stage_read("key/s")


# Direct I/O


@pytest.mark.parametrize("options", [{"direct": True}, STEP | {"direct": True}])
@pytest.mark.parametrize("size", [0, 1, 3900, BLOCK - 1, BLOCK, BLOCK + 1, BUFFER - 100, BUFFER, 9 * BUFFER + 5])
def test_direct_values_of_sizes_around_those_of_blocks_and_buffers(open_store, options, size):
    store = open_store(**options)
    data = np.random.default_rng(2).integers(0, 256, size, np.uint8)
    store.stage_write("before/s", b"x" * 5000)
    store.stage_write("key/s", {"part": data, "again": data[: size // 2].copy(), "names": ["x" * 1000]})
    store.stage_write("after/s", b"y" * 5000)
    back = store.stage_read("key/s")
    np.testing.assert_array_equal(back["part"], data)
    np.testing.assert_array_equal(back["again"], data[: size // 2])
    assert (store.stage_read("before/s"), store.stage_read("after/s")) == (b"x" * 5000, b"y" * 5000)


@pytest.mark.parametrize("options", [{"direct": True}, STEP | {"direct": True}])
def test_the_buffer_for_direct_values_is_within_1_mb_and_private(open_store, options, monkeypatch):
    made, real = [], mmap.mmap

    def note(descriptor, length, **more):
        made.append((length, more["flags"] & mmap.MAP_PRIVATE))
        return real(descriptor, length, **more)

    monkeypatch.setattr(direct.mmap, "mmap", note)
    store = open_store(**options)
    data = np.arange(1_000_000.0)
    store.stage_write("key/s", data)
    np.testing.assert_array_equal(store.stage_read("key/s"), data)
    assert made == [(BUFFER, mmap.MAP_PRIVATE)] * 2
    assert BUFFER < 900_000


def test_a_direct_value_is_a_file_like_any_other(open_store):
    data = np.arange(1000.0)
    open_store(direct=True).stage_write("key", data)
    np.testing.assert_array_equal(open_store().stage_read("key"), data)
    open_store().stage_write("key", data + 1)
    np.testing.assert_array_equal(open_store(direct=True).stage_read("key"), data + 1)


def test_values_do_pass_the_page_cache(open_store, monkeypatch):
    flags = []
    real = os.open

    def note(path, given, *rest, **more):
        flags.append((path, bool(given & os.O_DIRECT)))
        return real(path, given, *rest, **more)

    monkeypatch.setattr(os, "open", note)
    store = open_store(direct=True)
    store.stage_write("key", 1)
    store.stage_read("key")
    assert [direct for path, direct in flags if isinstance(path, str) and path != str(open_store.folder)] == [True] * 2


def test_a_file_system_without_direct_io_is_told(tmp_path, open_store, monkeypatch):
    real = os.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *rest, **more)

    store = open_store(direct=True)
    open_store().stage_write("key", 1)
    monkeypatch.setattr(os, "open", refuse)
    for verb in (lambda: store.stage_write("key", 2), lambda: store.stage_read("key")):
        with pytest.raises(StagingError, match=r"does not offer O_DIRECT.*backends\.filesystem\.direct"):
            verb()
    server = server_in(tmp_path / "server", direct=True)
    with pytest.raises(ServerFailed, match="does not offer O_DIRECT"):
        server.start()
    monkeypatch.undo()
    assert names(tmp_path / "server") == [server._folder.name]


# fsync


def noted(monkeypatch, describe):
    """Return a list that gets what `describe` says of each descriptor that is synced, and "seen" for each rename."""
    calls, sync, rename = [], os.fsync, os.rename

    def note_sync(descriptor):
        calls.append(describe(descriptor))
        sync(descriptor)

    def note_rename(*names, **folders):
        calls.append("seen")
        rename(*names, **folders)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    return calls


@pytest.mark.parametrize("options", [{}, {"shards": 2}, {"direct": True}, STEP, STEP | {"shards": 2, "direct": True}])
def test_a_value_is_on_the_disk_before_its_key_is_seen(open_store, options, monkeypatch):
    store = open_store(**options, fsync=True)
    calls = noted(monkeypatch, lambda descriptor: "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "data")
    store.stage_write("key", 1)
    # The step's file lies in another shard than the key's link.
    assert calls == ["data", *(["folder"] if options.keys() >= {"layout", "shards"} else []), "seen", "folder"]
    assert store.stage_read("key") == 1


@pytest.mark.parametrize("number", range(4))
def test_the_name_of_a_steps_file_is_on_the_disk_as_well(open_store, monkeypatch, number):
    store = open_store(**STEP, shards=4, fsync=True)
    forced = noted(monkeypatch, lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink())
    store.stage_write(f"snapshot/{number}/7", 1)
    [file] = open_store.folder.rglob("*.step")
    [link] = open_store.folder.rglob("*.safetensors")
    assert forced[0] == file
    assert forced[-1] == link.parent
    assert file.parent in forced[1 : forced.index("seen")] or file.parent == link.parent
    assert len(forced) == (3 if file.parent == link.parent else 4)


def test_nothing_is_forced_to_the_disk_unasked(open_store, monkeypatch):
    def never(descriptor):
        raise AssertionError

    monkeypatch.setattr(os, "fsync", never)
    open_store().stage_write("key", 1)
    open_store(**STEP).stage_write("key/s", 1)


# Locks


def test_a_file_system_on_which_no_file_can_be_locked_is_told(tmp_path, monkeypatch):
    from simai_rules.staging.servers import filesystem

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filesystem, "lock", refuse)
    server = server_in(tmp_path, **STEP)
    with pytest.raises(ServerFailed, match=r"No locks available.*file-per-key"):
        server.start()
    assert names(tmp_path) == [server._folder.name]


def test_a_probe_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    server = server_in(tmp_path, **STEP)
    real = Path.open

    def refuse(path, mode="r", *rest, **more):
        if "x" in mode:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ServerFailed, match=r"file-per-step.*Disk quota exceeded"):
        server.start()


# Striping


@pytest.fixture
def lfs(tmp_path, monkeypatch):
    """A program lfs that notes its arguments, one per line, and ends as it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "lfs"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\necho "no such pool" >&2\nexit $LFS_EXIT\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("LFS_EXIT", "0")
    return lambda: (folder / "arguments").read_text().splitlines()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stripe_count": 8}, ["-c", "8"]),
        ({"stripe_count": -1, "stripe_size": "4194304"}, ["-c", "-1", "-S", "4194304"]),
        ({"stripe_size": 65536}, ["-S", "65536"]),
    ],
)
def test_the_runs_folder_is_striped_before_anything_is_made_in_it(tmp_path, lfs, options, words):
    server = server_in(tmp_path / "a folder; touch x", shards=2, **options)
    server.start()
    assert lfs() == ["setstripe", *words, str(server._folder)]
    assert names(server._folder) == ["0000", "0001"]


def test_without_striping_lfs_is_left_alone(tmp_path, lfs):
    server_in(tmp_path / "staging").start()
    with pytest.raises(FileNotFoundError):
        lfs()


def test_a_striping_that_fails_is_told(tmp_path, lfs, monkeypatch):
    monkeypatch.setenv("LFS_EXIT", "3")
    with pytest.raises(ServerFailed, match="no such pool"):
        server_in(tmp_path / "staging", stripe_count=2).start()


def test_striping_without_lfs_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerFailed, match="lfs, which is not on the PATH"):
        server_in(tmp_path / "staging", stripe_count=2).start()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stripe_size": 1000}, "1000 is no multiple of 65536"),
        ({"stripe_count": -2}, "stripe_count"),
        ({"shards": 0}, "shards"),
        ({"layout": "file-per-rank"}, "layout"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ConfigError, match=words):
        server_registry.create_config("filesystem", **options)


# A full file system


@pytest.fixture
def small(tmp_path):
    """A file system in memory of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no program mount")
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("options", [{}, {"shards": 2}, {"direct": True}, STEP, STEP | {"direct": True}], ids=str)
def test_a_full_file_system_is_told_and_nothing_is_lost(small, connect, options):
    server = server_in(small, **options)
    try:
        address = server.start()
    except ServerFailed as error:
        if "O_DIRECT" not in str(error):
            raise
        pytest.skip(f"tmpfs of this kernel: {error}")
    store = connect(ServerInfo("filesystem", "run", "ready", address=address))
    data = np.random.default_rng(3).bytes(1_000_000)
    for rank in range(3):
        store.stage_write(f"{rank}/s", data)
    before = names(small)
    for key in ("0/s", "new/s", "new/t"):
        with pytest.raises(StagingFull, match=r"it needs 200\d\d\d\d bytes, and \d+ are free"):
            store.stage_write(key, bytes(2_000_000))
    assert names(small) == before
    assert all(store.stage_read(f"{rank}/s") == data for rank in range(3))
    for rank in range(3):
        store.clean_staged_data(f"{rank}/s")
    store.stage_write("new/s", bytes(2_000_000))


def test_a_server_refuses_a_file_system_that_is_too_small_for_what_may_be_staged(small):
    config = server_registry.create_config("filesystem", folder=str(small))
    with pytest.raises(ServerFailed, match="4 MB free, but 5 MB may be staged"):
        make_server(config, OneRun(), ["here"], 5_000_000).start()
    assert names(small) == []
