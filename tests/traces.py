"""What a run leaves on this machine: its processes, its state folder, its shared memory."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil


class Traces:
    """Sees everything of the runs that were started with TMPDIR=folder, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        self._staged = self._shm("simai-rules-")
        self._segments: set[str] = set()

    @staticmethod
    def _shm(prefix: str) -> set[str]:
        return {path.name for path in Path("/dev/shm").glob(f"{prefix}*")}

    def note_segments(self) -> None:
        """Remember what of MPI's the running ranks have written down: it has to be gone in the end."""
        for file in self.folder.glob("simai-rules-*/run-*/segments/*"):
            self._segments.update(file.read_text().splitlines())

    def processes(self) -> list[str]:
        """Command lines of living processes that inherited TMPDIR or work below it, this one left out."""
        found = []
        for process in psutil.process_iter(["pid"]):
            try:
                # redis-server writes its title over its environment; it is known by its working folder.
                ours = process.environ().get("TMPDIR") == str(self.folder) or process.cwd().startswith(str(self.folder))
                if ours and process.pid != os.getpid():
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found

    def left(self) -> list[str]:
        """Everything that is there now and was not there before."""
        runs = [str(path) for path in self.folder.glob("simai-rules-*/run-*")]
        staged = self._shm("simai-rules-") - self._staged
        staged -= self._guarded(staged)
        # Other MPI programs of this machine leave the same; only what our ranks have written down counts.
        segments = {path for path in self._segments if Path(path).exists()}
        return self.processes() + runs + sorted(staged | segments)

    @staticmethod
    def _guarded(names: set[str]) -> set[str]:
        """Those that a living guardian looks after: another test's, or ours, whose guardian is then left itself."""
        commands = [command for process in psutil.process_iter(["cmdline"]) if (command := process.info["cmdline"])]
        guarded = {Path(command[-1]).name for command in commands if "simai_rules.lifecycle.guardian" in command}
        return {name for name in names if name.replace("simai-rules-", "run-") in guarded}

    def left_after(self, seconds: float, but: str = "no such command") -> list[str]:
        """What is still there after `seconds`, without commands with `but`; returns as soon as there is nothing."""
        deadline = time.monotonic() + seconds
        while (left := [line for line in self.left() if but not in line]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def end(self) -> None:
        """End what a failed test has left, so that it does not disturb the next ones."""
        for line in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
