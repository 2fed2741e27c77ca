"""The server half of redis: real redis-servers with a password made for the run, each on one network interface."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from simai_rules.config.backends import RedisConfig
from simai_rules.staging.backends.redis import RUN_ID
from simai_rules.staging.interface import address_for, free_port, why_not_free
from simai_rules.staging.server import Run, ServerFailed
from simai_rules.staging.servers.redis_process import RedisProcess, find_redis_server

_START_S = 10.0


def make_server(config: RedisConfig, run: Run, hosts: Sequence[str], needed: int) -> "RedisServer":  # noqa: ARG001
    """Return the server that starts one redis-server on this node."""
    return RedisServer(config, run, hosts)


def make_part(
    config: RedisConfig,
    run: Run,
    hosts: Sequence[str],
    needed: int,  # noqa: ARG001
    order: dict[str, Any],  # noqa: ARG001
) -> "RedisServer":
    """Return the part of another node, where each has a redis-server of its own (per: node)."""
    return RedisServer(config, run, hosts)


class RedisServer:
    """One redis-server on this node: for all nodes, or for this one."""

    def __init__(self, config: RedisConfig, run: Run, hosts: Sequence[str]) -> None:
        self.config, self._run = config, run
        self._users = hosts if config.per == "job" else hosts[:1]
        self._process: RedisProcess | None = None

    def order(self) -> dict[str, Any] | None:
        """Other nodes need a part where each has a server of its own."""
        return {} if self.config.per == "node" else None

    def join(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return which server the clients of each node use."""
        return {"nodes": list(parts)}

    def start(self) -> dict[str, Any]:
        """Start redis-server and wait until it answers; raises ServerFailed with the last lines of its log."""
        program = find_redis_server()
        index = self._run.index if len(self._users) > 1 else 0
        host = address_for(self.config.interface, "backends.redis.interface", self._users, index)
        password = secrets.token_urlsafe(24)
        self._process = process = RedisProcess(
            self._run,
            self._run.folder / "redis",
            title="redis-server",
            host=host,
            choose_port=lambda: self._port(host),
            io_threads=self.config.io_threads,
        )
        deadline = time.monotonic() + _START_S
        process.launch(program, password)
        process.wait_until_up(deadline)
        process.mark(RUN_ID, deadline)
        return {"host": host, "port": process.port, "password": password}

    def _port(self, host: str) -> int:
        """Return the port to listen on; raises ServerFailed where the one that was asked for is taken."""
        port = self.config.port
        problem = why_not_free(host, port) if port else ""
        if problem:
            raise ServerFailed(
                f"port {port} on {host} {problem}. Give another backends.redis.port, or 0 for one that is free."
            )
        return port or free_port(host)

    def check(self) -> None:
        """Raise ServerFailed if the server has ended or is halted."""
        if self._process is not None:
            self._process.check()

    def stop(self) -> None:
        """End the server: it has nothing to save, so it is killed."""
        if self._process is not None:
            self._process.stop()
