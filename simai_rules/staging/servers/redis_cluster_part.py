"""The part of a redis cluster on one node: the redis-servers that are to run there, not yet joined."""

from collections.abc import Sequence
from random import SystemRandom
from typing import Any

from simai_rules.config.backends import RedisClusterConfig
from simai_rules.staging.interface import address_for, why_not_free
from simai_rules.staging.server import Run, ServerFailed
from simai_rules.staging.servers.redis_process import RedisProcess, find_redis_server

BUS = 10_000
"""A server's port for the others of its cluster is its own and this; redis before 7.0 knows no other."""
PORTS = range(10_000, 20_000)
"""Both ports lie below 32768, from which on Linux gives ports to outgoing connections."""

# The run ends with the first server that dies, so none takes over for another. The node timeout sets the pace at which
# servers hear of each other, and is raised when they have. Replicas get their copy without a file.
_SETTINGS = """\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 1000
cluster-announce-ip {host}
cluster-replica-no-failover yes
"""
# A server logs on to whatever the cluster's bus, which has no password, names as its master. So what it says there is
# no more than a copy takes, and where there are no replicas it has nothing to say.
_REPLICATION = """\
user replica on >{password} +psync +replconf +ping
masteruser replica
masterauth {password}
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-diskless-load on-empty-db
"""


def nodes_of(config: RedisClusterConfig, nodes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return which of `nodes` each master is on, dealt out in turn, and each replica.

    Replicas come in rounds: each master's first one, and then its next. They are on other nodes than their master,
    where there are any.
    """
    count = config.masters
    masters = [number % len(nodes) for number in range(count)]
    replicas = [(number % count + 1 + number // count) % len(nodes) for number in range(count * config.replicas)]
    return [nodes[number] for number in masters], [nodes[number] for number in replicas]


def serving(run: Run, hosts: Sequence[str]) -> Sequence[int]:
    """Return the numbers of the nodes that the cluster is on."""
    return run.serving or range(len(hosts))


class RedisClusterPart:
    """The redis-servers of a cluster on this node; `order` holds the passwords of the whole cluster."""

    def __init__(self, config: RedisClusterConfig, run: Run, hosts: Sequence[str], order: dict[str, Any]) -> None:
        self.config, self._run, self._hosts, self._order = config, run, hosts, order
        self.masters: dict[int, RedisProcess] = {}
        self.replicas: dict[int, RedisProcess] = {}

    def launch(self) -> None:
        """Start the servers, without waiting for them; raises ServerFailed, MissingProgram."""
        program = find_redis_server()
        option = "backends.redis-cluster.interface"
        host = address_for(self.config.interface, option, self._hosts, self._run.index)
        settings = _SETTINGS.format(host=host)
        if self.config.replicas:
            settings += _REPLICATION.format(password=self._order["replicas"])
        masters, replicas = nodes_of(self.config, serving(self._run, self._hosts))
        here = self._run.index
        self.masters = {
            number: self._process(master_title(self.config, number), f"master-{number}", host, settings)
            for number, node in enumerate(masters)
            if node == here
        }
        self.replicas = {
            number: self._process(replica_title(self.config, number), f"replica-{number}", host, settings)
            for number, node in enumerate(replicas)
            if node == here
        }
        for process in self.all:
            process.launch(program, self._order["password"])

    def wait_until_up(self, deadline: float) -> dict[str, Any]:
        """Wait until all accept connections; return where they are, by their numbers. Raises ServerFailed."""
        for process in self.all:
            process.wait_until_up(deadline)
        return {
            "masters": {str(number): [process.host, process.port] for number, process in self.masters.items()},
            "replicas": {str(number): [process.host, process.port] for number, process in self.replicas.items()},
        }

    @property
    def all(self) -> list[RedisProcess]:
        """All servers of this node, masters first."""
        return [*self.masters.values(), *self.replicas.values()]

    def _process(self, title: str, name: str, host: str, settings: str) -> RedisProcess:
        return RedisProcess(
            self._run,
            self._run.folder / "redis-cluster" / name,
            title=title,
            host=host,
            choose_port=lambda: free_ports(host, {process.port for process in self.all}),
            io_threads=self.config.io_threads,
            more=settings,
        )

    def check(self) -> None:
        """Raise ServerFailed if any of the servers of this node has ended or is halted, replica or not."""
        for process in self.all:
            try:
                process.check()
            except ServerFailed as failure:
                if not self.config.replicas:
                    raise
                raise ServerFailed(
                    f"{failure} (No replica takes over: a cluster that has lost a server measures something else.)"
                ) from None

    def stop(self) -> None:
        """End all servers of this node: they have nothing to save, so they are killed."""
        for process in self.all:
            process.kill()
        for process in self.all:
            process.stop()


def master_title(config: RedisClusterConfig, number: int) -> str:
    """Return what a master is called in messages."""
    return f"redis-server, master {number + 1} of {config.masters}"


def replica_title(config: RedisClusterConfig, number: int) -> str:
    """Return what a replica is called in messages."""
    return f"redis-server, replica {number // config.masters + 1} of master {number % config.masters + 1}"


def free_ports(host: str, taken: set[int]) -> int:
    """Return a port that nobody listens on at this moment, as little as on the one of its bus."""
    for port in SystemRandom().sample(PORTS, 200):
        bus = port + BUS
        if port not in taken and not why_not_free(host, port) and not why_not_free(host, bus):
            return port
    raise ServerFailed(f"no free pair of ports on {host} between {PORTS.start} and {PORTS.stop + BUS}")
