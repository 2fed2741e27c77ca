"""What streams do on every backend that offers them."""

import multiprocessing
import signal
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest
from staging_servers import Variant
from staging_streams import partner

from simai_rules.staging.backends.sst_link import find_writer
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import ServerLost, StagingError, StreamTimeout
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.stream import StreamReader

STREAMING = {"adios2": Variant("adios2", {"folder": "{folder}"}, needs=("adios2",))}
LIMIT = 3
VALUES = [
    {"data": np.arange(6.0), "rank": 3, "names": ["u"], "empty": np.zeros((0, 4)), "text": "ü"},
    np.asfortranarray(np.arange(12.0, dtype="f4").reshape(3, 4)),
    np.arange(10)[::2],
    *[
        (np.arange(20) % 2 * 100).astype(dtype).reshape(4, 5)
        for dtype in ("?", "u1", "i8", "f2", "f8", "c8", "c16", ">f4")
    ],
    np.array(3.5),
    np.zeros(0),
    b"bytes",
    "text",
    [1, None, {"a": [2.5]}],
    {f"array {number}": np.full(number % 7, number) for number in range(300)},
]


@pytest.fixture(scope="module", params=STREAMING.values(), ids=STREAMING)
def streaming(request):
    if request.param.lacks:
        pytest.skip(request.param.lacks)
    return request.param


def serve(streaming, folder, **options):
    changed = Variant(streaming.backend, streaming.options | options, streaming.needs)
    return changed.start(folder)


@pytest.fixture(scope="module")
def info(streaming, tmp_path_factory):
    server = serve(streaming, tmp_path_factory.mktemp("block"), queue_limit=LIMIT)
    yield ServerInfo.from_dict(server.get_server_info())
    server.stop_server()


@pytest.fixture(scope="module")
def discarding(streaming, tmp_path_factory):
    server = serve(streaming, tmp_path_factory.mktemp("discard"), queue_limit=LIMIT, queue_policy="discard")
    yield ServerInfo.from_dict(server.get_server_info())
    server.stop_server()


@pytest.fixture
def store(info):
    with DataStore("test", info, timeout=60) as store:
        yield store


@pytest.fixture
def name():
    return f"../stream 🚀/{uuid.uuid4().hex}"


@pytest.fixture
def start():
    """Return a function that starts a partner; all are ended after the test."""
    processes = []

    def start_partner(action, *arguments):
        process = multiprocessing.get_context("spawn").Process(target=partner, args=(action, *arguments))
        process.start()
        processes.append(process)
        return process

    yield start_partner
    for process in processes:
        process.kill()
        process.join()


def put(stream, value):
    going_on = stream.begin_step()
    stream.write(value)
    stream.end_step()
    return going_on


def same(found, value):
    if isinstance(value, dict):
        return list(found) == list(value) and all(same(found[key], value[key]) for key in value)
    if isinstance(value, np.ndarray):
        return (
            np.array_equal(found, value)
            and found.dtype == value.dtype.newbyteorder("=")
            and found.flags.f_contiguous == np.require(value, requirements="A").flags.f_contiguous | (value.ndim < 2)
        )
    return found == value and type(found) is type(value)


def test_values_of_every_kind_arrive_in_order(store, info, name, start):
    start("read_values", info, name)
    with store.stream_writer(name) as stream:
        for value in VALUES:
            assert put(stream, value) is True
            assert stream.last.verb == "write"
            assert stream.last.serialize_ns + stream.last.transport_ns == stream.last.duration_ns
    assert store.stage_read(f"{name}/numbers") == list(range(len(VALUES)))
    for number, value in enumerate(VALUES):
        assert same(store.stage_read(f"{name}/{number}"), value), value


def test_the_writer_may_change_its_array_after_the_step(store, info, name, start):
    start("read_values", info, name, f"{name}/go")
    data = np.zeros(1_000_000)
    with store.stream_writer(name) as stream:
        for number in range(LIMIT):
            data[:] = number
            put(stream, data)
        data[:] = -1
        store.stage_write(f"{name}/go", True)
    for number in range(LIMIT):
        back = store.stage_read(f"{name}/{number}")
        assert (back == number).all()


def test_reading_into_a_given_array(store, info, name, start):
    start("write_values", info, name, [np.arange(12.0), {"a": 1}])
    out = np.empty(12)
    with store.stream_reader(name) as stream:
        assert stream.begin_step() == 0
        with pytest.raises(StagingError, match="out="):
            stream.read(out=np.empty(13))
        assert stream.read(out=out) is out
        assert stream.read()[11] == 11
        stream.end_step()
        assert stream.last.verb == "read"
        assert stream.last.nbytes > 96
        np.testing.assert_array_equal(out, np.arange(12.0))
        assert stream.begin_step() == 1
        stream.end_step()  # a step may be left unread
        assert stream.begin_step() is None
        assert stream.ended


def test_the_writer_waits_for_room_until_its_deadline(store, info, name, start):
    start("read_values", info, name, f"{name}/go")
    with store.stream_writer(name) as stream:
        for number in range(LIMIT):
            put(stream, number)
            assert not stream.discarded
        with pytest.raises(StreamTimeout, match=r"had no room .* 0\.3 s") as caught:
            stream.begin_step(timeout=0.3)
        assert caught.value.key == name
        store.stage_write(f"{name}/go", True)
        assert stream.begin_step()
        assert stream.last.verb == "wait"
        assert stream.last.wait_ns == stream.last.duration_ns
        stream.write(LIMIT)
        stream.end_step()
    assert store.stage_read(f"{name}/numbers") == [0, 1, 2, 3]


def test_a_full_queue_drops_the_newest(discarding, name, start):
    start("read_values", discarding, name, f"{name}/go")
    with DataStore("test", discarding, timeout=60) as store:
        with store.stream_writer(name) as stream:
            dropped = []
            for number in range(8):
                put(stream, number)
                dropped.append(stream.discarded)
                assert (stream.last.nbytes == 0) == stream.discarded
            assert dropped == [False] * LIMIT + [True] * (8 - LIMIT)
            store.stage_write(f"{name}/go", True)
            deadline = time.monotonic() + 30
            while stream.discarded and time.monotonic() < deadline:
                put(stream, number := number + 1)
                time.sleep(0.01)
            assert not stream.discarded
        assert store.stage_read(f"{name}/numbers") == [0, 1, 2, number]
        assert store.stage_read(f"{name}/3") == number


def test_the_reader_waits_until_its_deadline(store, info, name, start):
    start("write_values", info, name, [1], 0.0, f"{name}/go")
    with store.stream_reader(name) as stream:
        assert stream.begin_step() == 0
        stream.end_step()
        begin = time.monotonic()
        assert stream.begin_step(timeout=0.4) is None
        assert 0.35 < time.monotonic() - begin < 10
        assert stream.begin_step(timeout=0) is None
        assert stream.last.verb == "poll"
        assert stream.last.found is False
        assert not stream.ended
        store.stage_write(f"{name}/go", True)
        assert stream.begin_step() is None
        assert stream.ended
        assert stream.begin_step(timeout=0) is None


@pytest.mark.parametrize("late", ["read_late", "write_late"])
def test_whoever_comes_first_waits_for_the_other(store, info, name, start, late):
    start(late, info, name, 0.5)
    if late == "read_late":
        with store.stream_writer(name) as stream:
            put(stream, 0)
        assert store.stage_read(f"{name}/numbers") == [0]
    else:
        with store.stream_reader(name) as stream:
            assert stream.begin_step() == 0


@pytest.mark.parametrize("role", ["writer", "reader"])
def test_no_partner_comes(store, info, name, start, role):
    other = {"writer": "reader", "reader": "writer"}[role]
    with pytest.raises(StreamTimeout, match=f"opened by no {other} within 0.3 s"):
        getattr(store, f"stream_{role}")(name, timeout=0.3)
    start("write_values", info, name, [7])
    with store.stream_reader(name) as stream:
        assert stream.begin_step() == 0
        assert stream.read() == 7
        stream.end_step()


def test_a_reader_that_leaves_early(store, info, name, start):
    start("read_values", info, name, "", 1)
    with store.stream_writer(name) as stream:
        for number in range(100):
            if not stream.begin_step():
                break
            stream.write(number)
            stream.end_step()
        assert number <= LIMIT + 1
        assert stream.begin_step() is False
        with pytest.raises(StagingError, match="no open step"):
            stream.write(1)


def test_calls_out_of_order_and_after_the_end(store, info, name, start):
    start("read_values", info, name)
    stream = store.stream_writer(name)
    for call in (lambda: stream.write(1), stream.end_step):
        with pytest.raises(StagingError, match="begin_step first"):
            call()
    stream.begin_step()
    with pytest.raises(StagingError, match="end_step first"):
        stream.begin_step()
    with pytest.raises(StagingError, match="no value"):
        stream.end_step()
    with pytest.raises(TypeError, match="set"):
        stream.write({1})
    stream.write(1)
    with pytest.raises(StagingError, match="one value"):
        stream.write(2)
    stream.end_step()
    stream.close()
    stream.close()
    with pytest.raises(StagingError, match="closed"):
        stream.begin_step()
    assert store.stage_read(f"{name}/numbers") == [0]


def test_a_stream_has_one_writer_and_can_be_opened_again(store, info, name, start):
    start("read_values", info, name)
    with store.stream_writer(name) as stream:
        with pytest.raises(StagingError, match="has a writer"):
            store.stream_writer(name)
        put(stream, "first")
    assert store.stage_read(f"{name}/numbers") == [0]  # the reader's last word
    assert store.stage_read(f"{name}/0") == "first"
    store.clean_staged_data(f"{name}/numbers")
    start("read_values", info, name)
    with store.stream_writer(name) as stream:
        put(stream, "second")
    assert store.stage_read(f"{name}/numbers") == [0]
    assert store.stage_read(f"{name}/0") == "second"


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "raise"])
def test_a_writer_learns_that_its_reader_has_died(store, info, name, start, how):
    process = start("read_and_die", info, name, how)
    stream = store.stream_writer(name)

    def write_on():
        with stream:
            for number in range(1000):
                put(stream, number)
                time.sleep(0.01)

    with pytest.raises(ServerLost, match=f"process {process.pid} on .* has ended without closing it"):
        write_on()
    with pytest.raises(StagingError, match="closed"):
        stream.begin_step()


@pytest.mark.parametrize("how", ["SIGKILL", "raise"])
def test_a_reader_learns_that_its_writer_has_died(store, info, name, start, how):
    process = start("write_and_die", info, name, how)
    stream = store.stream_reader(name)
    assert stream.begin_step() == 0
    assert stream.read() == 0
    stream.end_step()
    store.stage_write(f"{name}/die", True)
    begin = time.monotonic()
    with pytest.raises(ServerLost, match=f"process {process.pid} on .* has ended without closing it"):
        stream.begin_step()
    assert time.monotonic() - begin < 20
    stream.close()


def test_closing_has_a_deadline(store, info, name, start):
    start("read_and_die", info, name, "SIGSTOP")
    stream = store.stream_writer(name)
    for number in range(2):
        put(stream, number)
    with pytest.raises(StreamTimeout, match="not read to its end"):
        stream.close(timeout=1.0)


def test_a_writer_whose_reader_is_halted_has_no_room(streaming, name, start, tmp_path):
    """Eight steps of 1 MB are more than the sockets between the two take."""
    server = serve(streaming, tmp_path, queue_limit=8)
    try:
        info = ServerInfo.from_dict(server.get_server_info())
        start("read_and_die", info, name, "SIGSTOP")
        with DataStore("test", info, timeout=60) as store:
            stream = store.stream_writer(name)
            data = np.zeros(1_000_000, np.uint8)
            put(stream, data)
            put(stream, data)
            time.sleep(2)
            for _ in range(7):
                put(stream, data)
            with pytest.raises(StreamTimeout, match="had no room"):
                stream.begin_step(timeout=0.5)
            with pytest.raises(StreamTimeout, match="may be lost"):
                stream.close(timeout=0.1)
    finally:
        server.stop_server()


def test_a_reader_that_has_all_but_does_not_look_again_loses_nothing(store, info, name, start):
    start("read_late_and_leave", info, name, 3.0)
    stream = store.stream_writer(name)
    for number in range(2):
        put(stream, number)
    store.stage_read(f"{name}/read")
    stream.close(timeout=0.2)
    assert store.stage_read(f"{name}/ended") is True


def test_a_writer_whose_reader_dies_while_it_opens_is_ended(store, info, name, start, capfd):
    """The library never returns then, and no Python code of the process runs."""
    process = start("open_writer", info, name, 1.0)
    link = find_writer(name, Path(store._backend.where), time.perf_counter_ns() + 30 * 10**9)
    link.close()
    process.join(40)
    assert process.exitcode == -signal.SIGABRT
    assert "SST did not come back by the deadline. process " in capfd.readouterr().err


def test_a_reader_whose_writer_is_halted_is_ended(store, info, name, start, capfd):
    writer = start("write_and_be_halted", info, name)
    reader = start("read_soon", info, name)
    store.stage_read(f"{name}/begun")
    deadline = time.monotonic() + 30
    while psutil.Process(writer.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)
    store.stage_write(f"{name}/halted", True)
    reader.join(40)
    assert reader.exitcode == -signal.SIGABRT
    assert f"by the deadline. process {writer.pid} on " in capfd.readouterr().err


def test_what_is_timed_as_waiting_and_what_as_moving(info, name):
    """Taking the step from the library is part of reading it; a blocking look is waiting, not polling."""

    class Slow:
        source, queue_limit, ended = "here", 1, False

        def begin(self, deadline_ns):
            time.sleep(0.01)
            return True

        def take(self):
            time.sleep(0.2)
            return 7

        def end(self):
            pass

    stream = StreamReader(name, Slow(), 10**9)
    for timeout, verb, part in ((0, "poll", "transport_ns"), (None, "wait", "wait_ns")):
        assert stream.begin_step(timeout=timeout) == 7
        assert (stream.last.verb, stream.last.found) == (verb, True)
        assert getattr(stream.last, part) == stream.last.duration_ns < 2 * 10**8
        stream.end_step()
        assert stream.last.verb == "read"
        assert stream.last.transport_ns == stream.last.duration_ns >= 2 * 10**8


@pytest.mark.parametrize(("wrong", "error"), [("", ValueError), (3, TypeError)])
def test_what_is_no_name(store, wrong, error):
    with pytest.raises(error):
        store.stream_writer(wrong)


def test_a_backend_without_streams_says_so(tmp_path):
    info = ServerInfo("filesystem", "r", "ready", address={"folder": str(tmp_path)})
    with DataStore("test", info) as store:
        assert not store.has_streams
        with pytest.raises(StagingError, match="filesystem has no streams"):
            store.stream_reader("s")
