"""The server half of a backend: what `simai-rules serve` starts, watches and ends."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

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
    def folder(self) -> Path:
        """A private folder of the run on this node."""

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
