"""What only redis has: a server that can freeze, die, be another one, or be full."""

import dataclasses
import os
import signal
import socket
import threading
import time
import uuid

import numpy as np
import pytest
from staging_servers import RedisProcess

from simai_rules.staging.backends import redis, resp
from simai_rules.staging.errors import ServerLost, StagingError, StagingFull, StagingTimeout


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


def test_a_server_that_is_not_redis(info, connect):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServerLost):
            connect(with_address(info, port=server.getsockname()[1]))
        thread.join()


def test_an_address_that_lacks_something(info, connect):
    with pytest.raises(StagingError, match="password"):
        connect(dataclasses.replace(info, address={"host": "h", "port": 1}))


@pytest.mark.parametrize("verb", ["read", "missing", "poll", "write"])
def test_a_frozen_server_is_told_at_the_deadline(own, connect, verb):
    server = own()
    store = connect(server.info, timeout=3)
    store.stage_write("key", np.zeros(5_000_000))
    os.kill(server.process.pid, signal.SIGSTOP)
    action = {
        "read": lambda: store.stage_read("key", timeout=3),
        "missing": lambda: store.stage_read("missing", timeout=3),
        "poll": lambda: store.poll_staged_data("key"),
        "write": lambda: store.stage_write("other", np.zeros(5_000_000)),
    }[verb]
    start = time.monotonic()
    with pytest.raises(ServerLost, match=f"127.0.0.1:{server.port}"):
        action()
    assert 2.5 < time.monotonic() - start < 8
    os.kill(server.process.pid, signal.SIGCONT)
    assert store.stage_read("key").shape == (5_000_000,)


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
