"""What only redis-cluster has: several servers that have to be one, and keys that are divided among them."""

import collections
import contextlib
import dataclasses
import platform
import signal
import stat
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from staging_servers import info_of

from simai_rules.staging.backends.redis import LONGEST_VALUE
from simai_rules.staging.backends.resp import Connection, ReplyError, command
from simai_rules.staging.errors import ServerLost, StagingError, StagingTimeout
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import ServerManager, server_registry
from simai_rules.staging.servers.redis_cluster import SLOTS, slot_of, slots_of, tags_of
from simai_rules.staging.servers.redis_cluster_part import free_ports
from simai_rules.staging.servers.redis_process import find_redis_server


@pytest.fixture
def manager(started):
    """Return a function that starts a cluster that the test may harm."""
    return partial(started, "redis-cluster")


@pytest.fixture(scope="module")
def info():
    with ServerManager("test", server_registry.create_config("redis-cluster")) as server:
        yield info_of(server)


def servers_of(info):
    """The redis-servers by the port that they were given."""
    found = {}
    for child in psutil.Process(info.pid).children():
        if "redis-server" in " ".join(child.cmdline()):
            [port] = [
                line for line in Path(child.cwd(), "redis.conf").read_text().splitlines() if line.startswith("port ")
            ]
            found[int(port.split()[1])] = child
    return found


def ask(info, master, *words):
    """Return a master's reply to one command."""
    deadline_ns = time.perf_counter_ns() + 10**10
    connection = Connection(master["host"], master["port"], deadline_ns)
    connection.send((command(b"AUTH", info.address["password"].encode()), command(*words)), deadline_ns)
    assert connection.reply() == "OK"
    try:
        return connection.reply()
    finally:
        connection.close()


def failure_of(server, seconds=20):
    """Wait until the server has failed, and return what it says."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            server.get_server_info()
        except ServerFailed as failure:
            return str(failure)
        time.sleep(0.05)
    raise AssertionError("the server has not noticed")


def ended(processes, seconds=10):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.mark.parametrize("masters", [3, 4, 7, 100, 1000])
def test_slots_and_tags(masters):
    slots = [slot for number in range(masters) for slot in slots_of(number, masters)]
    assert slots == list(range(SLOTS))
    tags = tags_of(masters)
    assert len(set(tags)) == masters
    assert all(slot_of(tag[1:-1].encode()) in slots_of(number, masters) for number, tag in enumerate(tags))


def test_slots_are_those_of_redis(info):
    master = info.address["masters"][0]
    for tag in [*tags_of(50), "{ü}"]:
        assert ask(info, master, b"CLUSTER", b"KEYSLOT", f"a{tag}{{b}}".encode()) == slot_of(tag[1:-1].encode())


def test_every_master_has_its_share_and_every_key_its_place(info, connect):
    store = connect(info)
    keys = [f"snapshot/{step}/{rank}" for step in range(100) for rank in range(6)]
    keys += [f"{brace}{number}" for number in range(50) for brace in ("{same}", "{}", "a{b}{c}", "}{")]
    for key in keys:
        store.stage_write(key, key)
    held = collections.Counter()
    for master in info.address["masters"]:
        names = ask(info, master, b"KEYS", b"*")
        held[master["port"]] = len(names)
        prefix = f"simai:data:{master['tag']}".encode()
        assert all(name.startswith((prefix, b"simai:run_id{")) for name in names)
    assert sum(held.values()) == len(keys) + 3
    assert all(count > len(keys) / 5 for count in held.values())
    assert all(store.stage_read(key) == key for key in keys)
    assert all(store.clean_staged_data(key) for key in keys)


def test_the_cluster_is_whole_and_nothing_is_kept(info):
    folder = Path(info.run_folder, "redis-cluster")
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    for master in info.address["masters"]:
        state = ask(info, master, b"CLUSTER", b"INFO").decode()
        for line in ("cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3", "cluster_size:3"):
            assert line in state
        for setting, value in ((b"save", b""), (b"appendonly", b"no"), (b"cluster-node-timeout", b"60000")):
            assert ask(info, master, b"CONFIG", b"GET", setting) == [setting, value]
    assert stat.S_IMODE((folder / "master-0" / "redis.conf").stat().st_mode) == 0o600
    assert not list(folder.rglob("*.rdb"))


def test_it_listens_on_loopback_only_and_asks_for_the_password(info):
    servers = servers_of(info)
    assert sorted(servers) == sorted(master["port"] for master in info.address["masters"])
    for port, process in servers.items():
        addresses = {(one.laddr.ip, one.laddr.port) for one in process.net_connections() if one.status == "LISTEN"}
        assert addresses == {("127.0.0.1", port), ("127.0.0.1", port + 10_000)}
        assert info.address["password"] not in " ".join(process.cmdline())
        connection = Connection("127.0.0.1", port, time.perf_counter_ns() + 10**10)
        connection.send((command(b"CLUSTER", b"NODES"),), time.perf_counter_ns() + 10**10)
        with pytest.raises(ReplyError, match="NOAUTH"):
            connection.reply()
        connection.close()


def test_another_interface(manager, connect):
    others = [
        (name, one.address)
        for name, addresses in psutil.net_if_addrs().items()
        for one in addresses
        if one.family.name == "AF_INET" and not one.address.startswith("127.")
    ]
    if not others:
        pytest.skip("this machine has no network interface with an IPv4 address but loopback")
    info = info_of(manager(interface=others[0][0]))
    assert {master["host"] for master in info.address["masters"]} == {others[0][1]}
    for process in servers_of(info).values():
        assert {one.laddr.ip for one in process.net_connections() if one.status == "LISTEN"} == {others[0][1]}
    store = connect(info)
    for number in range(20):
        store.stage_write(f"key {number}", number)
    assert [store.stage_read(f"key {number}") for number in range(20)] == list(range(20))


def test_an_unknown_interface(manager):
    with pytest.raises(ServerFailed, match=r"'ib7'. Set backends.redis-cluster.interface to one of: .*\blo\b"):
        manager(interface="ib7")


def test_connections_are_made_when_a_master_is_needed(info, connect):
    ports = {master["port"] for master in info.address["masters"]}

    def connected():
        return [one for one in psutil.Process().net_connections() if one.raddr and one.raddr.port in ports]

    store = connect(info)
    assert len(connected()) == 1
    store.stage_write("key", 1)
    assert len(connected()) <= 2
    for number in range(20):
        store.poll_staged_data(f"key {number}")
    assert len(connected()) == 3
    store.close()
    assert connected() == []


def test_a_cluster_of_another_run(info, connect):
    with pytest.raises(ServerLost, match="belongs to the run"):
        connect(dataclasses.replace(info, run_id="another"))
    with pytest.raises(ServerLost, match="password"):
        connect(dataclasses.replace(info, address=info.address | {"password": "wrong"}))
    with pytest.raises(StagingError, match="masters"):
        connect(dataclasses.replace(info, address={"password": "x"}))


def test_every_master_is_proved_not_only_the_first(info, connect):
    """A master whose place another server has taken is noticed when its first key is used."""
    masters = info.address["masters"]
    swapped = [masters[1] | {"tag": masters[0]["tag"]}, masters[0] | {"tag": masters[1]["tag"]}, masters[2]]

    def use_all():
        store = connect(dataclasses.replace(info, address=info.address | {"masters": swapped}))
        return [store.poll_staged_data(f"key {number}") for number in range(20)]

    with pytest.raises(ServerLost, match=r"not whole any more.*MOVED"):
        use_all()


def test_a_cluster_that_is_down_is_a_lost_server(manager, connect):
    info = info_of(manager())
    store = connect(info)
    for number in range(20):
        store.stage_write(f"key {number}", number)
    for master in info.address["masters"]:
        ask(info, master, b"CLUSTER", b"DELSLOTS", b"0")
    for number in range(20):
        with pytest.raises(ServerLost, match=r"not whole any more.*CLUSTERDOWN"):
            store.stage_write(f"key {number}", number)
    with pytest.raises(ServerLost, match=r"not whole any more.*could not connect.*CLUSTERDOWN"):
        connect(info)


def test_local_keys_are_on_the_masters_of_this_node(info, connect):
    def arranged(*nodes):
        masters = [one | {"node": node} for one, node in zip(info.address["masters"], nodes, strict=True)]
        return dataclasses.replace(info, address=info.address | {"masters": masters, "keys": "local"})

    here = platform.node()
    store = connect(arranged("other", here, "other"))
    for number in range(20):
        store.stage_write(f"local {number}", number)
    names = [name for name in ask(info, info.address["masters"][1], b"KEYS", b"*") if b"}local " in name]
    assert len(names) == 20
    assert connect(arranged(f"{here}.example.org", "other", "other"))._backend._addresses[0].port
    assert len(connect(arranged("alias", "alias", "alias"))._backend._addresses) == 3
    with pytest.raises(StagingError, match=r"every node needs a master.*elsewhere, other. .*keys: spread"):
        connect(arranged("other", "other", "elsewhere"))
    for number in range(20):
        store.clean_staged_data(f"local {number}")


def test_a_waiting_reader_is_woken_on_every_master(info, connect, start_peer):
    store = connect(info)
    for number in range(6):
        start_peer("write_late", info, f"late {number}", 0.3)
    for number in range(6):
        assert store.stage_read(f"late {number}", timeout=60).shape == (10,)
    with pytest.raises(StagingTimeout, match="redis-cluster"):
        store.stage_read("never", timeout=0.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("replicas", "role"), [(0, "master"), (1, "master"), (1, "replica")])
def test_a_dead_or_halted_server_ends_the_run(manager, connect, number, replicas, role):
    server = manager(replicas=replicas)
    info = info_of(server)
    servers = servers_of(info)
    assert len(servers) == 3 + 3 * replicas
    victim = servers[info.address["masters"][1]["port"]]
    if role == "replica":
        victim = next(one for one in servers.values() if Path(one.cwd()).name == "replica-1")
    store = connect(info, timeout=3)
    victim.send_signal(number)
    text = failure_of(server)
    which = "master 2 of 3" if role == "master" else "replica 1 of master 2"
    assert f"redis-server, {which} (process {victim.pid}, 127.0.0.1:" in text
    assert ("is halted" if number == signal.SIGSTOP else "was ended by signal 9") in text
    assert "Its last lines: " in text
    assert ("No replica takes over" in text) == bool(replicas)
    assert ended(servers.values())
    with pytest.raises(ServerLost):
        store.stage_write("key", np.zeros(10))


def strangers_cluster(folder):
    """A redis of somebody else that claims all slots, with an epoch beyond ours; it is to be killed."""
    port = free_ports("127.0.0.1", set())
    words = ["--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([str(find_redis_server()), *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(ServerLost):
            deadline_ns = time.perf_counter_ns() + 10**10
            connection = Connection("127.0.0.1", port, deadline_ns)
            slots = [b"%d" % slot for slot in range(SLOTS)]
            for words in ((b"SET-CONFIG-EPOCH", b"999"), (b"ADDSLOTS", *slots)):
                connection.send((command(b"CLUSTER", *words),), deadline_ns)
                assert connection.reply() == "OK"
            return process, connection
        time.sleep(0.05)
    raise AssertionError("the stranger's redis did not start")


def test_a_stranger_who_takes_the_cluster_over_ends_the_run_and_gets_no_password(manager, tmp_path):
    """The bus has no password: masters become copies of whoever claims their slots with a later epoch."""
    server = manager()
    info = info_of(server)
    process, connection = strangers_cluster(tmp_path)
    try:
        master = info.address["masters"][0]
        connection.send(
            (command(b"CLUSTER", b"MEET", master["host"].encode(), b"%d" % master["port"]),),
            time.perf_counter_ns() + 10**10,
        )
        assert connection.reply() == "OK"
        assert "servers that are not of this run" in failure_of(server)
        connection.close()
    finally:
        process.kill()
        process.wait()


def test_servers_say_the_password_of_the_run_to_no_other_server(manager, info):
    assert ask(info, info.address["masters"][0], b"CONFIG", b"GET", b"masterauth") == [b"masterauth", b""]
    copied = info_of(manager(replicas=1))
    master = copied.address["masters"][0]
    [_, password] = ask(copied, master, b"CONFIG", b"GET", b"masterauth")
    assert password
    assert password != copied.address["password"].encode()
    # Who has that one can make a copy, and do nothing else.
    deadline_ns = time.perf_counter_ns() + 10**10
    connection = Connection(master["host"], master["port"], deadline_ns)
    for words in ((b"GET", b"key"), (b"SET", b"key", b"1"), (b"CONFIG", b"GET", b"*"), (b"CLUSTER", b"NODES")):
        connection.send((command(b"AUTH", b"replica", password), command(*words)), deadline_ns)
        assert connection.reply() == "OK"
        with pytest.raises(ReplyError, match="NOPERM"):
            connection.reply()
    connection.close()


def test_replicas_hold_copies_and_none_takes_over(manager):
    info = info_of(manager(replicas=1))
    for master in info.address["masters"]:
        text = ask(info, master, b"INFO", b"replication").decode()
        assert "role:master" in text
        assert "connected_slaves:1" in text
        assert ask(info, master, b"CONFIG", b"GET", b"cluster-replica-no-failover") == [
            b"cluster-replica-no-failover",
            b"yes",
        ]


def test_stopping_ends_all_servers(manager):
    server = manager()
    info = info_of(server)
    servers = servers_of(info)
    assert len(servers) == 3
    server.stop_server()
    assert not any(process.is_running() for process in servers.values())
    assert not Path(info.run_folder).exists()


def test_nothing_is_left_when_serve_is_killed(manager, traces, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(traces.folder))
    server = manager(replicas=1)
    info = info_of(server)
    servers = servers_of(info)
    assert len(servers) == 6
    psutil.Process(info.pid).kill()
    assert "its process was killed" in failure_of(server)
    assert ended(servers.values())
    assert traces.left_after(10) == []


def test_a_server_that_cannot_start(manager, tmp_path, monkeypatch):
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'Bad directive' >> redis.log\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(program))
    with pytest.raises(ServerFailed, match=r"redis-server, master 1 of 3 \(.*\) did not start: Bad directive"):
        manager()


def test_a_value_too_long_is_refused_on_every_master(info, connect):
    store = connect(info)
    with pytest.raises(StagingError, match=r"at most 536870912 \(512 MiB\)"):
        store.stage_write("too long", np.zeros(LONGEST_VALUE, np.uint8))
