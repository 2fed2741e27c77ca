"""The server half of a backend: what `simai-rules serve` starts, watches and ends."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from simai_rules.errors import UserError


class ServerFailed(UserError):
    """A staging server that could not be started, or that has died; the text is what its clients are told."""


def require_one_node(backend: str, hosts: Sequence[str]) -> None:
    """Raise ServerFailed where a point has several nodes, for a server that runs on the node of `serve` alone."""
    if len(hosts) > 1:
        raise ServerFailed(f"{backend} serves one node so far; this point has {len(hosts)}. Set nodes: 1.")


class Run(Protocol):
    """What a server needs of its run: an id, a folder that is removed in the end, claims and children."""

    @property
    def run_id(self) -> str:
        """The run's id, safe as a file name."""

    @property
    def name(self) -> str:
        """The run's id, with `-<index>` on its nodes but the first: nothing else on this machine is called so."""

    @property
    def index(self) -> int:
        """The number of this node among the run's."""

    @property
    def folder(self) -> Path:
        """A private folder of the run on this node."""

    serving: Sequence[int]
    """The numbers of the nodes that a server's processes are to be on, where they can be on any; () for all."""

    proceed: Callable[[], None]
    """Raises where the run was asked to end; a start that takes long calls it now and then."""

    def claim(self, path: Path, *, only_if_empty: bool = False) -> None:
        """Write down that `path` is about to be made, so that it is removed with the run, however the run ends."""

    def claimed_if_empty(self) -> set[Path]:
        """Return the folders that runs of this node have claimed to be removed only if empty."""

    def claim_by_command(self, command: Sequence[str]) -> None:
        """Write down a command that removes what is about to be made where no path leads, to be run in the end."""

    def start_child(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        new_session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a process that dies with this one, in a session of its own, else in a process group of its own."""


class Server(Protocol):
    """One backend's server."""

    def start(self) -> dict[str, Any]:
        """Start it and return the address for its clients; raises ServerFailed."""

    def check(self) -> None:
        """Raise ServerFailed if it has died or stopped answering since."""

    def stop(self) -> None:
        """End its processes. What was staged is removed with the run."""


@runtime_checkable
class OnNodes(Protocol):
    """An optional ability of a Server: a part of it on every node of a point. The first node's is the Server itself.

    The others are made by `make_part(config, run, hosts, needed, order) -> Server` of the backend's module, in a keeper
    on each node; what their start() returns is passed to join().
    """

    def order(self) -> dict[str, Any] | None:
        """Return what the parts have to know, in types of JSON; None where the other nodes need no part.

        It is asked before start().
        """

    def join(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one server of the parts, this node's first, in the order of the hosts; return the clients' address.

        Raises ServerFailed.
        """
