"""The server half of redis-cluster: masters, and replicas where they are asked for, joined by redis' own commands.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ tells of slots, hash tags and the bus. On
several nodes the servers are spread over them; the first node joins those that the parts have started.
"""

import binascii
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from simai_rules.config.backends import RedisClusterConfig
from simai_rules.staging.backends.redis import RUN_ID
from simai_rules.staging.server import Run, ServerFailed
from simai_rules.staging.servers.redis_cluster_part import (
    BUS,
    PORTS,
    RedisClusterPart,
    master_title,
    nodes_of,
    replica_title,
    serving,
)
from simai_rules.staging.servers.redis_process import RedisProcess

SLOTS = 16384
_START_S = 30.0
_PATIENCE_MS = b"60000"
"""A machine too busy for the servers to hear of each other in time is no reason for them to refuse commands."""
_LOOK_EVERY_S = 0.02
_ROLES_EVERY_S = 2.0


def make_server(config: RedisClusterConfig, run: Run, hosts: Sequence[str], needed: int) -> "RedisClusterServer":  # noqa: ARG001
    """Return the server that starts the cluster; raises ServerFailed where a node would lack a master."""
    return RedisClusterServer(config, run, hosts)


def make_part(
    config: RedisClusterConfig,
    run: Run,
    hosts: Sequence[str],
    needed: int,  # noqa: ARG001
    order: dict[str, Any],
) -> "RedisClusterNode":
    """Return the part of another node."""
    return RedisClusterNode(config, run, hosts, order)


class RedisClusterNode(RedisClusterPart):
    """The part of the cluster on a node that is not the first."""

    def start(self) -> dict[str, Any]:
        """Start the servers of this node; return where they are."""
        self.launch()
        return self.wait_until_up(time.monotonic() + _START_S)


class RedisClusterServer:
    """The whole cluster, as the first node starts, joins and watches it."""

    def __init__(self, config: RedisClusterConfig, run: Run, hosts: Sequence[str]) -> None:
        on = serving(run, hosts)
        if config.keys == "local" and config.masters < len(on):
            raise ServerFailed(
                f"backends.redis-cluster.keys: local needs a master on each node of the point, which are {len(on)}, "
                f"but masters is {config.masters}. Set masters to at least {len(on)}, or keys: spread."
            )
        self.config, self._run, self._hosts = config, run, hosts
        self._secrets = {"password": secrets.token_urlsafe(24), "replicas": secrets.token_urlsafe(24)}
        self._here = RedisClusterPart(config, run, hosts, self._secrets)
        self._masters: list[RedisProcess] = []
        self._replicas: list[RedisProcess] = []
        self._joined = False
        self._asked = 0.0

    def order(self) -> dict[str, Any]:
        """Return the passwords of the cluster."""
        return self._secrets

    def start(self) -> dict[str, Any]:
        """Start the servers of this node, and the cluster where it is the only one; raises ServerFailed."""
        self._here.launch()
        part = self._here.wait_until_up(time.monotonic() + _START_S)
        return part if len(self._hosts) > 1 else self.join([part])

    def join(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join all servers to one cluster and prove each master; raises ServerFailed."""
        deadline = time.monotonic() + _START_S
        count = self.config.masters
        self._masters = [self._known("masters", number, parts) for number in range(count)]
        self._replicas = [self._known("replicas", number, parts) for number in range(count * self.config.replicas)]
        tags = tags_of(count)
        self._join(deadline)
        self._joined = True
        for process, tag in zip(self._masters, tags, strict=True):
            process.mark(RUN_ID + tag.encode(), deadline)
        nodes, _ = nodes_of(self.config, serving(self._run, self._hosts))
        masters = [
            {"host": process.host, "port": process.port, "node": self._hosts[node], "tag": tag}
            for process, tag, node in zip(self._masters, tags, nodes, strict=True)
        ]
        return {"masters": masters, "keys": self.config.keys, "password": self._secrets["password"]}

    def _known(self, kind: str, number: int, parts: Sequence[dict[str, Any]]) -> RedisProcess:
        """Return a master or a replica: that of this node, or a way to ask another's."""
        here = self._here.masters if kind == "masters" else self._here.replicas
        if number in here:
            return here[number]
        host, port = next(part[kind][str(number)] for part in parts if str(number) in part[kind])
        title = master_title if kind == "masters" else replica_title
        return RedisProcess.elsewhere(self._run, title(self.config, number), host, port, self._secrets["password"])

    @property
    def _all(self) -> list[RedisProcess]:
        return self._masters + self._replicas

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
                    f"{waiting[0].describe()}). The node is overloaded, or its firewall closes ports {PORTS.start} to "
                    f"{PORTS.stop + BUS} on {waiting[0].host}."
                )
            time.sleep(_LOOK_EVERY_S)

    def check(self) -> None:
        """Raise ServerFailed if a server of this node has ended or is halted, or if a stranger joined the cluster."""
        self._here.check()
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
        """End the servers of this node."""
        self._here.stop()


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
