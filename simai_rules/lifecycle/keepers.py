"""The keepers of a run, as `serve` on the first node sees them: one process on each other node of the point."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simai_rules.config.system import SystemConfig
from simai_rules.launch.launcher import find_launcher, rank_environment
from simai_rules.launch.placement import Placement
from simai_rules.lifecycle.reports import ALIVE, BEAT_S, ORDER, SERVER, Reports, changed, gone, proved, up
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import ServerFailed

_LOOK_EVERY_S = 0.05
_REASON_S = 3.0
"""What the nodes get to say why a keeper has ended, after the launcher has."""
_STOP_S = 20.0
_STOP_STARTING_S = 2.0
"""What a launcher gets whose keepers have not all come up: it may hang, and those that are up clean by themselves."""
_CLEANED_S = 5.0
"""What a killed keeper's guardian gets to clean its node."""
_TOUCH_EVERY_S = 5.0
_SILENT_LOOKS = 8
"""A keeper that has touched nothing for so many looks is lost. Where the file system halts, so do the looks."""


@dataclass(frozen=True)
class Part:
    """What a keeper says when its part is up."""

    run_folder: str
    address: dict[str, Any]


class Keepers:
    """Starts the keepers by the system's launcher, waits for what they say, and ends them; `proceed` may raise."""

    def __init__(
        self,
        run: RunFolder,
        server_file: Path,
        hosts: Sequence[str],
        system: SystemConfig,
        proceed: Callable[[], None],
    ) -> None:
        self._run, self._hosts, self._proceed = run, hosts, proceed
        self.reports = Reports.of(server_file, run.run_id)
        self._log = run.folder / "keepers.log"
        # Where they run is their part's affair.
        others = Placement("keeper", tuple(hosts[1:]), ((),), shared=False, alone=False)
        launcher = find_launcher(system.launcher)
        keeper = [sys.executable, "-m", "simai_rules.lifecycle.keeper", str(self.reports.folder)]
        self._command = launcher.command(others, keeper)
        wanted = rank_environment(others)
        self._environment = os.environ | wanted
        clean = launcher.command(others, [sys.executable, "-m", "simai_rules.cli", "clean"])
        self.clean_command = ["env", *(f"{name}={value}" for name, value in wanted.items()), *clean]
        self._child: subprocess.Popen[bytes] | None = None
        self._touched = 0.0
        self._looked = 0.0
        self._beats: dict[int, tuple[tuple[int, int] | None, int]] = {}
        self._patience = _STOP_STARTING_S

    def start(self, order: dict[str, Any]) -> None:
        """Tell them what to do, and start them; raises ServerFailed where there is no folder for their reports."""
        folder = self.reports.folder
        self._run.claim(folder)
        try:
            folder.mkdir(mode=0o700)
            (folder / ALIVE).touch(mode=0o600)
            self.reports.write(ORDER, order)
        except OSError as error:
            raise ServerFailed(f"{folder}, where the nodes report, cannot be written ({error.strerror})") from error
        with self._log.open("wb") as output:
            self._child = self._run.start_child(self._command, env=self._environment, output=output)

    def wait_until_up(self, deadline: float) -> list[Part]:
        """Return what the keepers say, in the order of the nodes; raises ServerFailed at the deadline."""
        found = self._wait_for(up, "start", deadline)
        self._patience = _STOP_S
        return [Part(str(content["run_folder"]), dict(content["address"])) for content in found]

    def wait_until_proved(self, info: ServerInfo, deadline: float) -> None:
        """Wait until each has put and got values, as the clients of its node will; raises ServerFailed."""
        self._wait_for(proved, f"put and get values on the {info.backend} server", deadline)

    def tell(self, info: ServerInfo) -> None:
        """Tell the keepers the server's whole address."""
        try:
            self.reports.write(SERVER, info.as_dict())
        except OSError as error:
            raise ServerFailed(f"{self.reports.folder} cannot be written ({error.strerror})") from error

    def _wait_for(self, name_of: Callable[[int], str], what: str, deadline: float) -> list[Any]:
        others = range(1, len(self._hosts))
        while True:
            there = self.reports.names()
            missing = [self._hosts[index] for index in others if name_of(index) not in there]
            if not missing:
                return [self.reports.read(name_of(index)) for index in others]
            self._proceed()
            self.check()
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{len(missing)} of {len(self._hosts)} nodes ({', '.join(missing[:8])}) did not {what} in time "
                    f"(staging.start_timeout). {self._words()}"
                )
            time.sleep(_LOOK_EVERY_S)

    def check(self) -> None:
        """Raise ServerFailed where a node has said that its part has failed or that it is lost, or says nothing."""
        self._touch()
        self._check_reports()
        self._check_life()
        if self._child is not None and self._child.poll() is not None:
            if not self.reports.folder.is_dir():
                raise ServerFailed(
                    f"somebody has removed {self.reports.folder}, by which the run's nodes tell each other"
                )
            deadline = time.monotonic() + _REASON_S
            while time.monotonic() < deadline:
                self._check_reports()
                time.sleep(_LOOK_EVERY_S)
            others = ", ".join(self._hosts[1:][:8])
            lost = f"the node {others} was" if len(self._hosts) == 2 else f"one of the nodes {others} was"
            raise ServerFailed(f"{lost} lost: the launcher of the keepers ended ({_how(self._child)}). {self._words()}")

    def _check_reports(self) -> None:
        failed = [
            content for index, content in self.reports.failures() if index and content.get("component") == "server"
        ]
        if failed:
            first = min(failed, key=lambda content: float(content.get("time", 0.0)))
            raise ServerFailed(str(first.get("reason")))

    def _touch(self) -> None:
        """Show the keepers that the first node is alive."""
        if time.monotonic() - self._touched > _TOUCH_EVERY_S:
            self._touched = time.monotonic()
            self.reports.touch(ALIVE)

    def _check_life(self) -> None:
        """Raise ServerFailed for a node that hangs or is off, which not every launcher notices."""
        if time.monotonic() - self._looked < BEAT_S:
            return
        self._looked = time.monotonic()
        for index in range(1, len(self._hosts)):
            now = changed(self.reports.folder / up(index))
            before, looks = self._beats.get(index, (None, 0))
            # Before it is there, its keeper is starting.
            self._beats[index] = now, looks + 1 if now is not None and now == before else 0
        silent = [self._hosts[index] for index, (_, looks) in self._beats.items() if looks >= _SILENT_LOOKS]
        if silent:
            raise ServerFailed(
                f"the node {', '.join(silent[:8])} was lost: it has shown no life for {_SILENT_LOOKS * BEAT_S:g} s, "
                "though its launcher has not ended. It is off, or hangs (a full memory, a file system that halts)"
            )

    def _words(self) -> str:
        """Return the last words of the launcher and the keepers."""
        try:
            lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        except OSError:
            lines = []
        said = " | ".join(line for line in lines if line.strip("= "))[-1200:]
        return f"The launcher ({shlex.join(self._command[:6])} …) says: {said or 'nothing'}"

    def stop(self) -> None:
        """Have them clean their nodes, and wait for that; clean those nodes where one could not."""
        if self._child is not None:
            with suppress(OSError):
                (self.reports.folder / ALIVE).unlink(missing_ok=True)
            self._end_launcher(self._child)
            self._clean_the_rest()

    def _end_launcher(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for the launcher; one that stays is ended."""
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            if number:
                child.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(self._patience)
                return

    def _clean_the_rest(self) -> None:
        """Clean where the keeper and its guardian were killed together, as some launchers do when one process dies."""
        deadline = time.monotonic() + _CLEANED_S
        while left := self._left():
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
        if left:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    self.clean_command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_STOP_S,
                    check=False,
                )

    def _left(self) -> list[int]:
        """Return the nodes that had a keeper, and of which nobody has said that nothing is left there."""
        there = self.reports.names()
        return [index for index in range(1, len(self._hosts)) if up(index) in there and gone(index) not in there]


def _how(child: subprocess.Popen[bytes]) -> str:
    code = child.returncode
    return f"by signal {-code}" if code < 0 else f"exit code {code}"
