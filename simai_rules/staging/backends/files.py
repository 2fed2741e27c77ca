"""Staging by files: one file per key in the run's folder, written beside and renamed into place.

The folder is flat unless `shards` asks for subfolders: one inotify watch then sees every key, and file systems index
folders, so that the few values that are alive at a time (a reader deletes what it has read) never make it slow.
Half-written files are called `.tmp.<pid>.<client>.<where that pid counts>`: whoever cleans up can tell whose they are,
and the next writer in the same folder removes those of dead processes.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from simai_rules.process import pid_space
from simai_rules.staging.backend import Buffer, Incoming, bytes_of
from simai_rules.staging.backends import file_locks
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingError, StagingFull, shorten
from simai_rules.staging.keys import TEMPORARY, file_name
from simai_rules.staging.safetensors import header_length
from simai_rules.staging.vectored import IOV_MAX, write_rest
from simai_rules.staging.waiting import FolderWaiter

HEAD = 448
"""Bytes read at once from the start of a file: most headers are shorter."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a file system says where there is no room."""

Fill = Callable[[int, Sequence[Buffer], int], None]
"""Writes buffers of so many bytes in all to a new file."""


def shard_name(name: str, shards: int) -> str:
    """Return the subfolder of the file `name`: the same in every process, on every machine."""
    return f"{zlib.crc32(name.encode()) % shards:04d}"


def _sharded(shards: int, key: str) -> str:
    name = file_name(key)
    return f"{shard_name(name, shards)}/{name}"


def left_by_dead(folder: int | str, prefix: str) -> list[str]:
    """Return the files `<prefix><pid>.….<pid_space>` in `folder` whose processes, of this machine, have ended.

    A process that may not be asked is alive, and somebody else's.
    """
    found = []
    for name in os.listdir(folder):  # noqa: PTH208 - names, not paths
        if name.startswith(prefix) and name.endswith(f".{pid_space()}"):
            try:
                os.kill(int(name.removeprefix(prefix).partition(".")[0]), 0)
            except ProcessLookupError:
                found.append(name)
            except PermissionError:
                continue
    return found


def fill(descriptor: int, buffers: Sequence[Buffer], nbytes: int) -> None:
    """Write the buffers, by one system call where the kernel takes them all at once."""
    written = os.writev(descriptor, buffers[:IOV_MAX])
    if written != nbytes:
        write_rest(lambda part: os.writev(descriptor, part), buffers, written)


class FileValue:
    """An open file that is read from its start; it stays what it was even if its key is overwritten or removed.

    With `start` and `nbytes` it is a part of the file; then the caller sees to it that the part stays.
    """

    __slots__ = ("_descriptor", "_folder", "_name", "_offset", "_start", "header", "nbytes")

    def __init__(self, descriptor: int, folder: str, name: str, start: int = 0, nbytes: int | None = None) -> None:
        self._descriptor, self._folder, self._name, self._start = descriptor, folder, name, start
        if nbytes is None:
            self.nbytes = os.lseek(descriptor, 0, os.SEEK_END)
            head = os.pread(descriptor, HEAD, 0)
        else:
            self.nbytes = nbytes
            head = os.pread(descriptor, min(HEAD, nbytes), start)
        end = 8 + int.from_bytes(head[:8], "little")
        self._offset = start + end
        self.header = head[8:end] if end <= len(head) else None

    @property
    def source(self) -> str:
        """The file's path."""
        return f"{self._folder}/{self._name}"

    def read_header(self) -> bytes:
        """Return a header that is long, or raise CorruptValue."""
        head = os.pread(self._descriptor, 8, self._start)
        text = np.empty(header_length(head, self.nbytes), np.uint8)
        self._offset = self._start + 8
        self.readinto(text.data)
        return text.tobytes()

    def readinto(self, view: memoryview) -> None:
        """Fill an array's memory with the next bytes of the file."""
        count = os.preadv(self._descriptor, (view,), self._offset)
        self._offset += count
        if count == view.nbytes:
            return
        view = bytes_of(view)[count:]
        while view:
            count = os.preadv(self._descriptor, (view,), self._offset)
            if not count:
                raise CorruptValue(f"its file ends at byte {self._offset}")
            self._offset += count
            view = view[count:]

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Files:
    """The client half of the backends that stage by files; `folder` is the run's own and exists already.

    Arguments: `pause_s` and `trust_events` are FolderWaiter's. `shards`: subfolders that the server has made and that
    the keys are spread over. `fsync`: a value is on the disk before its key can be seen, and its name when put returns.
    """

    _incoming: type[FileValue] = FileValue
    _new, _read = _NEW, os.O_RDONLY | os.O_CLOEXEC
    _fill: Fill = staticmethod(fill)

    def __init__(
        self, name: str, folder: Path, *, pause_s: float, trust_events: bool, shards: int = 1, fsync: bool = False
    ) -> None:
        self.name, self.where = name, str(folder)
        self._folder = folder
        try:
            self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ServerLost(
                f"The {name} staging folder {folder} cannot be opened ({error.strerror}). Its server has not made it, "
                "has stopped and removed it, or made it on another node."
            ) from None
        self._identity = os.fstat(self._directory)
        self._new_waiter = partial(FolderWaiter, pause_s=pause_s, trust_events=trust_events)
        self._waited, self._waiter = "", self._new_waiter(folder)
        # One name is enough, as it is renamed before it is needed again. It holds what is fresh for each client, so
        # that no other process, on any node or in any container, makes the same.
        self._temporary = f"{TEMPORARY}{os.getpid()}.{os.urandom(4).hex()}.{pid_space()}"
        self._shards, self._fsync = shards, fsync
        self._name_of: Callable[[str], str] = file_name if shards == 1 else partial(_sharded, shards)
        self._swept: set[str] = set()
        self._open = True

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:  # noqa: ARG002
        """Write a temporary file and rename it to the key's; return whether that replaced one."""
        directory, name = self._directory, self._name_of(key)
        temporary = self._beside(name)
        try:
            descriptor = os.open(temporary, self._new, 0o600, dir_fd=directory)
            try:
                try:
                    self._fill(descriptor, buffers, nbytes)
                    if self._fsync:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                replaced = os.access(name, os.F_OK, dir_fd=directory)
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                self._discard(temporary)
                raise
            if self._fsync:
                self._sync_folder(name)
        except OSError as error:
            self._fail(error, f"write key {shorten(key)}", nbytes)
        return replaced

    def _beside(self, name: str) -> str:
        """Return a temporary name in the folder of `name`; before the first, what dead writers left there is removed.

        Temporaries lie in the shard itself: on Lustre, a rename from one folder to another takes a lock of the whole
        file system, and one folder for all of them would be what shards are there to avoid.
        """
        shard = name[: name.rfind("/") + 1]
        if shard not in self._swept:
            self._swept.add(shard)
            self._sweep(shard)
        return shard + self._temporary

    def _sweep(self, shard: str) -> None:
        """Remove what dead processes of this machine have left half-written in `shard`."""
        with contextlib.suppress(OSError):
            for name in left_by_dead(f"{self.where}/{shard}", TEMPORARY):
                self._discard(shard + name)

    def _discard(self, temporary: str) -> None:
        """Remove a temporary file; where this fails the folder has gone, and the file with it."""
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=self._directory)

    def _sync_folder(self, name: str) -> None:
        """Force the name of a file to the disk: until then it is only in memory that the file has it."""
        shard = name[: name.rfind("/") + 1]
        folder = os.open(shard or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def open(self, key: str, deadline_ns: int) -> Incoming:  # noqa: ARG002
        """Open the key's file; raises KeyError where there is none."""
        name = self._name_of(key)
        try:
            descriptor = os.open(name, self._read, dir_fd=self._directory)
            try:
                return self._incoming(descriptor, self.where, name)
            except OSError:
                os.close(descriptor)
                raise
        except FileNotFoundError:
            self._check_folder()
            raise KeyError(key) from None
        except OSError as error:
            self._fail(error, f"read key {shorten(key)}")

    def exists(self, key: str, deadline_ns: int = 0) -> bool:  # noqa: ARG002
        """Return whether the key's file is there."""
        if os.access(self._name_of(key), os.F_OK, dir_fd=self._directory):
            return True
        self._check_folder()
        return False

    def delete(self, key: str, deadline_ns: int) -> bool:  # noqa: ARG002
        """Remove the key's file."""
        try:
            os.unlink(self._name_of(key), dir_fd=self._directory)
        except FileNotFoundError:
            self._check_folder()
            return False
        except OSError as error:
            self._fail(error, f"delete key {shorten(key)}")
        return True

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Wait for the key's file.

        One folder is watched at a time: a user has few inotify instances, and there may be thousands of shards.
        """
        name = self._name_of(key)
        shard = name[: name.rfind("/") + 1]
        if shard != self._waited:
            self._waiter.close()
            self._waited, self._waiter = shard, self._new_waiter(self._folder / shard)
        return self._waiter.wait(lambda: self.exists(key), deadline_ns)

    def lock(self, key: str, deadline_ns: int) -> AbstractContextManager[None]:
        """Return a context that holds the lock of `key`: see Locking, and file_locks for how."""
        return file_locks.hold(self._directory, self._fail, key, deadline_ns)

    def close(self) -> None:
        """Close the folder."""
        if self._open:
            self._open = False
            self._waiter.close()
            os.close(self._directory)

    def _check_folder(self) -> None:
        """Raise ServerLost unless the folder is still the one that was there at the start."""
        try:
            same = os.path.samestat(os.stat(self.where), self._identity)  # noqa: PTH116 - called often while waiting
        except OSError:
            same = False
        if not same:
            raise ServerLost(
                f"The {self.name} staging folder {self.where} is gone: its server has stopped, or someone removed it. "
                "See the server's log and failures/ in the point's results."
            )

    def _fail(self, error: OSError, what: str, needed: int = 0) -> NoReturn:
        """Raise the staging error that `error` means."""
        if error.errno in FULL:
            room = os.fstatvfs(self._directory)
            raise StagingFull(
                f"{self.name}: no room in {self.where} to {what}: it needs {needed} bytes, and "
                f"{room.f_bavail * room.f_frsize} are free ({error.strerror}). Stage smaller or fewer values at a time "
                "(let the reader keep up), or give the backend another folder."
            ) from None
        self._check_folder()
        raise StagingError(f"{self.name}: cannot {what} in {self.where}: {error.strerror}.") from None
