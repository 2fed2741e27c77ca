"""The server half of daos-posix: a folder below a dfuse mount. Not run on real DAOS yet.

Tests name another table of mounts by SIMAI_MOUNTINFO: a file like /proc/self/mountinfo. There is no DAOS on the
machines that run them; for a user there is no reason to set it.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simai_rules.config.backends import DaosPosixConfig
from simai_rules.staging.server import Run, ServerFailed
from simai_rules.staging.servers.files import FileServer

_TYPES = ("fuse.dfuse", "fuse.daos")


def make_server(config: DaosPosixConfig, run: Run, hosts: Sequence[str], needed: int) -> FileServer:  # noqa: ARG001
    """Return the server that makes the run's folder in the container."""
    return DaosPosixServer(config, run, needed)


def mount_of(folder: Path) -> tuple[Path, str]:
    """Return the mount point that `folder` lies below, and the type of its file system (proc(5), mountinfo)."""
    table = Path(os.environ.get("SIMAI_MOUNTINFO") or "/proc/self/mountinfo")
    real, found = folder.resolve(), (Path("/"), "")
    for line in table.read_text(errors="surrogateescape").splitlines():
        mount, _, system = line.partition(" - ")
        # Blanks, tabs, newlines and backslashes stand there as octal numbers.
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount.split()[4]))
        # Of those mounted on the same point, the last lies on top.
        if real.is_relative_to(point) and len(point.parts) >= len(found[0].parts):
            found = (point, system.split()[0])
    return found


class DaosPosixServer(FileServer):
    """Makes the folder where dfuse is mounted and nowhere else."""

    config: DaosPosixConfig

    def start(self) -> dict[str, Any]:
        """Make the folder and its shards; raises ServerFailed where they would not lie in DAOS."""
        self._check_mount()
        address = super().start()
        return address | self.make_shards(self.config.shards)

    def check(self) -> None:
        """Raise ServerFailed if the folder or the mount has gone."""
        self._check_mount()
        super().check()

    def _check_mount(self) -> None:
        folder = self._folder.parent
        try:
            if not folder.is_dir():
                raise ServerFailed(
                    f"{self.option}: there is no folder {folder} on this node. Mount the container (dfuse --pool=POOL "
                    "--container=CONT -m FOLDER), on every node of the job, and make the folder."
                )
            point, kind = mount_of(folder)
        except OSError as error:
            raise ServerFailed(
                f"{self.option}: {folder} cannot be looked at ({error.strerror}). Has its dfuse ended?"
            ) from error
        if kind not in _TYPES:
            raise ServerFailed(
                f"{self.option}: {folder} does not lie on a dfuse mount but on {point} ({kind}). Mount the DAOS "
                "container there (dfuse --pool=POOL --container=CONT -m FOLDER), or use the backend filesystem."
            )
