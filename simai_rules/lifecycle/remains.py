"""What there is of a run on this node, counted before it is removed."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from simai_rules.lifecycle.reaper import claimed, left_by_mpi
from simai_rules.lifecycle.run_folder import RunFolder

_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - where the kernel keeps it


@dataclass
class Remains:
    """Processes that are alive, and what the run has claimed and is there."""

    processes: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    commands: int = 0
    """That remove what is in a remote store."""
    file_bytes: int = 0
    memory_bytes: int = 0

    def __str__(self) -> str:
        parts = [f"{len(self.processes)} processes ({', '.join(map(str, self.processes))})"] if self.processes else []
        if self.file_bytes:
            parts.append(f"{_size(self.file_bytes)} of files")
        if self.memory_bytes:
            parts.append(f"{_size(self.memory_bytes)} of shared memory")
        if self.commands:
            parts.append(f"what {self.commands} commands of its backend remove")
        return ", ".join([*parts, "its notes"])


def remains_of(run: RunFolder) -> Remains:
    """Count what is there of `run`; bytes are those that its files really take."""
    launchers = [launcher for _, launcher in run.components().values()]
    alive = {process.pid for process in (*launchers, *run.processes()) if process.alive}
    found = Remains(sorted(alive), claimed(run), len(run.claimed_commands()))
    for path in (*found.paths, *left_by_mpi(run)):
        if str(path).startswith(_SHARED_MEMORY):
            found.memory_bytes += _used(path)
        else:
            found.file_bytes += _used(path)
    return found


def _used(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder, without following links; what cannot be seen counts as 0."""
    inodes: dict[tuple[int, int], int] = {}

    def count(name: str | Path) -> None:
        try:
            state = os.lstat(name)
        except OSError:
            return
        inodes[state.st_dev, state.st_ino] = state.st_blocks * 512

    count(path)
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                count(f"{folder}/{name}")
    return sum(inodes.values())


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:.1f} kB"
