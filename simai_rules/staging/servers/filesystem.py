"""The server half of filesystem."""

import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from simai_rules.config.backends import FilesystemConfig
from simai_rules.staging.backends.direct import BLOCK, no_direct
from simai_rules.staging.backends.step_files import lock
from simai_rules.staging.server import Run, ServerFailed
from simai_rules.staging.servers.files import FileServer

_LFS_S = 20.0
_NO_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)


def make_server(config: FilesystemConfig, run: Run, hosts: Sequence[str], needed: int) -> FileServer:  # noqa: ARG001
    """Return the server that makes the run's folder on the file system."""
    return FilesystemServer(config, run, needed)


class FilesystemServer(FileServer):
    """Makes the folder as the options ask for, and tries what the clients will rely on."""

    config: FilesystemConfig
    makes_parents = True

    def start(self) -> dict[str, Any]:
        """Make the folder; raises ServerFailed where the file system does not offer what the options ask for."""
        address = super().start()
        # What is made in the folder afterwards, the shards first of all, inherits its striping.
        if self.config.stripe_count or self.config.stripe_size:
            self._stripe()
        if self.config.direct:
            self._try_direct()
        if self.config.layout == "file-per-step":
            self._try_lock()
        chosen = {"layout": self.config.layout, "fsync": self.config.fsync, "direct": self.config.direct}
        return address | self.make_shards(self.config.shards) | chosen

    def _stripe(self) -> None:
        """Set the striping of files to come in the folder by Lustre's own tool."""
        lfs = shutil.which("lfs")
        if lfs is None:
            raise ServerFailed(
                "backends.filesystem.stripe_count and stripe_size need Lustre's program lfs, which is not on the PATH "
                "of this node. Load its module or extend the PATH, or leave both options at 0 where the folder is not "
                "on Lustre."
            )
        command = [lfs, "setstripe"]
        if self.config.stripe_count:
            command += ["-c", str(self.config.stripe_count)]
        if self.config.stripe_size:
            command += ["-S", str(self.config.stripe_size)]
        try:
            done = subprocess.run(
                [*command, str(self._folder)], capture_output=True, text=True, timeout=_LFS_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerFailed(f"{lfs} setstripe on {self._folder} did not come to its end: {error}") from error
        if done.returncode:
            raise ServerFailed(
                f"{' '.join(command)} {self._folder} failed: {(done.stderr or done.stdout).strip()[-500:]}. Is the "
                "folder on Lustre, and does it have that many storage targets? Else leave the stripe options at 0."
            )

    def _try_direct(self) -> None:
        """Make a file by O_DIRECT, as the clients will."""
        path = self._folder / ".tmp.probe"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o600))
        except OSError as error:
            why = no_direct("filesystem", str(self._folder)) if error.errno in _NO_DIRECT else error.strerror
            raise ServerFailed(f"{why}") from error
        finally:
            path.unlink(missing_ok=True)

    def _try_lock(self) -> None:
        """Lock a part of a file, as the clients will."""
        path = self._folder / ".tmp.probe"
        try:
            with path.open("xb") as file:
                lock(file.fileno(), fcntl.F_WRLCK, 0, BLOCK, 0)
        except OSError as error:
            raise ServerFailed(
                f"layout: file-per-step needs files that can be locked, which the file system of {self._folder} "
                f"refuses ({error.strerror}). On Lustre locks come with the mount option flock. Use layout: "
                "file-per-key."
            ) from error
        finally:
            path.unlink(missing_ok=True)
