"""The server half of filesystem and node-local: a folder that is the run's own."""

import os
import shutil
from pathlib import Path
from typing import Any

from simai_rules.config.backends import FilesystemConfig, NodeLocalConfig
from simai_rules.staging.server import Run, ServerFailed


class FileServer:
    """Makes the run's staging folder and watches that it stays. There is no process: the file system is the server."""

    def __init__(self, config: FilesystemConfig | NodeLocalConfig, run: Run, needed: int) -> None:
        self.config, self._run, self._needed = config, run, needed
        parent = Path(config.folder).absolute()
        prefix = "simai-rules-" if config.type == "node-local" else ""
        self._folder = parent / f"{prefix}{run.run_id}"

    def start(self) -> dict[str, Any]:
        """Make the folder (mode 0700); raises ServerFailed where it cannot be made or has too little room."""
        parent = self._folder.parent
        option = f"backends.{self.config.type}.folder"
        try:
            if self.config.type == "filesystem" and not parent.exists():
                self._run.claim(parent, only_if_empty=True)
                parent.mkdir(parents=True)
            free = shutil.disk_usage(parent).free
            if free < self._needed:
                raise ServerFailed(
                    f"{parent} has {free / 1e6:.0f} MB free, but {self._needed / 1e6:.0f} MB may be staged at the same "
                    "time (elements x item size x ranks x staging.in_flight). Use smaller messages, fewer ranks, or "
                    f"another folder ({option})."
                )
            self._run.claim(self._folder)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            raise ServerFailed(
                f"The staging folder {self._folder} cannot be made ({error.strerror}). Check that {parent} exists on "
                f"this node and that you may write there, or choose another folder ({option})."
            ) from error
        return {"folder": str(self._folder)}

    def check(self) -> None:
        """Raise ServerFailed if somebody removed the folder."""
        if not os.access(self._folder, os.W_OK):
            raise ServerFailed(f"the staging folder {self._folder} is gone or cannot be written any more")

    def stop(self) -> None:
        """Nothing to end: the folder goes with the run."""
