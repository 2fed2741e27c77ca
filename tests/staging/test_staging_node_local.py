"""What only node-local has: segments that are written again and again, and readers that must not notice."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simai_rules.staging.backends import node_local, segments
from simai_rules.staging.backends.mapped import Mount
from simai_rules.staging.backends.segments import KEPT, SEGMENT
from simai_rules.staging.codec import decode
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import StagingFull, StagingTimeout
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.inotify import FolderWatch
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, make_server, server_registry

ELEMENTS = 20_000
"""Float64, 160 KB: large enough for a segment."""


def describe(folder):
    return ServerInfo("node-local", "run", "ready", address={"folder": str(folder)})


@pytest.fixture(params=["memory", "disk"])
def folder(request, tmp_path):
    if request.param == "disk":
        yield tmp_path
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm")
    path = tempfile.mkdtemp(prefix="simai-rules-test-", dir="/dev/shm")
    yield Path(path)
    shutil.rmtree(path)


@pytest.fixture
def store(folder, connect):
    return connect(describe(folder))


def full(number, elements=ELEMENTS):
    return np.full(elements, float(number))


def private(folder):
    """The private names of the segments."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(SEGMENT))


def held_bytes(folder):
    """The bytes of all files, each counted once."""
    return sum({state.st_ino: state.st_size for state in (path.stat() for path in folder.iterdir())}.values())


def steady(store, values, elements=ELEMENTS, in_flight=3, name="step"):
    """Write `values` keys, of which `in_flight` are there at a time; check each when it goes."""
    for number in range(values + in_flight):
        if number >= in_flight:
            back = store.stage_read(f"{name}-{number - in_flight}")
            assert back.size == elements
            assert (back == number - in_flight).all()
            store.clean_staged_data(f"{name}-{number - in_flight}")
        if number < values:
            store.stage_write(f"{name}-{number}", full(number, elements))


# How segments are used, kept and given up


def test_a_coupled_run_uses_the_same_few_files(store, folder):
    steady(store, 5)
    before = {(path.name, path.stat().st_ino) for path in folder.iterdir()}
    steady(store, 50)
    assert {(path.name, path.stat().st_ino) for path in folder.iterdir()} == before
    assert len(private(folder)) <= 3


def test_overwriting_one_key_takes_two_files(store, folder):
    for number in range(20):
        store.stage_write("key", full(number))
        assert store.last.replaced is (number > 0)
        assert (store.stage_read("key") == number).all()
    assert len(private(folder)) == 2


def test_small_values_and_lone_ones_are_ordinary_files(store, folder):
    for number in range(10):
        store.stage_write(f"small {number}", full(number, 100))
    for elements in (10_000, 50_000, 250_000):
        store.stage_write(f"lone {elements}", full(1, elements))
    assert private(folder) == []


def test_a_value_is_as_long_as_it_is(store, folder):
    public = pytest.importorskip("safetensors.numpy")
    for number, elements in enumerate([ELEMENTS, ELEMENTS, 30_000, 30_001, 15_000, 15_001, ELEMENTS, 38_000]):
        store.stage_write("key", {"data": full(number, elements), "text": "x" * number})
        [path] = [path for path in folder.iterdir() if path.name == "key.safetensors"]
        assert path.stat().st_size == store.last.nbytes
        assert path.stat().st_mode & 0o777 == 0o600
        np.testing.assert_array_equal(public.load_file(path)["data"], full(number, elements))
    assert private(folder)


def test_many_and_empty_arrays_in_a_segment(store, folder):
    for turn in range(4):
        value = {f"array {number}": np.full(number % 30, turn) for number in range(1500)}
        store.stage_write("key", value)
        back = store.stage_read("key")
        assert all(np.array_equal(back[name], array) for name, array in value.items())
    assert len(private(folder)) == 2


def test_after_a_burst_the_memory_goes_back(store, folder):
    for number in range(KEPT):
        store.stage_write(f"burst-{number}", full(number))
    for number in range(KEPT):
        store.clean_staged_data(f"burst-{number}")
    assert held_bytes(folder) <= KEPT * 170_000
    steady(store, KEPT + 1, in_flight=1)
    assert held_bytes(folder) <= 2 * 170_000


def test_values_that_shrink_hoard_nothing(store, folder):
    steady(store, 5, elements=1_000_000)
    steady(store, KEPT + 1)
    assert held_bytes(folder) <= 4 * 170_000


def test_more_values_in_flight_than_are_kept(store, folder):
    steady(store, 3 * KEPT, in_flight=2 * KEPT)
    assert len(private(folder)) <= KEPT + 1


def test_values_outlive_the_client_and_then_cost_nothing(store, folder, connect):
    for number in range(5):
        store.stage_write(f"key-{number}", full(number))
    store.close()
    assert private(folder) == []
    reader = connect(describe(folder))
    for number in range(5):
        assert (reader.stage_read(f"key-{number}") == number).all()
        reader.clean_staged_data(f"key-{number}")
    assert list(folder.iterdir()) == []


def test_a_program_that_forgets_to_close_leaves_no_segments(folder):
    program = """
        import sys, numpy as np
        from simai_rules.staging.datastore import DataStore
        from simai_rules.staging.info import ServerInfo
        store = DataStore("test", ServerInfo("node-local", "run", "ready", address={"folder": sys.argv[1]}))
        for number in range(5):
            store.stage_write("key", np.full(20_000, number))
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), folder], check=True, timeout=120)
    assert [path.name for path in folder.iterdir()] == ["key.safetensors"]


def test_a_child_does_not_give_up_its_parents_segments(store, folder):
    steady(store, 5)
    before = private(folder)
    child = os.fork()
    if not child:
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert private(folder) == before != []


def test_publishing_wakes_who_waits(store, folder):
    steady(store, 5)
    watch = FolderWatch(folder)
    store.stage_write("key", full(1))
    start = time.monotonic()
    watch.sleep(60)
    assert time.monotonic() - start < 30
    watch.close()


def test_no_copy_is_made(folder):
    context = multiprocessing.get_context("spawn")
    answers, sender = context.Pipe(duplex=False)
    process = context.Process(target=_memory_of_steady_puts, args=(folder, sender), daemon=True)
    process.start()
    assert answers.poll(60)
    grown = answers.recv()
    process.join()
    assert grown["python"] < 1e6
    assert grown["anonymous"] < 1e6


def _memory_of_steady_puts(folder, answers):
    data = np.arange(2_000_000.0)
    with DataStore("test", describe(folder)) as store:
        for number in range(5):
            store.stage_write(f"key-{number % 2}", data)
        before = _anonymous()
        tracemalloc.start()
        for number in range(5):
            store.stage_write(f"key-{number % 2}", data)
        answers.send({"python": tracemalloc.get_traced_memory()[1], "anonymous": _anonymous() - before})


def _anonymous():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


# What readers see


def test_who_reads_keeps_what_he_reads(store, folder, connect):
    """Whatever happens to the key, its file is not written while a reader is inside."""
    reader = connect(describe(folder))
    steady(store, 5)
    for change in (lambda: store.clean_staged_data("key"), lambda: store.stage_write("key", full(7))):
        store.stage_write("key", full(42))
        incoming = reader._backend.open("key", 0)
        change()
        for number in range(10):
            store.stage_write("other", full(number))
        assert (decode(incoming)[0] == 42).all()
        incoming.close()


def test_a_file_is_used_again_when_its_reader_has_gone(store, folder, connect):
    reader = connect(describe(folder))
    for number in range(5):
        store.stage_write("key", full(number))
    incoming = reader._backend.open("key", 0)
    for number in range(5):
        store.stage_write("key", full(number))
    assert len(private(folder)) == 3
    incoming.close()
    for number in range(KEPT + 2):
        store.stage_write("key", full(number))
    assert len(private(folder)) == 2


class Between:
    """Lets something happen just before or after the reader's n-th call of flock, once."""

    def __init__(self, monkeypatch, event, *, after=False, call=1):
        self._event, self._after, self._left = event, after, call
        self._real = fcntl.flock
        monkeypatch.setattr(node_local.fcntl, "flock", self)

    def __call__(self, descriptor, operation):
        if not operation & fcntl.LOCK_SH:
            return self._real(descriptor, operation)
        self._left -= 1
        if self._left == 0 and not self._after:
            self._event()
        try:
            return self._real(descriptor, operation)
        finally:
            if self._left == 0 and self._after:
                self._event()


@pytest.mark.parametrize("after", [False, True])
def test_a_key_that_is_overwritten_while_it_is_opened(store, folder, connect, monkeypatch, after):
    """Between the reader's open and lock, and between its lock and look, its file is filled with other things."""
    reader = connect(describe(folder))
    steady(store, 5)
    store.stage_write("key", full(1))

    def overwrite():
        store.stage_write("key", full(2))
        for number in range(5):
            store.stage_write("other", full(number))

    Between(monkeypatch, overwrite, after=after)
    assert (reader.stage_read("key") == 2).all()


@pytest.mark.parametrize("after", [False, True])
def test_a_key_that_is_deleted_while_it_is_opened(store, folder, connect, monkeypatch, after):
    reader = connect(describe(folder))
    steady(store, 5)
    store.stage_write("key", full(1))

    def delete():
        store.clean_staged_data("key")
        for number in range(5):
            store.stage_write("other", full(number))

    Between(monkeypatch, delete, after=after)
    with pytest.raises(StagingTimeout):
        reader.stage_read("key", timeout=0)
    assert (reader.stage_read("other") == 4).all()


def test_a_file_that_comes_back_to_its_key_while_it_is_opened(store, folder, connect, monkeypatch):
    """The reader has opened the file of the first value, and finds the third one in it: whole, and with its length."""
    reader = connect(describe(folder))
    steady(store, 5, in_flight=1)
    store.stage_write("key", full(1))
    before = (folder / "key.safetensors").stat().st_ino

    def come_back():
        store.clean_staged_data("key")
        store.stage_write("key", full(3, ELEMENTS + 500))
        assert (folder / "key.safetensors").stat().st_ino == before

    Between(monkeypatch, come_back)
    back = reader.stage_read("key")
    assert back.size == ELEMENTS + 500
    assert (back == 3).all()


def test_a_reader_that_meets_the_writer_inside_looks_again(store, folder, connect, monkeypatch):
    """The reader has opened a file that was then deleted, and its writer is just filling it."""
    reader = connect(describe(folder))
    steady(store, 5, in_flight=1)
    store.stage_write("key", full(1))
    locked = []

    def meet():
        descriptor = os.open(folder / "key.safetensors", os.O_RDWR)
        store.clean_staged_data("key")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked.append(descriptor)
        store.stage_write("key", full(2))

    Between(monkeypatch, meet)
    assert (reader.stage_read("key") == 2).all()
    os.close(locked[0])


def test_a_private_name_that_somebody_has_removed(store, folder):
    """Its file has one name now and seems free, but is a staged value."""
    for number in range(4):
        store.stage_write(f"key-{number}", full(number))
    for name in private(folder):
        (folder / name).unlink()
    for number in range(4, 10):
        store.stage_write(f"key-{number}", full(number))
    assert all((store.stage_read(f"key-{number}") == number).all() for number in range(10))


@pytest.mark.parametrize("damage", ["cut", "hole"])
def test_a_segment_that_somebody_has_cut_is_whole_when_it_is_used_again(store, folder, damage):
    steady(store, 5, in_flight=1)
    for name in private(folder):
        size = (folder / name).stat().st_size
        os.truncate(folder / name, 5000)
        if damage == "hole":
            os.truncate(folder / name, size)
    steady(store, 5, in_flight=1)


# Many processes


def test_no_value_is_torn_or_of_another_key(folder, store):
    """Two writers overwrite, delete and make again the same three keys, three readers read them."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_at_random, args=(folder, number, 250), daemon=True) for number in (1, 2)]
    pipes = [context.Pipe(duplex=False) for _ in range(3)]
    readers = [context.Process(target=_read_at_random, args=(folder, sender), daemon=True) for _, sender in pipes]
    for process in (*writers, *readers):
        process.start()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store.stage_write("done", 1)
    for receiver, _ in pipes:
        assert receiver.poll(60)
    results = [receiver.recv() for receiver, _ in pipes]
    for reader in readers:
        reader.join(60)
    assert [torn for _, torn in results] == [[], [], []]
    assert min(seen for seen, _ in results) > 0


def _value(key, writer, number):
    """A value that says of itself what it is: its key, its length, and the same number everywhere."""
    elements = 10_000 + 1000 * ((writer * 7 + number) % 8)
    data = np.full(elements, writer * 1_000_000 + number * 10 + key, np.float64)
    return {"data": data, "elements": elements, "key": key}


def _write_at_random(folder, writer, rounds):
    random = np.random.default_rng(writer)
    with DataStore("writer", describe(folder), timeout=60) as store:
        for number in range(rounds):
            key = int(random.integers(3))
            if random.random() < 0.3:
                store.clean_staged_data(f"key-{key}")
            store.stage_write(f"key-{key}", _value(key, writer, number))


def _read_at_random(folder, answers):
    seen, torn, number = set(), [], 0
    with DataStore("reader", describe(folder), timeout=60) as store:
        while not store.poll_staged_data("done"):
            number += 1
            key = number % 3
            try:
                back = store.stage_read(f"key-{key}", timeout=0.01)
            except StagingTimeout:
                continue
            data = back["data"]
            if data.size != back["elements"] or back["key"] != key or (data != data[0]).any() or data[0] % 10 != key:
                torn.append((key, back["key"], back["elements"], data.size, np.unique(data).tolist()))
            seen.add(data[0])
    answers.send((len(seen), torn))


def test_a_killed_writer_leaves_what_it_staged_and_blocks_nobody(folder, store, connect):
    context = multiprocessing.get_context("fork")
    for turn in range(4):
        writer = context.Process(target=_write_at_random, args=(folder, turn + 1, 10**9), daemon=True)
        writer.start()
        left = []
        start = time.monotonic()
        while len(left) < 3 and time.monotonic() - start < 60:
            left = [name for name in private(folder) if name.split(".")[2] == str(writer.pid)]
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert len(left) >= 3
        for key in range(3):
            if store.poll_staged_data(f"key-{key}"):
                back = store.stage_read(f"key-{key}")
                assert back["data"].size == back["elements"]
                assert (back["data"] == back["data"][0]).all()
        with connect(describe(folder)) as successor:
            for number in range(3):
                successor.stage_write("key-1", _value(1, 9, number))
            assert all(name.split(".")[2] == str(os.getpid()) for name in private(folder))
            assert successor.stage_read("key-1")["key"] == 1
    assert (folder / "key-1.safetensors").exists()


def test_a_killed_readers_lock_goes_with_it(folder, store):
    steady(store, 5, in_flight=1)
    store.stage_write("key", full(1))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    reader = context.Process(target=_stay_inside, args=(folder, sender), daemon=True)
    reader.start()
    assert receiver.poll(60)
    assert receiver.recv() == "inside"
    inode = (folder / "key.safetensors").stat().st_ino
    store.clean_staged_data("key")
    store.stage_write("key", full(2))
    assert (folder / "key.safetensors").stat().st_ino != inode
    os.kill(reader.pid, signal.SIGKILL)
    reader.join()
    store.stage_write("other", full(3))
    assert (folder / "other.safetensors").stat().st_ino == inode


def _stay_inside(folder, answers):
    with DataStore("reader", describe(folder)) as store:
        incoming = store._backend.open("key", 0)
        answers.send("inside")
        time.sleep(600)
        incoming.close()


# The server


def test_a_file_system_without_hard_links_is_refused(tmp_path, monkeypatch):
    from simai_rules.lifecycle.reaper import clean
    from simai_rules.lifecycle.run_folder import RunFolder

    def refuse(*names, **folders):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    folder = tmp_path / "staging"
    folder.mkdir()
    config = server_registry.create_config("node-local", folder=str(folder))
    run = RunFolder.create(tmp_path / "server.json", None)
    try:
        monkeypatch.setattr(os, "link", refuse)
        with pytest.raises(ServerFailed, match=r"hard links.*Operation not permitted.*backends\.node-local\.folder"):
            make_server(config, run, ["here"], 0).start()
    finally:
        clean(run, "")
    assert list(folder.iterdir()) == []


def test_the_proof_of_hard_links_leaves_nothing(tmp_path):
    config = server_registry.create_config("node-local", folder=str(tmp_path))
    with ServerManager("test", config) as server:
        assert list(Path(server.get_server_info()["address"]["folder"]).iterdir()) == []
    assert list(tmp_path.iterdir()) == []


# Where there is no room


def in_small_memory(folder, size, action, options=""):
    """Run `action` in a process that sees a tmpfs of `size` at `folder`; it goes with the process."""
    script = 'mount -t tmpfs -o "size=$1$2" none "$3" || exit 77; shift 3; exec "$@"'
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, '{here}'); import {__name__} as tests; tests.{action}(sys.argv[1])"
    command = ["unshare", "--mount", "sh", "-c", script, "sh", size, options, folder]
    command += [sys.executable, "-c", code, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare" in done.stderr.split(":")[0]:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_free_is_given_back_before_it_is_full(tmp_path):
    in_small_memory(tmp_path, "8m", "_give_back")


def _give_back(folder):
    """Three free segments of 2 MB are in the way of 6 MB, as a segment and as an ordinary file."""
    with DataStore("test", describe(folder)) as store:
        for name in ("lone", "second"):
            steady(store, 5, elements=250_000)
            store.stage_write(name, full(1, 750_000))
            assert (store.stage_read(name) == 1).all()
            assert len(private(Path(folder))) <= 1
            store.clean_staged_data(name)


def test_what_others_keep_free_is_taken_before_it_is_full(tmp_path):
    in_small_memory(tmp_path, "10m", "_take_from_others")


def _take_from_others(folder):
    """Another writer keeps 9 MB for its next values, and a value of 1 MB of it is being read."""
    info = describe(folder)
    with DataStore("keeps", info) as keeps, DataStore("needs", info) as needs:
        steady(keeps, 8, elements=125_000, in_flight=4)
        keeps.stage_write("key", full(7, 125_000))
        keeps.stage_write("read", full(8, 125_000))
        incoming = needs._backend.open("read", 0)
        keeps.clean_staged_data("read")
        filler = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 500_000
        Path(folder, "filler").write_bytes(bytes(filler))
        needs.stage_write("large", full(1, 200_000))
        assert (decode(incoming)[0] == 8).all()
        incoming.close()
        assert (needs.stage_read("large") == 1).all()
        assert (needs.stage_read("key") == 7).all()
        needs.clean_staged_data("large")
        steady(keeps, 10, elements=125_000, in_flight=2)


def test_a_segment_is_cut_by_others_neither_while_it_is_written_nor_before_it_has_a_key(store, folder, monkeypatch):
    """Between the writer's last byte and its key, and as the writer closes: then a key's file is all that is left."""
    steady(store, 5)
    looks = []
    real = os.link, os.rename

    def link(*names, **folders):
        looks.append(segments._cut_free(store._backend._directory))
        real[0](*names, **folders)

    def rename(*names, **folders):
        segments._cut_free(store._backend._directory)
        looks.append("named")
        real[1](*names, **folders)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "rename", rename)
    for number in range(4):
        store.stage_write(f"key-{number}", full(number))
        assert (store.stage_read(f"key-{number}") == number).all()
    assert looks.count("named") == 4
    assert len(looks) == 8
    monkeypatch.undo()
    cut, looked = os.open, []

    def close_first(name, flags, *rest, **more):
        descriptor = cut(name, flags, *rest, **more)
        if str(name).startswith(SEGMENT) and not looked:
            looked.append(name)
            store.stage_write("last", full(9))  # the segment that is free gets a key…
            store.close()  # …and then has that name alone
        return descriptor

    store.clean_staged_data("key-3")
    monkeypatch.setattr(os, "open", close_first)
    directory = cut(folder, os.O_RDONLY)
    segments._cut_free(directory)
    os.close(directory)
    monkeypatch.undo()
    assert looked
    with DataStore("test", describe(folder)) as reader:
        assert (reader.stage_read("last") == 9).all()
        assert all((reader.stage_read(f"key-{number}") == number).all() for number in range(3))


def test_a_segment_that_is_cut_as_its_writer_chooses_it_is_whole_again(store, folder, monkeypatch):
    steady(store, 5, in_flight=1)
    real, cut = fcntl.flock, []

    def flock(descriptor, operation):
        if operation & fcntl.LOCK_EX and not cut:
            cut.append(True)
            assert segments._cut_free(store._backend._directory)
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    store.stage_write("key", full(3))
    assert cut
    assert (store.stage_read("key") == 3).all()


def test_a_segment_grows_only_where_there_is_room(tmp_path):
    in_small_memory(tmp_path, "8m", "_grow")


def _grow(folder):
    """A file of 1.6 MB has to become one of 3.2 MB: memory that a mapping lacks would be a SIGBUS."""
    with DataStore("test", describe(folder)) as store:
        store.stage_write("filler", full(9, 350_000))
        for number in range(3):
            store.stage_write(f"key-{number}", full(number, 200_000))
        store.clean_staged_data("key-0")
        with pytest.raises(StagingFull, match="needs 32"):
            store.stage_write("large", full(5, 400_000))
        for number in range(2):
            store.clean_staged_data(f"key-{number}")
            store.stage_write(f"key-{number}", full(number, 200_000))
        store.clean_staged_data("key-0")
        store.clean_staged_data("key-1")
        store.stage_write("large", full(5, 400_000))  # in the room of both files that are free
        for key, number in (("large", 5), ("key-2", 2), ("filler", 9)):
            assert (store.stage_read(key) == number).all()


def test_a_full_memory_is_told_and_kills_nobody(tmp_path):
    in_small_memory(tmp_path, "8m", "_fill_up")


def test_a_full_memory_with_large_pages_is_told_and_kills_nobody(tmp_path):
    in_small_memory(tmp_path, "64m", "_fill_up_large", ",huge=advise")


def _fill_up_large(folder):
    directory = os.open(folder, os.O_RDONLY)
    assert Mount(directory).large_pages_on_advice
    os.close(directory)
    _fill_up(folder, 2_000_000)


def _write_without_end(store, elements):
    for number in range(100):
        store.stage_write(f"key-{number}", full(number, elements))


def _fill_up(folder, elements=250_000):
    with DataStore("test", describe(folder)) as store:
        with pytest.raises(StagingFull) as caught:
            _write_without_end(store, elements)
        written = sum(store.poll_staged_data(f"key-{number}") for number in range(100))
        assert written >= 3
        for word in (f"'key-{written}'", "are free", folder, "Stage smaller"):
            assert word in str(caught.value)
        assert all((store.stage_read(f"key-{number}") == number).all() for number in range(written))
        assert not [path.name for path in Path(folder).iterdir() if path.name.startswith(".tmp.")]
        for number in range(written):
            store.clean_staged_data(f"key-{number}")
        steady(store, 10, elements=elements, in_flight=2)
        steady(store, 10, elements=elements + elements // 4, in_flight=2)  # and growing works again


# Against a dict


class Machine(RuleBasedStateMachine):
    """Two writers and readers that stay inside, in any order of whole verbs, against a dict."""

    keys = st.sampled_from(["a", "b", "c"])
    elements = st.sampled_from([100, 9_000, 10_000, 15_000, 40_000])
    clients = st.integers(0, 1)

    @initialize()
    def begin(self):
        self.folder = tempfile.mkdtemp(prefix="simai-rules-test-", dir="/dev/shm")
        self.stores = [DataStore("test", describe(self.folder), timeout=20) for _ in range(2)]
        self.model, self.inside, self.number = {}, [], 0

    @rule(client=clients, key=keys, elements=elements)
    def write(self, client, key, elements):
        self.number += 1
        value = full(self.number, elements)
        self.stores[client].stage_write(key, value)
        assert self.stores[client].last.replaced is (key in self.model)
        self.model[key] = value

    @rule(client=clients, key=keys)
    def delete(self, client, key):
        assert self.stores[client].clean_staged_data(key) is (self.model.pop(key, None) is not None)

    @rule(client=clients, key=keys)
    def begin_to_read(self, client, key):
        if key in self.model:
            self.inside.append((self.stores[client]._backend.open(key, 0), self.model[key]))

    @precondition(lambda self: self.inside)
    @rule(number=st.integers(0, 100))
    def read_on(self, number):
        incoming, expected = self.inside.pop(number % len(self.inside))
        np.testing.assert_array_equal(decode(incoming)[0], expected)
        incoming.close()

    @rule(client=clients)
    def reopen(self, client):
        self.stores[client].close()
        self.stores[client] = DataStore("test", describe(self.folder), timeout=20)

    @invariant()
    def all_is_there(self):
        if hasattr(self, "model"):
            for key in ("a", "b", "c"):
                assert self.stores[0].poll_staged_data(key) is (key in self.model)
                if key in self.model:
                    np.testing.assert_array_equal(self.stores[1].stage_read(key), self.model[key])

    def teardown(self):
        for incoming, expected in self.inside:
            np.testing.assert_array_equal(decode(incoming)[0], expected)
            incoming.close()
        for store in self.stores:
            store.close()
        left = {path.name for path in Path(self.folder).iterdir()}
        shutil.rmtree(self.folder)
        assert left == {f"{key}.safetensors" for key in self.model}


TestAgainstADict = Machine.TestCase
TestAgainstADict.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
