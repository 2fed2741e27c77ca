"""Staging on two nodes, which are two names of this machine: what a client on each finds, and who can read what."""

import json
import platform
import socket

import psutil
import pytest
from two_nodes import HOSTS, ServeOnTwo, client_on

from simai_rules.config.backends import RedisClusterConfig, RedisConfig
from simai_rules.launch.launcher import find_program
from simai_rules.lifecycle.proof import gotten, prove, remove_proof
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.interface import address_for
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import make_server
from simai_rules.staging.servers.redis_cluster_part import nodes_of

OF_A_NODE = [{"type": "node-local"}, {"type": "redis", "per": "node"}, {"type": "redis-cluster", "keys": "local"}]
OF_THE_JOB = [{"type": "filesystem"}, {"type": "redis"}, {"type": "redis-cluster", "replicas": 1}]


def named(config):
    return "-".join(map(str, config.values()))


@pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
@pytest.mark.parametrize("config", [*OF_A_NODE, *OF_THE_JOB], ids=named)
def test_a_value_is_read_from_where_it_can_be(traces, tmp_path, config):
    serve = ServeOnTwo(traces, tmp_path / "point", config)
    try:
        info = serve.wait_for("ready")
        assert info.hosts == HOSTS
        for number, node in enumerate(HOSTS):
            with client_on(node, info) as store:
                assert not store.poll_staged_data(f"serve/proof/{number}")  # the proof has left nothing
                store.stage_write(f"key of {node}", node)
                assert store.stage_read(f"key of {node}") == node
        for node, other in (HOSTS, HOSTS[::-1]):
            with client_on(node, info) as store:
                assert store.poll_staged_data(f"key of {other}") == (config in OF_THE_JOB)
        servers = {one.pid for one in map(psutil.Process, traces.pids()) if "redis-server" in one.name()}
        for pid in servers:
            assert {one.laddr.ip for one in psutil.Process(pid).net_connections() if one.status == "LISTEN"} == {
                "127.0.0.1"
            }
        serve.process.terminate()
        assert serve.process.wait(30) == 0
        assert traces.left() == []
    finally:
        serve.end()


# Without a server


def test_auto_is_loopback_for_one_node_and_what_leads_to_the_others_for_several(monkeypatch):
    option = "backends.redis.interface"
    assert address_for("auto", option, ["anything"], 0) == "127.0.0.1"
    assert address_for("auto", option, HOSTS, 0) == "127.0.0.1"
    routes = {"n2": "10.0.0.5", "n3": "10.0.0.5", "n4": "192.168.1.5", "localhost": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", _resolve(routes))
    monkeypatch.setattr(socket, "socket", _routed(routes))
    assert address_for("auto", option, ["n1", "n2", "n4", "n3", "localhost"], 0) == "10.0.0.5"
    assert address_for("auto", option, ["n4", "localhost"], 1) == "192.168.1.5"


def test_names_without_an_address_leave_that_of_this_node(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", _resolve({platform.node(): "10.1.1.1"}))
    assert address_for("auto", "backends.redis.interface", ["n1", "n2"], 0) == "10.1.1.1"
    monkeypatch.setattr(socket, "getaddrinfo", _resolve({}))
    with pytest.raises(ServerFailed, match=r"no way from .* to n2.*backends\.redis\.interface"):
        address_for("auto", "backends.redis.interface", ["n1", "n2"], 0)


def test_no_server_listens_on_all_interfaces(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", _resolve({platform.node(): "0.0.0.0"}))
    with pytest.raises(ServerFailed, match="Name the network interface"):
        address_for("auto", "backends.redis.interface", ["n1", "n2"], 0)


def _resolve(addresses):
    def resolve(name, *_):
        if name not in addresses:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (addresses[name], 0))]

    return resolve


def _routed(addresses):
    class Probe:
        """A socket of a machine that sends to each address from that address itself."""

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def connect(self, address):
            self.address = address[0]

        def getsockname(self):
            return self.address, 5

    return Probe


def test_masters_are_dealt_out_and_replicas_are_elsewhere():
    masters, replicas = nodes_of(RedisClusterConfig(masters=5, replicas=1), [0, 1])
    assert masters == [0, 1, 0, 1, 0]
    assert replicas == [1, 0, 1, 0, 1]
    assert nodes_of(RedisClusterConfig(masters=3, replicas=2), [4]) == ([4] * 3, [4] * 6)


def test_replicas_are_on_other_nodes_than_their_master():
    for nodes in (2, 3, 5):
        config = RedisClusterConfig(masters=7, replicas=2)
        masters, replicas = nodes_of(config, range(nodes))
        first, second = replicas[:7], replicas[7:]
        assert all(one != other for one, other in zip(masters, first, strict=True))
        assert nodes == 2 or all(one != other for one, other in zip(masters, second, strict=True))


def test_keys_that_stay_on_their_node_need_a_master_there(tmp_path):
    config = RedisClusterConfig(keys="local")
    with pytest.raises(ServerFailed, match=r"on each node of the point, which are 4, but masters is 3"):
        make_server(config, RunFolder(tmp_path / "run"), ["a", "b", "c", "d"], 0)


def test_sharing():
    assert [RedisConfig(per=per).sharing for per in ("job", "node")] == ["job", "node"]


def test_a_client_of_no_node_of_the_run_is_told_so(monkeypatch):
    monkeypatch.delenv("SIMAI_NODE", raising=False)
    address = {"nodes": [{"folder": "/a"}, {"folder": "/b"}]}
    info = ServerInfo("node-local", "run", "ready", hosts=("n1.invalid", "n2.invalid"), address=address)
    with pytest.raises(ServerLost, match=r"on n1\.invalid, n2\.invalid, each for its own node"):
        _ = info.address_here
    monkeypatch.setenv("SIMAI_NODE", "n2.invalid")
    assert info.address_here == {"folder": "/b"}


@pytest.mark.parametrize(
    "change",
    [{"address": {"nodes": 5}}, {"address": {"nodes": [{}]}}, {"address": {"nodes": [1, 2]}}, {"run_folders": ["x"]}],
)
def test_a_server_json_that_lacks_a_node_is_refused(change):
    whole = ServerInfo("redis", "run", "ready", hosts=("a", "b"), run_folders=("/a", "/b")).as_dict()
    assert ServerInfo.from_dict(json.loads(json.dumps(whole))).run_folders == ("/a", "/b")
    with pytest.raises(ServerLost, match=next(iter(change))):
        ServerInfo.from_dict(whole | change)


def test_the_proof_asks_for_no_more_values_than_there_are_nodes_three_times():
    nodes = list(range(0, 512, 2))
    wanted = {node: gotten(node, nodes) for node in nodes}
    assert wanted[0] == nodes
    assert wanted[2] == [0, 2]
    assert wanted[510] == [0, 508, 510]
    assert sum(map(len, wanted.values())) < 4 * len(nodes)


def test_the_proof_finds_a_value_of_another_node_missing(tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    info = ServerInfo("filesystem", "run", "ready", hosts=("a", "b"), address={"folder": str(folder)})
    with pytest.raises(ServerFailed, match="what was put on b could not be got on a"):
        prove(info, 0, [0, 1], 0.3, lambda: None)
    prove(info, 0, [0], 0.3, lambda: None)
    prove(info, 1, [0, 1], 5, lambda: None)
    prove(info, 0, [0, 1], 5, lambda: None)
    assert len(list(folder.iterdir())) == 2
    remove_proof(info, [0, 1], 5)
    assert list(folder.iterdir()) == []
