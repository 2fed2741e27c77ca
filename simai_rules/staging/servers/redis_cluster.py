"""The server half of redis-cluster: masters, and replicas where they are asked for, joined by redis' own commands.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ tells of slots, hash tags and the bus.
"""

import binascii
import secrets
import time
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import Any

from simai_rules.config.backends import RedisClusterConfig
from simai_rules.staging.backends.redis import RUN_ID
from simai_rules.staging.interface import address_of, why_not_free
from simai_rules.staging.server import Run, ServerFailed, require_one_node
from simai_rules.staging.servers.redis_process import RedisProcess, find_redis_server

SLOTS = 16384
_BUS = 10_000
"""A server's port for the others of its cluster is its own and this; redis before 7.0 knows no other."""
_PORTS = range(10_000, 20_000)
"""Both ports lie below 32768, from which on Linux gives ports to outgoing connections."""
_START_S = 30.0
_PATIENCE_MS = b"60000"
"""A machine too busy for the servers to hear of each other in time is no reason for them to refuse commands."""
_LOOK_EVERY_S = 0.02
_ROLES_EVERY_S = 2.0

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


def make_server(config: RedisClusterConfig, run: Run, hosts: Sequence[str], needed: int) -> "RedisClusterServer":  # noqa: ARG001
    """Return the server that starts the cluster."""
    return RedisClusterServer(config, run, hosts)


class RedisClusterServer:
    """All redis-servers of one cluster, on this node."""

    def __init__(self, config: RedisClusterConfig, run: Run, hosts: Sequence[str]) -> None:
        require_one_node("redis-cluster", hosts)
        self.config, self._run, self._hosts = config, run, hosts
        self._masters: list[RedisProcess] = []
        self._replicas: list[RedisProcess] = []
        self._joined = False
        self._asked = 0.0

    def start(self) -> dict[str, Any]:
        """Start all servers, join them and prove each master; raises ServerFailed."""
        program = find_redis_server()
        host = address_of(self.config.interface, "backends.redis-cluster.interface")
        password = secrets.token_urlsafe(24)
        deadline = time.monotonic() + _START_S
        count = self.config.masters
        settings = _SETTINGS.format(host=host)
        if self.config.replicas:
            settings += _REPLICATION.format(password=secrets.token_urlsafe(24))
        self._masters = [
            self._process(f"master {n + 1} of {count}", f"master-{n}", host, settings) for n in range(count)
        ]
        # Replicas in rounds: a master's first one, and then its next.
        self._replicas = [
            self._process(f"replica {n // count + 1} of master {n % count + 1}", f"replica-{n}", host, settings)
            for n in range(count * self.config.replicas)
        ]
        for process in self._all:
            process.launch(program, password)
        for process in self._all:
            process.wait_until_up(deadline)
        tags = tags_of(count)
        self._join(deadline)
        self._joined = True
        for process, tag in zip(self._masters, tags, strict=True):
            process.mark(RUN_ID + tag.encode(), deadline)
        masters = [
            {"host": host, "port": process.port, "node": self._hosts[0], "tag": tag}
            for process, tag in zip(self._masters, tags, strict=True)
        ]
        return {"masters": masters, "keys": self.config.keys, "password": password}

    @property
    def _all(self) -> list[RedisProcess]:
        return self._masters + self._replicas

    def _process(self, title: str, name: str, host: str, settings: str) -> RedisProcess:
        return RedisProcess(
            self._run,
            self._run.folder / "redis-cluster" / name,
            title=f"redis-server, {title}",
            host=host,
            choose_port=lambda: _free_ports(host, {process.port for process in self._all}),
            io_threads=self.config.io_threads,
            more=settings,
        )

    def _join(self, deadline: float) -> None:
        """Make one cluster of the servers: give out the slots, introduce them to each other, attach the replicas."""
        everyone = self._all
        # Each knows its place before it meets another: else they would settle it among themselves, in turn.
        for number, process in enumerate(everyone):
            process.ask((b"CLUSTER", b"SET-CONFIG-EPOCH", b"%d" % (number + 1)), deadline=deadline)
        for number, process in enumerate(self._masters):
            slots = slots_of(number, len(self._masters))
            process.ask((b"CLUSTER", b"ADDSLOTS", *(b"%d" % slot for slot in slots)), deadline=deadline)
        others = everyone[1:]
        greetings = [(b"CLUSTER", b"MEET", other.host.encode(), b"%d" % other.port) for other in others]
        everyone[0].ask(*greetings, deadline=deadline)

        def all_know_all() -> None:
            self._wait(everyone, lambda process: _knows(process, len(everyone), deadline), "join the cluster", deadline)

        all_know_all()
        for process in everyone:
            process.ask((b"CONFIG", b"SET", b"cluster-node-timeout", _PATIENCE_MS), deadline=deadline)
        all_know_all()
        if self._replicas:
            ids = [process.ask((b"CLUSTER", b"MYID"), deadline=deadline)[0] for process in self._masters]
            for number, process in enumerate(self._replicas):
                process.ask((b"CLUSTER", b"REPLICATE", ids[number % len(ids)]), deadline=deadline)
            self._wait(self._replicas, lambda process: _is_copy(process, deadline), "copy their master", deadline)

    def _wait(
        self, whom: list[RedisProcess], ready: Callable[[RedisProcess], bool], what: str, deadline: float
    ) -> None:
        """Wait until `ready` holds for all of `whom`; raises ServerFailed at the deadline, or if a server ends."""
        waiting = list(whom)
        while waiting := [process for process in waiting if not ready(process)]:
            self.check()
            self._run.proceed()
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{len(waiting)} of {len(whom)} redis-servers did not {what} within {_START_S:g} s (first: "
                    f"{waiting[0].describe()}). The node is overloaded, or its firewall closes ports {_PORTS.start} to "
                    f"{_PORTS.stop + _BUS} on {waiting[0].host}."
                )
            time.sleep(_LOOK_EVERY_S)

    def check(self) -> None:
        """Raise ServerFailed if any of the servers has ended or is halted, replica or not, or if a stranger joined."""
        for process in self._all:
            try:
                process.check()
            except ServerFailed as failure:
                if not self._replicas:
                    raise
                raise ServerFailed(
                    f"{failure} (No replica takes over: a cluster that has lost a server measures something else.)"
                ) from None
        if self._joined and time.monotonic() - self._asked > _ROLES_EVERY_S:
            for process in self._masters:
                self._check_role(process)
            self._asked = time.monotonic()

    def _check_role(self, process: RedisProcess) -> None:
        """Raise ServerFailed if the cluster has become another one, as anybody who reaches the bus can make it.

        Whether a server that does not answer has died is another question, which its process answers.
        """
        try:
            words = ((b"CLUSTER", b"INFO"), (b"INFO", b"replication"))
            info, replication = process.ask(*words, deadline=time.monotonic())
        except ServerFailed:
            return
        if b"role:master" not in replication or b"cluster_known_nodes:%d\r" % len(self._all) not in info:
            raise ServerFailed(
                f"{process.describe()} has been drawn into a cluster with servers that are not of this run: the bus of "
                "a redis cluster has no password, so that other users of this node can do that. Use the backend redis "
                "here, or a node of your own."
            )

    def stop(self) -> None:
        """End all servers: they have nothing to save, so they are killed."""
        for process in self._all:
            process.kill()
        for process in self._all:
            process.stop()


def slots_of(number: int, masters: int) -> range:
    """Return the slots of master `number` of `masters`: about as many for each."""
    return range(number * SLOTS // masters, (number + 1) * SLOTS // masters)


def slot_of(tag: bytes) -> int:
    """Return the slot of a hash tag's text: its CRC16 (XMODEM), as redis does it."""
    return binascii.crc_hqx(tag, 0) % SLOTS


def tags_of(masters: int) -> list[str]:
    """Return a hash tag, braces included, for each master: the smallest number whose slot is one of the master's."""
    tags: dict[int, str] = {}
    number = 0
    while len(tags) < masters:
        # The master whose range holds the slot; see slots_of.
        owner = ((slot_of(b"%d" % number) + 1) * masters - 1) // SLOTS
        tags.setdefault(owner, f"{{{number}}}")
        number += 1
    return [tags[owner] for owner in range(masters)]


def _free_ports(host: str, taken: set[int]) -> int:
    """Return a port that nobody listens on at this moment, as little as on the one of its bus."""
    for port in SystemRandom().sample(_PORTS, 200):
        bus = port + _BUS
        if port not in taken and not why_not_free(host, port) and not why_not_free(host, bus):
            return port
    raise ServerFailed(f"no free pair of ports on {host} between {_PORTS.start} and {_PORTS.stop + _BUS}")


def _knows(process: RedisProcess, count: int, deadline: float) -> bool:
    """Whether the server says that the cluster is whole, and that it is connected to each of its `count` servers."""
    info, nodes = process.ask((b"CLUSTER", b"INFO"), (b"CLUSTER", b"NODES"), deadline=deadline)
    lines = [line.split() for line in nodes.decode().splitlines()]
    # A line: id, address, flags, master, ping, pong, epoch, link, slots.
    strange = {"handshake", "noaddr", "noflags", "fail", "fail?"}
    good = [line for line in lines if line[7] == "connected" and not strange & set(line[2].split(","))]
    return b"cluster_state:ok" in info and len(good) == len(lines) == count


def _is_copy(process: RedisProcess, deadline: float) -> bool:
    """Whether the replica has all that its master has."""
    [info] = process.ask((b"INFO", b"replication"), deadline=deadline)
    return b"role:slave" in info and b"master_link_status:up" in info
