"""A room of its own for a run: a mount namespace with an empty /dev/shm and /tmp, where all that appears is the run's.

Other programs of the machine, other tests too, use these folders at the same time. In here nothing has to be guessed:
a process is the run's if it is in the namespace, and a file if it was not there when the room was made.
"""

import ctypes
import functools
import os
import subprocess
import sys
from pathlib import Path

_NEW_MOUNTS = 0x00020000
_SEEN = ("/dev/shm", "/tmp")
# The folders named as arguments stay what they are, also where they are below /tmp. A tmpfs cannot be mounted over what
# it has to show, so each is kept on a tmpfs on /mnt meanwhile. `cat` holds the namespace until this process ends.
_SCRIPT = """\
set -e
mount -t tmpfs none /mnt
n=0
for folder in "$@"; do n=$((n + 1)); mkdir /mnt/$n; mount --bind "$folder" /mnt/$n; done
mount -t tmpfs -o mode=1777 none /tmp
mount -t tmpfs -o mode=1777 none /dev/shm
n=0
for folder in "$@"; do n=$((n + 1)); mkdir -p "$folder"; mount --move /mnt/$n "$folder"; done
umount /mnt
echo ready
exec cat
"""


@functools.cache
def lacks_rights() -> str:
    """Why no room can be made here, or ""."""
    try:
        done = subprocess.run(
            ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"unshare: {error.strerror}"
    return f"mount namespaces: {done.stderr.strip()}" if done.returncode else ""


class Room:
    """A mount namespace, held by a process that ends with this one; `keep` are folders that stay visible in it."""

    def __init__(self, *keep: Path) -> None:
        root = Path(__file__).resolve().parent.parent
        kept = {path.resolve() for path in (*keep, root, Path(sys.prefix), Path(sys.base_prefix))}
        below = sorted(path for path in kept if path.is_relative_to("/tmp"))
        outermost = [path for path in below if not any(path != other and path.is_relative_to(other) for other in below)]
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", *map(str, outermost)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout.readline() == "ready\n"
        self._namespace = Path(f"/proc/{self._holder.pid}/ns/mnt").stat()
        self._at_first = self._files()

    def path(self, path: str | Path) -> Path:
        """Where a path of the room is seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def enter(self) -> None:
        """Bring this process into the room: the preexec_fn of a child."""
        here = Path.cwd()
        namespace = os.open(f"/proc/{self._holder.pid}/ns/mnt", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _NEW_MOUNTS):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(namespace)
        os.chdir(here)

    def run(self, *command: str) -> None:
        """Run a command in the room; raises CalledProcessError."""
        subprocess.run(command, preexec_fn=self.enter, check=True, timeout=60)

    def pids(self) -> list[int]:
        """The processes in the room."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                inside = os.path.samestat((folder / "ns/mnt").stat(), self._namespace)
            except OSError:
                continue
            if inside and int(folder.name) != self._holder.pid:
                found.append(int(folder.name))
        return found

    def files(self) -> list[str]:
        """What is in /dev/shm and /tmp that was not there at first."""
        return sorted(self._files() - self._at_first)

    def _files(self) -> set[str]:
        return {f"{folder}/{path.name}" for folder in _SEEN for path in self.path(folder).iterdir()}

    def close(self) -> None:
        """Give it up; the kernel removes it with its last process."""
        self._holder.communicate()
