"""The server half of the backends that stage by files: a folder that is the run's own."""

import os
import shutil
from pathlib import Path
from typing import Any

from simai_rules.config.backends import Adios2Config, DaosPosixConfig, FilesystemConfig, NodeLocalConfig
from simai_rules.staging.server import Run, ServerFailed


class FileServer:
    """Makes the run's staging folder and watches that it stays. There is no process: the file system is the server."""

    def __init__(
        self, config: FilesystemConfig | NodeLocalConfig | DaosPosixConfig | Adios2Config, run: Run, needed: int
    ) -> None:
        self.config, self._run, self._needed = config, run, needed
        parent = Path(config.folder).absolute()
        prefix = "simai-rules-" if config.type == "node-local" else ""
        self._folder = parent / f"{prefix}{run.run_id}"

    @property
    def option(self) -> str:
        """The option that names the folder, for messages."""
        return f"backends.{self.config.type}.folder"

    def start(self) -> dict[str, Any]:
        """Make the folder (mode 0700); raises ServerFailed where it cannot be made or has too little room."""
        parent = self._folder.parent
        try:
            if self.config.type in ("filesystem", "adios2"):
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
        except OSError as error:
            raise ServerFailed(
                f"The staging folder {self._folder} cannot be made ({error.strerror}). Check that {parent} exists on "
                f"this node and that you may write there, or choose another folder ({self.option})."
            ) from error
        return {"folder": str(self._folder)}

    def _make_parents(self, parent: Path) -> None:
        """Make the folders that are missing; each goes with the run, unless somebody else uses it by then."""
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        for folder in reversed(missing):
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
