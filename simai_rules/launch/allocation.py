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
from pathlib import Path
from typing import Any

from simai_rules.errors import UserError
from simai_rules.files import locked, write_json
from simai_rules.process import Process

LOCK_S = 30.0


class NoFreeNodes(UserError):
    """The allocation has fewer nodes than asked for, or they stayed taken until the deadline."""


@dataclass(frozen=True)
class Allocation:
    """Nodes that this user may use now."""

    name: str
    nodes: tuple[str, ...]


def allocation_of(hostfile: str | None) -> Allocation:
    """Return the nodes that the file `hostfile` names, one per line, each once; without it, this machine alone.

    Raises UserError where the file cannot be read, names no node, or names one that cannot be found.
    """
    if not hostfile:
        return Allocation("local", (platform.node(),))
    path = Path(hostfile).absolute()
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    except OSError as error:
        raise UserError(f"The host file {path} (hostfile in system.yaml) cannot be read: {error.strerror}.") from None
    nodes = tuple(dict.fromkeys(line for line in lines if line))
    if not nodes:
        raise UserError(f"The host file {path} (hostfile in system.yaml) names no node; it takes one name per line.")
    unknown = [node for node in nodes if not _resolves(node)]
    if unknown:
        raise UserError(
            f"{path} (hostfile in system.yaml) names {', '.join(unknown)}, of which no address is known on this node "
            "(getent hosts NAME). Correct the name, or the file of an allocation that has ended."
        )
    return Allocation(hashlib.sha256(str(path).encode()).hexdigest()[:8], nodes)


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

    def take(self, count: int, seconds: float, tell: Callable[[str], None], proceed: Callable[[], None]) -> list[str]:
        """Take `count` free nodes for the holders, waiting up to `seconds`; `proceed` may raise to end the wait.

        Raises NoFreeNodes where the allocation is too small or its nodes stay taken.
        """
        if count > len(self.allocation.nodes):
            raise NoFreeNodes(
                f"The point asks for {count} nodes; the allocation '{self.allocation.name}' has "
                f"{len(self.allocation.nodes)} ({', '.join(self.allocation.nodes)}). Ask for fewer (nodes) or for a "
                "larger allocation."
            )
        deadline = time.monotonic() + seconds
        told = False
        while True:
            with self._locked() as taken:
                free = [node for node in self.allocation.nodes if node not in taken]
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
