"""What only the backends that stage by files have."""

import errno
import os
import shutil
import signal
import time

import numpy as np
import pytest
from staging_servers import temporaries

from simai_rules.process import pid_space
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingError, StagingFull
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.keys import file_name


@pytest.fixture
def info(tmp_path):
    return ServerInfo("filesystem", "run", "ready", address={"folder": str(tmp_path / "staging")})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "staging"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def store(folder, info, connect):
    return connect(info)


def test_a_value_is_one_private_file_that_the_public_reader_opens(store, folder):
    public = pytest.importorskip("safetensors.numpy")
    store.stage_write("snapshot/0/1", {"data": np.arange(4.0), "rank": 1})
    [path] = folder.iterdir()
    assert path.name == "snapshot%2F0%2F1.safetensors"
    assert path.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(public.load_file(path)["data"], np.arange(4.0))


def test_no_key_leaves_the_folder(store, folder, tmp_path):
    for key in ("../up", "/tmp/absolute", "..", "a/../../b", "~", "$HOME"):
        store.stage_write(key, 1)
    assert len(list(folder.iterdir())) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["staging"]


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 1000, -1])
def test_a_file_cut_short_is_corrupt(store, folder, kept):
    store.stage_write("key", np.zeros(1000))
    path = folder / file_name("key")
    os.truncate(path, kept if kept >= 0 else path.stat().st_size - 1)
    with pytest.raises(CorruptValue) as caught:
        store.stage_read("key")
    for word in ("'key'", "filesystem", str(path), "stage it again"):
        assert word in str(caught.value)


def test_a_file_of_noise_is_corrupt_and_costs_no_memory(store, folder):
    (folder / file_name("key")).write_bytes(np.random.default_rng(5).bytes(10_000))
    with pytest.raises(CorruptValue, match="claims"):
        store.stage_read("key")


def test_a_file_overwritten_in_its_header_is_corrupt(store, folder):
    store.stage_write("key", np.zeros(1000))
    path = folder / file_name("key")
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"\xff" * 20)
    with pytest.raises(CorruptValue, match=r"key\.safetensors"):
        store.stage_read("key")


def test_a_file_cut_while_it_is_read_is_corrupt(store, folder):
    store.stage_write("key", np.zeros(100_000))
    incoming = store._backend.open("key", 0)
    assert incoming.header or incoming.read_header()
    os.truncate(folder / file_name("key"), 1000)
    with pytest.raises(CorruptValue, match="ends at byte 1000"):
        incoming.readinto(memoryview(bytearray(100_000)))
    incoming.close()


def test_a_value_that_is_being_read_stays_what_it_was(store):
    store.stage_write("key", b"old" * 1000)
    incoming = store._backend.open("key", 0)
    store.stage_write("key", b"new")
    assert incoming.header or incoming.read_header()
    text = bytearray(3000)
    incoming.readinto(memoryview(text))
    incoming.close()
    assert text == b"old" * 1000


def test_a_killed_writer_leaves_only_a_file_that_carries_its_pid(store, folder, info, start_peer):
    for _ in range(5):
        writer = start_peer("write_forever", info, "key", 5_000_000)
        pid = store.stage_read("started")
        time.sleep(0.05)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert pid == writer.pid
        assert all(name.split(".")[2] == str(pid) for name in temporaries(info))
        if store.poll_staged_data("key"):
            assert store.stage_read("key").shape == (5_000_000,)
        for name in temporaries(info):
            (folder / name).unlink()
        store.clean_staged_data("started")


def test_the_next_writer_removes_what_a_killed_one_has_left(folder, info, connect, start_peer):
    """Writers of 250 MB that are killed one after another: the disk holds the last one's half-written file at most."""
    writing, others = connect(info), folder / f".tmp.{os.getpid()}.abcd1234.another-machine"
    others.write_bytes(b"x")
    mine = folder / writing._backend._temporary
    mine.write_bytes(b"half-written by a living process")
    for _ in range(3):
        writer = start_peer("write_forever", info, "key", 31_250_000)
        deadline = time.monotonic() + 30
        while not (left := [name for name in temporaries(info) if name.split(".")[2] == str(writer.pid)]):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert sorted(set(temporaries(info)) - set(left)) == sorted([others.name, mine.name])
    connect(info).stage_write("next", 1)
    assert sorted(temporaries(info)) == sorted([others.name, mine.name])


def test_what_a_pid_of_another_user_may_have_left_stays_and_the_rest_goes(folder, info, connect, monkeypatch):
    """A pid that is another user's now may not be asked; the others are looked at all the same."""
    store = connect(info)
    name = f".tmp.%d.aa.{pid_space()}"
    for number in range(1, 30):
        (folder / (name % number)).write_bytes(b"x")
    foreign = [path.name for path in folder.iterdir()][::3]

    def kill(pid, signal):
        raise PermissionError if name % pid in foreign else ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    store.stage_write("key", 1)
    assert sorted(temporaries(info)) == sorted(foreign)


def test_a_full_disk_is_told_with_numbers_and_leaves_nothing(store, folder, info, monkeypatch):
    store.stage_write("key", "old")
    real = os.writev

    def full(descriptor, buffers):
        real(descriptor, [buffers[0][:10]])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StagingFull) as caught:
        store.stage_write("key", np.zeros(1000))
    for word in ("'key'", "needs 8", "are free", str(folder), "Stage smaller"):
        assert word in str(caught.value)
    assert temporaries(info) == []
    assert store.stage_read("key") == "old"


def test_an_interrupted_write_leaves_nothing(store, info, monkeypatch):
    def interrupt(descriptor, buffers):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "writev", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.stage_write("key", np.zeros(1000))
    assert temporaries(info) == []


def test_a_real_full_file_system(tmp_path, connect):
    """A process may write files of 100 kB at most: the kernel's own refusal in the middle of a value."""
    import resource

    folder = tmp_path / "limited"
    folder.mkdir()
    store = connect(ServerInfo("filesystem", "run", "ready", address={"folder": str(folder)}))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StagingError, match="File too large"):
            store.stage_write("key", np.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path, connect):
    with pytest.raises(ServerLost, match="cannot be opened"):
        connect(ServerInfo("node-local", "run", "ready", address={"folder": str(tmp_path / "absent")}))


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_folder_that_has_gone(store, folder, made_anew):
    store.stage_write("key", 1)
    shutil.rmtree(folder)
    if made_anew:
        folder.mkdir()
    for verb in (
        lambda: store.stage_write("key", 2),
        lambda: store.stage_read("key", timeout=5),
        lambda: store.poll_staged_data("key"),
        lambda: store.clean_staged_data("key"),
    ):
        with pytest.raises(ServerLost, match="gone"):
            verb()


def test_a_folder_that_goes_while_a_reader_waits(store, folder, info, connect):
    import threading

    threading.Timer(0.2, lambda: shutil.rmtree(folder)).start()
    start = time.monotonic()
    with pytest.raises(ServerLost, match="gone"):
        store.stage_read("key", timeout=60)
    assert time.monotonic() - start < 30


def test_a_file_that_may_not_be_read_is_told(store, folder):
    (folder / file_name("key")).mkdir()
    with pytest.raises(StagingError, match="'key'"):
        store.stage_write("key", 1)
    assert [path.name for path in folder.iterdir()] == ["key.safetensors"]
    with pytest.raises(StagingError, match="'key'"):
        store.clean_staged_data("key")
    with pytest.raises(StagingError, match="'key'"):
        store.stage_read("key")
