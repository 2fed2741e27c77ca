"""The server half of daos-kv: one key-value object of the run. Tested against a stand-in, not on real DAOS yet."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from simai_rules.config.backends import DaosKvConfig
from simai_rules.staging.backends import daos_objects
from simai_rules.staging.server import Run, ServerFailed

_START_S = 20.0
_SILENT_S = 5.0
"""Answers come every half second; a process on a busy node may be late by some."""
_END_S = 5.0
"""How long a killed process is waited for; the run's end looks after one that hangs in the kernel."""
_HINT = "Is DAOS up (daos pool query), its agent on this node, and is the container of type PYTHON?"


def make_server(config: DaosKvConfig, run: Run, hosts: Sequence[str], needed: int) -> "DaosKvServer":  # noqa: ARG001
    """Return the server that makes the run's object; all nodes reach it."""
    return DaosKvServer(config, run)


class DaosKvServer:
    """Makes the run's object in the container, and has a process ask whether DAOS still answers.

    This process never calls pydaos: it would stand still with a DAOS that does.
    """

    def __init__(self, config: DaosKvConfig, run: Run) -> None:
        self.config, self._run = config, run
        self._object = f"simai-rules-{run.run_id}"
        self._folder = run.folder / "daos"
        self._child: subprocess.Popen[bytes] | None = None
        self._answer_ns = self._answer_s = 0.0
        """The last answer: the time of its file, and when it was seen on the monotonic clock."""

    @property
    def _where(self) -> str:
        return f"{self.config.pool}/{self.config.container}/{self._object}"

    def start(self) -> dict[str, Any]:
        """Make the object; raises ServerFailed with what pydaos says."""
        self._folder.mkdir(mode=0o700)
        self._run.claim_by_command(self._command("empty"))
        self._child = self._run.start_child(self._command("keep", self._run.run_id, str(self._folder)))
        deadline = time.monotonic() + _START_S
        while self._silent_s() is None:
            if self._child.poll() is not None:
                raise ServerFailed(f"DAOS: {self._where} cannot be made: {self._told()}. {_HINT}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"DAOS ({self._where}) did not answer within {_START_S:g} s. {_HINT}")
            time.sleep(0.01)
        return {"pool": self.config.pool, "container": self.config.container, "object": self._object}

    def check(self) -> None:
        """Raise ServerFailed if DAOS has given an error or no answer for some seconds."""
        if self._child is None:
            return
        if self._child.poll() is not None:
            raise ServerFailed(f"DAOS ({self._where}) does not answer any more: {self._told()}. {_HINT}")
        silent_s = self._silent_s()
        if silent_s is None or silent_s > _SILENT_S:
            raise ServerFailed(
                f"DAOS ({self._where}) has not answered for {_SILENT_S:g} s. {_HINT} (Or the process that asks it, "
                f"{self._child.pid}, is halted.)"
            )

    def stop(self) -> None:
        """End the process that asks; the run has the object emptied."""
        if self._child is not None:
            self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)

    def _silent_s(self) -> float | None:
        """Return the seconds since the last answer was seen; None before the first.

        The time of the file is only compared with itself: the wall clock may be set while the run goes on.
        """
        try:
            answer_ns = (self._folder / daos_objects.ANSWERED).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        now = time.monotonic()
        if answer_ns != self._answer_ns:
            self._answer_ns, self._answer_s = answer_ns, now
        return now - self._answer_s

    def _command(self, action: str, *arguments: str) -> list[str]:
        place = (self.config.pool, self.config.container, self._object)
        return [sys.executable, "-m", daos_objects.__name__, action, *place, *arguments]

    def _told(self) -> str:
        """Return why the process has ended."""
        try:
            return (self._folder / daos_objects.ERROR).read_text(errors="replace").strip()[-500:]
        except OSError:
            return f"its process ended with code {self._child.poll() if self._child else '?'}"
