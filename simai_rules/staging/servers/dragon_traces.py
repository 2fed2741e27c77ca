"""What a Dragon runtime that is killed leaves on its node: processes, and shared memory. Both are found and removed.

    python dragon_traces.py FOLDER

The runtime's processes are known by a variable of their environment, and its segments by their names and inodes, which
are noted in FOLDER as long as a process has them: a name alone may be another runtime's by the time it is removed.
Only the standard library is needed: the guardian of a run starts this file as a program.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "SIMAI_RULES_DRAGON"
"""The environment variable of all processes of a runtime; its value is the runtime's folder."""
_SEGMENTS = "/dev/shm/"  # noqa: S108 - where Dragon's memory pools are
_NOTES = "segments"
_END_S = 5.0


def processes(folder: Path) -> list[int]:
    """Return the pids of the runtime of `folder`, dead ones that nobody has waited for left out."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def segments(pid: int) -> dict[str, int]:
    """Return the shared memory of process `pid`: inodes by paths."""
    found = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith(_SEGMENTS) and not fields[5].endswith(" (deleted)"):
                found[fields[5]] = int(fields[4])
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                path = str(Path(entry.path).readlink())
                if path.startswith(_SEGMENTS) and not path.endswith(" (deleted)"):
                    found[path] = entry.stat().st_ino
    return found


def note(folder: Path, pids: list[int]) -> None:
    """Write down the shared memory of `pids` that was not written down before."""
    known = _noted(folder)
    found = {(path, inode) for pid in pids for path, inode in segments(pid).items()}
    new = sorted(found - known)
    if new:
        with (folder / _NOTES).open("a") as file:
            file.write("".join(f"{inode} {path}\n" for path, inode in new))


def remove(folder: Path) -> None:
    """Kill the processes of the runtime of `folder` and remove its shared memory."""
    halted: list[int] = []
    # Halted first, so that none starts another or makes a segment while these are looked for.
    while new := [pid for pid in processes(folder) if pid not in halted]:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        halted += new
    with suppress(OSError):  # the folder may be gone
        note(folder, halted)
    for pid in halted:
        _send(pid, signal.SIGKILL)
    deadline = time.monotonic() + _END_S
    while processes(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    for path, inode in _noted(folder):
        with suppress(OSError):
            status = Path(path).lstat()
            if (status.st_ino, status.st_uid) == (inode, os.getuid()):
                Path(path).unlink()


def _noted(folder: Path) -> set[tuple[str, int]]:
    try:
        lines = (folder / _NOTES).read_text().splitlines()
    except OSError:
        return set()
    pairs = (line.partition(" ") for line in lines)
    return {(path, int(inode)) for inode, _, path in pairs if inode.isdigit() and path.startswith(_SEGMENTS)}


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    remove(Path(sys.argv[1]))
