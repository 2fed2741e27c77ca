"""How much memory a process can still have on this node."""

from collections.abc import Iterator
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""The first version of cgroups says 2^63 less a page where there is no limit."""


def available() -> int:
    """Return the bytes that this process can allocate: those that the node has left, or its control groups, if less.

    Pages of files that a control group has cached count as left: they make room.
    """
    return min([_left_on_the_node(), *_left_in_groups()])


def _left_on_the_node() -> int:
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _UNLIMITED  # a Linux before 3.14


def _left_in_groups() -> Iterator[int]:
    """Yield what is left in each control group of this process that limits its memory, and in those above it."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _MOUNT / "memory" if controllers else _MOUNT
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        here = root / path.lstrip("/")
        for folder in (here, *here.parents):
            if (left := _left(folder, *names)) is not None:
                yield left
            if folder == root:
                break


def _left(folder: Path, limit: str, usage: str) -> int | None:
    try:
        most = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        pairs = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
    except (OSError, ValueError):  # not mounted here, or "max": no limit
        return None
    if most >= _UNLIMITED:
        return None
    # The first version's numbers with "total_" are those with the groups below.
    counts = {key.removeprefix("total_"): int(value) for key, value in pairs}
    cached = counts.get("inactive_file", 0) + counts.get("active_file", 0)
    return max(0, most - max(0, used - cached))
