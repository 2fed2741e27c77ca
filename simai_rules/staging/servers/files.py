"""The server half of the backends that stage by files: a folder that is the run's own."""

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar, Protocol

from simai_rules.staging.server import Run, ServerFailed

_TRIES = 10


class FolderOptions(Protocol):
    """What the options of these backends have in common."""

    @property
    def type(self) -> str:
        """The backend's name."""

    @property
    def folder(self) -> str:
        """Where each run makes its folder."""


class FileServer:
    """Makes the run's staging folder and watches that it stays. There is no process: the file system is the server."""

    prefix: ClassVar[str] = ""
    """What the folder's name starts with, before the run's name."""
    makes_parents: ClassVar[bool] = False
    """Whether the folders above are made where they are missing."""

    def __init__(self, config: FolderOptions, run: Run, needed: int) -> None:
        self.config, self._run, self._needed = config, run, needed
        self._folder = Path(config.folder).absolute() / f"{self.prefix}{run.name}"

    @property
    def option(self) -> str:
        """The option that names the folder, for messages."""
        return f"backends.{self.config.type}.folder"

    def start(self) -> dict[str, Any]:
        """Make the folder (mode 0700); raises ServerFailed where it cannot be made or has too little room."""
        tries = _TRIES if self.makes_parents else 1
        while True:
            tries -= 1
            try:
                self._make()
            except FileNotFoundError as error:
                # A run that has made a folder above removes it when it ends, perhaps just now.
                if not tries:
                    raise self._not_made(error) from error
            except OSError as error:
                raise self._not_made(error) from error
            else:
                return {"folder": str(self._folder)}

    def _make(self) -> None:
        parent = self._folder.parent
        if self.makes_parents:
            self._make_parents(parent)
        free = shutil.disk_usage(parent).free
        if free < self._needed:
            raise ServerFailed(
                f"{parent} has {free / 1e6:.0f} MB free, but {self._needed / 1e6:.0f} MB may be staged at the same "
                "time (elements x item size x ranks x staging.in_flight). Use smaller messages, fewer ranks, or "
                f"another folder ({self.option})."
            )
        self._run.claim(self._folder)
        self._folder.mkdir(mode=0o700)

    def _not_made(self, error: OSError) -> ServerFailed:
        return ServerFailed(
            f"The staging folder {self._folder} cannot be made ({error.strerror}). Check that {self._folder.parent} "
            f"exists on this node and that you may write there, or choose another folder ({self.option})."
        )

    def _make_parents(self, parent: Path) -> None:
        """Make the folders that are missing; each goes with the run, unless somebody else uses it by then.

        Those that another run of this node has made for itself go with the last of the runs. A run of another node
        is not seen: what it has made stays, empty, if this run outlives it.
        """
        above = [parent, *parent.parents]
        missing = [folder for folder in above if not folder.exists()]
        others = self._run.claimed_if_empty()
        for folder in reversed(above):
            if folder in missing or folder in others:
                self._run.claim(folder, only_if_empty=True)
                folder.mkdir(exist_ok=True)

    def make_shards(self, shards: int) -> dict[str, Any]:
        """Make the subfolders that clients spread their keys over; return what the address says of them."""
        if shards > 1:
            try:
                for number in range(shards):
                    (self._folder / f"{number:04d}").mkdir(mode=0o700)
            except OSError as error:
                raise ServerFailed(f"{self._folder}: a shard cannot be made ({error.strerror}).") from error
        return {"shards": shards}

    def check(self) -> None:
        """Raise ServerFailed if somebody removed the folder."""
        if not os.access(self._folder, os.W_OK):
            raise ServerFailed(f"the staging folder {self._folder} is gone or cannot be written any more")

    def stop(self) -> None:
        """Nothing to end: the folder goes with the run."""
