"""Staging in a redis cluster: the whole key decides which master has it, and each master is a redis of its own.

A cluster divides keys by a hash of their name, or of the part between braces where there is one. Users' keys may hold
braces, and a client that hashes as redis does has to follow slots. So every name begins with a hash tag of the master
that the client has chosen by its own hash, from the table that the server made: no server ever answers MOVED.
"""

import os
import platform
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from simai_rules.staging.backend import Buffer
from simai_rules.staging.backends.redis import Address, Redis, RedisValue
from simai_rules.staging.errors import StagingError
from simai_rules.staging.info import ServerInfo, index_here


class RedisCluster:
    """The client half of the backend redis-cluster. A master is connected to when a key of it is first used."""

    name = "redis-cluster"

    def __init__(self, info: ServerInfo, deadline_ns: int) -> None:
        address = info.address
        masters = list(address["masters"])
        if address["keys"] == "local":
            masters = _of_this_node(masters)
        self._addresses = [
            Address(str(one["host"]), int(one["port"]), str(address["password"]), info.run_id, str(one["tag"]).encode())
            for one in masters
        ]
        self._masters: list[Redis | None] = [None] * len(masters)
        # Any of them proves that this is the cluster of this run; not all clients ask the same.
        first = self._connect(os.getpid() % len(masters), deadline_ns)
        self.where = f"{first.where} and {len(masters) - 1} other masters"

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:
        """Store the value on its master."""
        return self._of(key, deadline_ns).put(key, buffers, nbytes, deadline_ns)

    def open(self, key: str, deadline_ns: int) -> RedisValue:
        """Begin to read the value from its master; raises KeyError where there is none."""
        return self._of(key, deadline_ns).open(key, deadline_ns)

    def exists(self, key: str, deadline_ns: int) -> bool:
        """Ask the key's master whether it is there."""
        return self._of(key, deadline_ns).exists(key, deadline_ns)

    def delete(self, key: str, deadline_ns: int) -> bool:
        """Remove the key from its master."""
        return self._of(key, deadline_ns).delete(key, deadline_ns)

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Sleep until the key's master says that it was set: it tells only of its own keys."""
        return self._of(key, deadline_ns).wait(key, deadline_ns)

    def lock(self, key: str, deadline_ns: int) -> AbstractContextManager[None]:
        """Return a context that holds the lock of `key`, which is on the key's master."""
        return self._of(key, deadline_ns).lock(key, deadline_ns)

    def close(self) -> None:
        """Close all connections."""
        for master in self._masters:
            if master:
                master.close()

    def _of(self, key: str, deadline_ns: int) -> Redis:
        number = zlib.crc32(key.encode("utf-8", "surrogatepass")) % len(self._masters)
        return self._masters[number] or self._connect(number, deadline_ns)

    def _connect(self, number: int, deadline_ns: int) -> Redis:
        master = self._masters[number] = Redis(self._addresses[number], deadline_ns)
        return master


def connect(info: ServerInfo, deadline_ns: int) -> RedisCluster:
    """Connect to one of the masters and check that it is of this run; raises ServerLost where it is not."""
    return RedisCluster(info, deadline_ns)


def _of_this_node(masters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the masters that run on this node; raises StagingError where there are none."""
    nodes = sorted({str(one["node"]) for one in masters})
    if len(nodes) == 1:
        return masters  # whatever the node is called here
    index = index_here(nodes)
    if index is None:
        raise StagingError(
            f"With backends.redis-cluster.keys: local every node needs a master, but {platform.node()} has none; the "
            f"masters are on {', '.join(nodes)}. Run the ranks there, or set keys: spread."
        )
    return [one for one in masters if str(one["node"]) == nodes[index]]
