"""What a run leaves on this machine: its processes, sockets, state folder, temporary files, shared memory.

With a room (tests/room.py) whatever is in it that was not there at first is the run's. Where none can be made, a
process is known by its TMPDIR or its folder, and shared memory by its name or by what the ranks wrote down.
"""

import contextlib
import os
import re
import signal
import tempfile
import time
from pathlib import Path

import psutil
from room import Room

_OF_A_RUN = re.compile("simai-rules-[0-9a-f]{16}(-[0-9]+)?")  # with the number of its node, on all but the first
_NET = Path("/proc/net")


class Traces:
    """Sees everything of the runs that were started with TMPDIR=folder and preexec_fn=enter, and nothing else."""

    def __init__(self, folder: Path, room: Room | None = None) -> None:
        self.folder, self.room = folder, room
        self.enter = room.enter if room else None
        self.environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        # torch, which earlier tests have imported, sets it for all children; a user's shell does not have it.
        self.environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
        self._staged = self._shm("simai-rules-")
        self._segments: set[str] = set()
        self._sockets: dict[str, str] = {}

    @staticmethod
    def _shm(prefix: str) -> set[str]:
        return {path.name for path in Path("/dev/shm").glob(f"{prefix}*")}

    def note_segments(self) -> None:
        """Remember what will have to be gone in the end: what ranks have written down of MPI's, and open sockets."""
        for file in self.folder.glob("simai-rules-*/run-*/segments/*"):
            self._segments.update(file.read_text().splitlines())
        self._sockets.update(self.listening())

    def pids(self) -> list[int]:
        """Living processes of the run: in the room, or with our TMPDIR or working folder; zombies left out."""
        if self.room:
            return self.room.pids()
        found = []
        for process in psutil.process_iter(["pid"]):
            try:
                # redis-server writes its title over its environment; it is known by its working folder.
                ours = process.environ().get("TMPDIR") == str(self.folder) or process.cwd().startswith(str(self.folder))
                if ours and process.pid != os.getpid():
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def commands(self) -> dict[int, list[str]]:
        """The command line of each process of the run, as its arguments."""
        found = {}
        for pid in sorted(self.pids()):
            with contextlib.suppress(psutil.Error):
                found[pid] = psutil.Process(pid).cmdline()
        return found

    def processes(self) -> list[str]:
        """The processes of the run as text: pid and command line."""
        return [f"{pid} {' '.join(command)}" for pid, command in self.commands().items()]

    def listening(self) -> dict[str, str]:
        """What the run's processes listen on, TCP and Unix sockets, by the number of the socket's inode."""
        mine = set()
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for link in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        mine.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        return {inode: name for inode, name in _all_listening().items() if inode in mine}

    def left(self) -> list[str]:
        """Everything that is there now and was not there before."""
        state = [path for path in self.folder.glob("simai-rules-*/*") if path.suffix not in (".json", ".lock")]
        # A killed snakemake leaves its cache of sources, which is nobody's but its own.
        known = ("simai-rules-", "snakemake")
        others = [path for path in self.folder.iterdir() if not path.name.startswith(known)] if self.room else []
        sockets = [self._sockets[inode] for inode in self._sockets.keys() & _all_listening().keys()]
        return self.processes() + [str(path) for path in (*state, *others)] + sockets + self._memory()

    def _memory(self) -> list[str]:
        if self.room:
            return self.room.files()
        # A run's folder there has its id in the name; anything else is another program's.
        staged = {name for name in self._shm("simai-rules-") - self._staged if _OF_A_RUN.fullmatch(name)}
        staged -= self._guarded(staged)
        staged = {name for name in staged if not self._of_another_test(name)}
        # One that another test's guardian has removed by now is not left.
        staged &= self._shm("simai-rules-")
        # Other MPI programs of this machine leave the same; only what our ranks have written down counts.
        segments = {path for path in self._segments if Path(path).exists()}
        return sorted(staged | segments)

    def _of_another_test(self, name: str) -> bool:
        """Whether the run's own folder, which goes last, is that of a test beside this one (pytest -n 3)."""
        run = f"simai-rules-*/{name.replace('simai-rules-', 'run-')}"
        tests = self.folder.parents[2].glob(f"*/*/tmp/{run}")
        return any(self.folder not in path.parents for path in (*tests, *Path(tempfile.gettempdir()).glob(run)))

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
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _all_listening() -> dict[str, str]:
    """Every listening TCP and Unix socket of the machine by inode, as the kernel tells."""
    found = {}
    # A kernel without IPv6 has no tcp6.
    for name in ("tcp", "tcp6") if (_NET / "tcp6").exists() else ("tcp",):
        for line in (_NET / name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # TCP_LISTEN
                found[fields[9]] = f"{name} port {int(fields[1].rpartition(':')[2], 16)}"
    for line in (_NET / "unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
            found[fields[6]] = f"unix socket {' '.join(fields[7:])}"
    return found
