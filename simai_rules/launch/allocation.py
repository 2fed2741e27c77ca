"""The allocation: the nodes at hand, and the ledger of those that are taken by runs."""

import hashlib
import json
import os
import platform
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from simai_rules.config.system import SystemConfig
from simai_rules.errors import UserError
from simai_rules.files import locked, write_json
from simai_rules.launch.nodelist import expand_nodelist
from simai_rules.process import Process

LOCK_S = 30.0
_TOLD_AT_MOST = 4


class NoFreeNodes(UserError):
    """The allocation has fewer nodes than asked for, or they stayed taken until the deadline."""


@dataclass(frozen=True)
class Allocation:
    """Nodes that this user may use now."""

    name: str
    nodes: tuple[str, ...]


def allocation_of(system: SystemConfig) -> Allocation:
    """Return the nodes at hand, each once, in the order in which they are named.

    They are those of `system.hostfile` (a name per line), else of the PBS job that this process is in ($PBS_NODEFILE),
    else of its Slurm job ($SLURM_JOB_NODELIST), else this machine alone. Raises UserError where a file cannot be read,
    names no node, or names one that cannot be found; the names of Slurm are srun's own and need no address.
    """
    if system.hostfile:
        return _of_file(Path(system.hostfile).absolute(), "hostfile in system.yaml")
    if os.environ.get("PBS_NODEFILE"):
        found = _of_file(Path(os.environ["PBS_NODEFILE"]), "$PBS_NODEFILE")
        return Allocation(_name("pbs", os.environ.get("PBS_JOBID") or os.environ["PBS_NODEFILE"]), found.nodes)
    nodelist = os.environ.get("SLURM_JOB_NODELIST") or os.environ.get("SLURM_NODELIST")
    if nodelist:
        return Allocation(_name("slurm", os.environ.get("SLURM_JOB_ID") or nodelist), expand_nodelist(nodelist))
    return Allocation("local", (platform.node(),))


def _of_file(path: Path, origin: str) -> Allocation:
    """Return the nodes that a file names; `origin` says where its path comes from."""
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"The host file {path} ({origin}) cannot be read: {reason}.") from None
    nodes = tuple(dict.fromkeys(line for line in lines if line))
    if not nodes:
        raise UserError(f"The host file {path} ({origin}) names no node; it takes one name per line.")
    # Where no name server answers, each look takes seconds.
    unknown = list(islice((node for node in nodes if not _resolves(node)), _TOLD_AT_MOST))
    if unknown:
        raise UserError(
            f"{path} ({origin}) names {', '.join(unknown)}, of which no address is known on this node "
            "(getent hosts NAME). Correct the name, or the file of an allocation that has ended."
        )
    return Allocation(_name("", str(path)), nodes)


def _name(kind: str, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{kind}-{digest}" if kind else digest


def _resolves(node: str) -> bool:
    """Whether the name of a node can be turned into an address."""
    try:
        socket.getaddrinfo(node, None)
    except (OSError, UnicodeError):
        return False
    return True


def state_folder() -> Path:
    """Return this user's folder for the state of runs on this node, made with mode 0700.

    Raises UserError where somebody else owns it.
    """
    folder = Path(tempfile.gettempdir()) / f"simai-rules-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(
            f"{folder} is not a private folder of yours (owner {found.st_uid}, mode {stat.filemode(found.st_mode)}). "
            "Remove it, or set TMPDIR to a folder of your own."
        )
    return folder


class Ledger:
    """A locked file that says which node of an allocation is taken by which processes.

    A node is held by the run's server and its guardian. It is free when both have ended, so nothing has to be given
    back by who was killed, and nobody takes a node that is still being cleaned.
    """

    def __init__(self, allocation: Allocation, holders: Sequence[Process]) -> None:
        self.allocation = allocation
        self._holders = [list(holder) for holder in holders]
        self.path = state_folder() / f"ledger-{allocation.name}.json"

    def take(
        self,
        count: int,
        seconds: float,
        tell: Callable[[str], None],
        proceed: Callable[[], None],
        first: str = "",
    ) -> list[str]:
        """Take `count` free nodes for the holders, waiting up to `seconds`; `proceed` may raise to end the wait.

        first: the node that has to be the first of them, with others that come after it in the allocation. Raises
        NoFreeNodes where the allocation is too small or its nodes stay taken.
        """
        begin = self.allocation.nodes.index(first) if first else 0
        nodes = self.allocation.nodes[begin:]
        if count > len(nodes):
            after = f" from {first} on, where this runs," if begin else ""
            raise NoFreeNodes(
                f"The point asks for {count} nodes; the allocation '{self.allocation.name}' has{after} "
                f"{len(nodes)} ({', '.join(nodes)}). Ask for fewer (nodes) or for a larger allocation"
                f"{', or start this on its first node' if begin else ''}."
            )
        deadline = time.monotonic() + seconds
        told = False
        while True:
            with self._locked() as taken:
                free = [node for node in nodes if node not in taken]
                if first and first not in free:
                    free = []  # those after it are of no use without it
                if len(free) >= count:
                    chosen = free[:count]
                    taken.update(dict.fromkeys(chosen, self._holders))
                    return chosen
                holders = sorted({holders[0][0] for holders in taken.values()})
            if time.monotonic() > deadline:
                raise NoFreeNodes(
                    f"{count} free nodes were not to be had within {seconds:g} s: {len(free)} are free, the others are "
                    f"held by the processes {holders}. Two points never share a node; wait for those runs or end them."
                )
            if not told:
                tell(f"waiting for {count} free nodes; held by the processes {holders}")
                told = True
            proceed()
            time.sleep(0.1)

    def give_back(self) -> None:
        """Give back all nodes that the holders have."""
        with self._locked() as taken:
            for node in [node for node, holders in taken.items() if holders == self._holders]:
                del taken[node]

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """Give the nodes taken by living processes; what the caller changes is written back."""
        with locked(self.path.with_suffix(".lock"), LOCK_S):
            try:
                taken = json.loads(self.path.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                taken = {}
            taken = {
                node: holders for node, holders in taken.items() if any(Process(*holder).alive for holder in holders)
            }
            yield taken
            write_json(self.path, taken, mode=0o600)
