"""What the nodes of a run tell each other: small files in a folder that all of them see, beside server.json.

<folder of server.json>/nodes-<run id>/     mode 0700, its files 0600; it is removed with the run
    order.json                      what the keepers have to do
    <index>.up.json                 a keeper: its node's folder of the run, and the address of its part of the server;
                                    touched now and then
    server.json                     the server with its whole address, for the keepers to prove
    <index>.proved.json             a keeper has put and got values as a client of its node would
    <index>.gone.json               nothing of the run is left on that node
    <index>.<component>.failed.json a part of the run has failed on that node
    alive                           touched by `serve` now and then, and removed when the run ends
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

ORDER, SERVER, ALIVE = "order.json", "server.json", "alive"
BEAT_S = 15.0
"""How often a keeper touches its report, and the first node looks at those of all."""


def up(index: int) -> str:
    """Return the name of the file in which the keeper of node `index` says that its part is up."""
    return f"{index}.up.json"


def proved(index: int) -> str:
    """Return the name of the file in which the keeper of node `index` says that it has proved the server."""
    return f"{index}.proved.json"


def gone(index: int) -> str:
    """Return the name of the file that says that nothing of the run is left on node `index`."""
    return f"{index}.gone.json"


def changed(file: Path) -> tuple[int, int] | None:
    """Return what differs when `file` has been written anew or touched; None where it is not there."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino


class Reports:
    """The folder of one run's reports, as each of its nodes sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, server_file: Path, run_id: str) -> "Reports":
        """Return the reports of the run `run_id`, which writes `server_file`."""
        return cls(server_file.absolute().parent / f"nodes-{run_id}")

    def write(self, name: str, content: Any) -> None:
        """Write a report, whole or not at all; raises OSError, also where the folder has gone: it is not made again."""
        # Each node writes names of its own, so that its pid tells its writers apart.
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file)
            temporary.replace(self.folder / name)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise

    def touch(self, name: str) -> None:
        """Change the time of a report, where it is there."""
        with suppress(OSError):
            os.utime(self.folder / name)

    def read(self, name: str) -> Any:
        """Return what a report says, or None where there is none, or none that can be read."""
        try:
            return json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def names(self) -> set[str]:
        """Return the names of the reports that there are."""
        try:
            return {name for name in os.listdir(self.folder) if not name.startswith(".")}  # noqa: PTH208 - names
        except OSError:
            return set()

    def fail(self, index: int, failure: dict[str, Any]) -> None:
        """Tell the other nodes that a part of the run has failed on node `index`; a first reason is kept."""
        name = f"{index}.{failure['component']}.failed.json"
        if name not in self.names():
            with suppress(OSError):  # the folder is full or gone; the node itself has its note
                self.write(name, failure)

    def failures(self) -> list[tuple[int, Any]]:
        """Return what has failed on which node, in no order."""
        found = []
        for name in self.names():
            index, _, rest = name.partition(".")
            if index.isdigit() and rest.endswith(".failed.json"):
                content = self.read(name)
                if content is not None:
                    found.append((int(index), content))
        return found
