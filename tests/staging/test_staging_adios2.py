"""ADIOS2: what its streams listen to, and what is said where it cannot be used."""

import fcntl
import importlib.util
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress

import numpy as np
import psutil
import pytest
from pydantic import ValidationError
from staging_streams import partner

from simai_rules.config.backends import Adios2Config
from simai_rules.errors import MissingProgram
from simai_rules.staging.backends import adios2, sst_link
from simai_rules.staging.backends.sst_link import ENDED, READ, SENT, Link, await_reader, base_name, find_writer
from simai_rules.staging.backends.sst_sockets import accept_only, own_sockets, send_at_once
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import StagingError, StreamTimeout
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, server_registry

needs_adios2 = pytest.mark.skipif(importlib.util.find_spec("adios2") is None, reason="adios2 is not installed")


def other_address():
    """An IPv4 address of this machine that is not loopback's, or None."""
    found = [
        item.address for items in psutil.net_if_addrs().values() for item in items if item.family == socket.AF_INET
    ]
    return next((address for address in found if not address.startswith("127.")), None)


def answers(host, port):
    try:
        socket.create_connection((host, port), timeout=1.5).close()
    except OSError:
        return False
    return True


def server(folder, **options):
    return ServerManager("test", server_registry.create_config("adios2", folder=str(folder), **options))


def in_a_fresh_process(check, folder):
    """Streams of earlier tests have sockets open, which SST uses again."""
    process = multiprocessing.get_context("spawn").Process(target=check, args=(folder,))
    process.start()
    process.join(100)
    process.kill()
    assert process.exitcode == 0


@needs_adios2
def test_streams_answer_on_their_interface_alone_and_leave_nothing(tmp_path):
    if other_address() is None:
        pytest.skip("this machine has no address but loopback's")
    in_a_fresh_process(check_that_streams_answer_on_their_interface_alone, tmp_path)


def check_that_streams_answer_on_their_interface_alone(tmp_path):
    address = other_address()
    me = psutil.Process()
    before = {item.laddr.port for item in me.net_connections("tcp") if item.status == psutil.CONN_LISTEN}
    with server(tmp_path) as running, DataStore("test", running.get_server_info(), timeout=60) as store:
        process = multiprocessing.get_context("spawn").Process(
            target=partner, args=("read_values", running.get_server_info(), "s")
        )
        process.start()
        with store.stream_writer("s") as stream:
            for number in range(3):
                stream.begin_step()
                stream.write(np.full(1000, number))
                stream.end_step()
            ports = {
                item.laddr.port for item in me.net_connections("tcp") if item.status == psutil.CONN_LISTEN
            } - before
            assert ports
            assert [port for port in ports if not answers("127.0.0.1", port)] == []
            assert [port for port in ports if answers(address, port)] == []
        assert store.stage_read("s/numbers") == [0, 1, 2]
        process.join(30)
        folder = store._backend.where
        left = [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
        assert left == [], folder
    assert list(tmp_path.iterdir()) == []
    after = {item.laddr.port for item in me.net_connections("tcp") if item.status == psutil.CONN_LISTEN}
    assert after == before


def test_a_listening_socket_is_made_deaf_to_other_addresses():
    address = other_address()
    if address is None:
        pytest.skip("this machine has no address but loopback's")
    with socket.create_server(("0.0.0.0", 0)) as listener:  # as SST does
        port = listener.getsockname()[1]
        assert answers(address, port)
        accept_only(listener.fileno(), "127.0.0.1")
        assert not answers(address, port)
        assert answers("127.0.0.1", port)


@pytest.mark.parametrize(("options", "words"), [({"interface": "nope0"}, ["nope0", "backends.adios2.interface", "lo"])])
@needs_adios2
def test_an_unknown_interface_is_refused_by_the_server(tmp_path, options, words):
    with pytest.raises(ServerFailed) as caught:
        server(tmp_path, **options).start_server()
    assert all(word in str(caught.value) for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"queue_limit": 0}, {"queue_policy": "drop"}, {"data_transport": "wan"}, {"folder": ""}, {"depth": 3}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        Adios2Config.model_validate(options)


def test_streams_over_loopback_stay_on_their_node():
    assert Adios2Config().sharing == "node"
    assert Adios2Config(interface="hsn0").sharing == "job"


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "adios2", None)
    monkeypatch.setitem(sys.modules, "adios2.bindings", None)
    with pytest.raises(MissingProgram, match=r"pip install 'simai-rules\[adios2\]'"):
        adios2.bindings.__wrapped__()


@needs_adios2
def test_the_bindings_do_not_bring_torch():
    code = (
        "import sys; from simai_rules.staging.backends.adios2 import bindings; bindings(); "
        "print('torch' in sys.modules, 'cupy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", ["../../x", "a/b", ".", "🚀", "k" * 5000, "nul\0", "new\nline"])
def test_the_name_of_a_stream_stays_in_the_folder(name):
    base = base_name(name)
    assert "/" not in base
    assert "\0" not in base
    assert not base.startswith(".")
    assert len(base) < 220


def link_pair(folder, name, deadline_s=20.0):
    """Both ends of a line, made in two threads."""
    ends = {}
    deadline = time.perf_counter_ns() + int(deadline_s * 1e9)
    thread = threading.Thread(target=lambda: ends.update(writer=await_reader(name, folder, "127.0.0.1", deadline)))
    thread.start()
    ends["reader"] = find_writer(name, folder, deadline)
    thread.join()
    return ends["writer"], ends["reader"]


def test_the_ends_of_a_line_hear_each_other_and_the_end(tmp_path):
    writer, reader = link_pair(tmp_path, "s")
    reader.tell(READ, 1)
    reader.tell(READ, 2**40)
    writer.tell(ENDED, 7)
    soon = time.perf_counter_ns() + 10**10
    while writer.read != 2**40:
        writer.hear(soon)
    reader.hear(soon)
    assert (reader.ended, reader.lost, writer.lost) == (7, False, False)
    reader.close()
    writer.hear(soon)
    assert writer.lost
    assert "process " in str(writer.partner_died("reader"))
    writer.tell(READ, 1)  # into the void
    writer.close()


def test_the_text_of_a_step_comes_with_the_word_of_it_whole(tmp_path):
    writer, reader = link_pair(tmp_path, "s")
    soon = time.perf_counter_ns() + 10**10
    message = sst_link._MESSAGE.pack(SENT, 1, 400) + b"t" * 400
    for half in (message[:5], message[5:200], message[200:]):
        assert not reader.texts
        writer._connection.send(half)
        assert reader.hear(soon)
    assert (reader.sent, list(reader.texts)) == (1, [b"t" * 400])
    assert not reader.hear()
    assert not reader.hear(time.perf_counter_ns() - 1)
    reader.close()
    writer.close()


def test_what_a_partner_that_hears_nothing_cannot_take_is_not_lost(tmp_path):
    writer, reader = link_pair(tmp_path, "s")
    count = 0
    while not writer._unsent:
        writer.tell(SENT, count := count + 1, b"t" * 60_000)
    for _ in range(3):
        writer.tell(SENT, count := count + 1, b"end")
    reader.tell(READ, 1)
    soon = time.perf_counter_ns() + 2 * 10**10
    while reader.sent < count and time.perf_counter_ns() < soon:
        reader.hear(time.perf_counter_ns() + 10**7)
        reader.tell(READ, 1)
        writer.hear(time.perf_counter_ns() + 10**7)
    assert len(reader.texts) == reader.sent == count
    assert set(reader.texts) == {b"t" * 60_000, b"end"}
    reader.close()
    writer.close()


def test_a_line_with_a_large_descriptor(tmp_path, monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2000:
        pytest.skip("this machine allows no 2000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2000), limits[1]))
    try:
        near, far = socket.socketpair()
        with near, far, socket.socket(fileno=fcntl.fcntl(near.fileno(), fcntl.F_DUPFD, 1500)) as high:
            monkeypatch.setattr(sst_link, "_KEEPALIVE", ())
            monkeypatch.setattr(high.__class__, "setsockopt", lambda *_: None)  # these are no TCP sockets
            link = Link("s", high, "p")
            far.send(b"L" + bytes(8 + sst_link._MESSAGE.size - 9))
            link.hear(time.perf_counter_ns() + 10**10)
            assert link.left
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_stranger_who_talks_slowly_is_thrown_out(tmp_path):
    deadline = time.perf_counter_ns() + 20 * 10**9
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = threading.Event()

        def drip():
            while not done.wait(0.2):
                with suppress(OSError):
                    theirs.send(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        begin = time.monotonic()
        assert sst_link._greeting(ours, "token") == ""
        done.set()
        thread.join()
        assert time.monotonic() - begin < 15  # 200 s for all that a greeting may have
    assert time.perf_counter_ns() < deadline


@pytest.mark.parametrize(
    "offer", ["{}", "[]", "3", '{"host": 3}', "half {", '{"host": "x y", "port": 99999, "token": 1}']
)
def test_an_offer_that_is_none(tmp_path, offer):
    (tmp_path / "s.link").write_text(offer)
    with pytest.raises(StreamTimeout, match="opened by no writer"):
        find_writer("s", tmp_path, time.perf_counter_ns() + 2 * 10**8)


def test_small_messages_are_sent_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        send_at_once(listener.fileno())
        with socket.create_connection(listener.getsockname()) as near, listener.accept()[0] as far:
            send_at_once(near.fileno())
            assert [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in (near, far)] == [1, 1]
    near, far = socket.socketpair()
    with near, far:
        send_at_once(near.fileno())  # not TCP: left as it is


@needs_adios2
def test_what_the_line_does_not_take_comes_by_sst(tmp_path, monkeypatch):
    monkeypatch.setattr(adios2, "_MOST_ON_THE_LINE", 1)
    with server(tmp_path) as running, DataStore("test", running.get_server_info(), timeout=60) as store:
        process = multiprocessing.get_context("spawn").Process(
            target=partner, args=("read_values", running.get_server_info(), "s", "go")
        )
        process.start()
        with store.stream_writer("s") as stream:
            for number in range(3):
                stream.begin_step()
                stream.write(np.full(10, number))
                stream.end_step()
            assert stream._stage._text == b""
            store.stage_write("go", True)
        assert [store.stage_read(f"s/{number}")[9] for number in range(3)] == [0, 1, 2]
        process.join(30)


@pytest.mark.parametrize("held", ["too long", "not too long"])
def test_a_call_that_does_not_come_back_ends_the_process(held):
    code = (
        "import ctypes, sys, time; from simai_rules.staging.backends import sst_watchdog as w\n"
        "w._OVERTIME_NS, hold = 300_000_000, ctypes.PyDLL(None).usleep\n"
        "dog = w.Watchdog('the partner ü is halted')\n"
        "for _ in range(2):\n"
        "    with dog.until(time.perf_counter_ns() - 10**9): hold(1000)\n"
        "time.sleep(0.6)\n"
        "with dog.until(0): hold(int(sys.argv[1]))\n"
        "dog.end(); dog.end(); print('went on')"
    )
    microseconds = {"too long": 20_000_000, "not too long": 1000}[held]
    done = subprocess.run([sys.executable, "-c", code, str(microseconds)], capture_output=True, timeout=60)
    if held == "too long":
        assert done.returncode == -signal.SIGABRT
        assert "the partner ü is halted" in done.stderr.decode()
        assert done.stdout == b""
    else:
        assert (done.returncode, done.stdout) == (0, b"went on\n"), done.stderr


@needs_adios2
def test_the_sockets_of_a_stream_send_at_once(tmp_path):
    in_a_fresh_process(check_that_sockets_send_at_once, tmp_path)


def check_that_sockets_send_at_once(tmp_path):
    before = own_sockets()
    with server(tmp_path) as running, DataStore("test", running.get_server_info(), timeout=60) as store:
        process = multiprocessing.get_context("spawn").Process(
            target=partner, args=("read_values", running.get_server_info(), "s")
        )
        process.start()
        with store.stream_writer("s") as stream:
            stream.begin_step()
            stream.write(1)
            stream.end_step()
            delays = []
            for descriptor in own_sockets() - before:
                with socket.socket(fileno=os.dup(descriptor)) as one:
                    if one.family == socket.AF_INET and one.type == socket.SOCK_STREAM:
                        delays.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        process.join(30)
    assert len(delays) >= 3
    assert set(delays) == {1}


def test_a_stranger_gets_no_line_and_stops_nobody(tmp_path):
    ends = {}
    deadline = time.perf_counter_ns() + 20 * 10**9
    thread = threading.Thread(target=lambda: ends.update(writer=await_reader("s", tmp_path, "127.0.0.1", deadline)))
    thread.start()
    path = tmp_path / "s.link"
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    assert path.stat().st_mode & 0o777 == 0o600
    port = json.loads(path.read_text())["port"]
    for said in (b"", b"GET / HTTP/1.1\r\n", b'{"token": "guessed", "process": "x"}\n', b"[]\n", b"x" * 5000 + b"\n"):
        with socket.create_connection(("127.0.0.1", port)) as stranger, suppress(OSError):  # it may be thrown out early
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(10) == b""
    reader = find_writer("s", tmp_path, deadline)
    thread.join()
    reader.close()
    ends["writer"].close()


def test_the_link_of_a_dead_writer_is_no_writer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    offer = {"host": "127.0.0.1", "port": port, "token": "t", "process": "process 1 on x"}
    (tmp_path / "s.link").write_text(json.dumps(offer))
    with pytest.raises(StreamTimeout, match="opened by no writer"):
        find_writer("s", tmp_path, time.perf_counter_ns() + 3 * 10**8)
    with pytest.raises(StagingError, match="has a writer, or had one that died"):
        await_reader("s", tmp_path, "127.0.0.1", time.perf_counter_ns() + 3 * 10**8)
    other = uuid.uuid4().hex
    with pytest.raises(StreamTimeout, match="opened by no reader"):
        await_reader(other, tmp_path, "127.0.0.1", time.perf_counter_ns() + 3 * 10**8)
    assert not (tmp_path / f"{other}.link").exists()
