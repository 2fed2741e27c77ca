"""Staging by files: one file per key in the run's folder, written beside and renamed into place.

The folder is flat: one inotify watch then sees every key, and file systems index folders, so that the few values that
are alive at a time (a reader deletes what it has read) never make it slow. Half-written files are called
`.tmp.<pid>.<client>.<host>`: whoever cleans up can tell whose they are.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingError, StagingFull, shorten
from simai_rules.staging.keys import TEMPORARY, file_name
from simai_rules.staging.safetensors import header_length
from simai_rules.staging.vectored import IOV_MAX, write_rest
from simai_rules.staging.waiting import FolderWaiter

_HEAD = 448
"""Bytes read at once from the start of a file: most headers are shorter."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FileValue:
    """An open file that is read from its start; it stays what it was even if its key is overwritten or removed."""

    __slots__ = ("_descriptor", "_folder", "_name", "_offset", "header", "nbytes")

    def __init__(self, descriptor: int, folder: str, name: str) -> None:
        self._descriptor, self._folder, self._name = descriptor, folder, name
        self.nbytes = os.lseek(descriptor, 0, os.SEEK_END)
        head = os.pread(descriptor, _HEAD, 0)
        self._offset = end = 8 + int.from_bytes(head[:8], "little")
        self.header = head[8:end] if end <= len(head) else None

    @property
    def source(self) -> str:
        """The file's path."""
        return f"{self._folder}/{self._name}"

    def read_header(self) -> bytes:
        """Return a header that is long, or raise CorruptValue."""
        head = os.pread(self._descriptor, 8, 0)
        text = np.empty(header_length(head, self.nbytes), np.uint8)
        self._offset = 8
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
    """The client half of the backends that stage by files; `folder` is the run's own and exists already."""

    def __init__(self, name: str, folder: Path, *, pause_s: float, trust_events: bool) -> None:
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
        self._waiter = FolderWaiter(folder, pause_s, trust_events)
        # One name is enough, as it is renamed before it is needed again. It holds what is fresh for each client, so
        # that no other process, on any node or in any container, makes the same.
        self._temporary = f"{TEMPORARY}{os.getpid()}.{os.urandom(4).hex()}.{os.uname().nodename}"
        self._open = True

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:  # noqa: ARG002
        """Write a temporary file and rename it to the key's; return whether that replaced one."""
        directory, name, temporary = self._directory, file_name(key), self._temporary
        try:
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=directory)
            try:
                try:
                    written = os.writev(descriptor, buffers[:IOV_MAX])
                    if written != nbytes:
                        write_rest(lambda part: os.writev(descriptor, part), buffers, written)
                finally:
                    os.close(descriptor)
                replaced = os.access(name, os.F_OK, dir_fd=directory)
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                self._discard()
                raise
        except OSError as error:
            self._fail(error, f"write key {shorten(key)}", nbytes)
        return replaced

    def _discard(self) -> None:
        # Where this fails the folder has gone, and the file with it; the error that brought us here says so.
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._directory)

    def open(self, key: str, deadline_ns: int) -> FileValue:  # noqa: ARG002
        """Open the key's file; raises KeyError where there is none."""
        name = file_name(key)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                return FileValue(descriptor, self.where, name)
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
        if os.access(file_name(key), os.F_OK, dir_fd=self._directory):
            return True
        self._check_folder()
        return False

    def delete(self, key: str, deadline_ns: int) -> bool:  # noqa: ARG002
        """Remove the key's file."""
        try:
            os.unlink(file_name(key), dir_fd=self._directory)
        except FileNotFoundError:
            self._check_folder()
            return False
        except OSError as error:
            self._fail(error, f"delete key {shorten(key)}")
        return True

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Wait for the key's file."""
        return self._waiter.wait(lambda: self.exists(key), deadline_ns)

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
        if error.errno in _FULL:
            room = os.fstatvfs(self._directory)
            raise StagingFull(
                f"{self.name}: no room in {self.where} to {what}: it needs {needed} bytes, and "
                f"{room.f_bavail * room.f_frsize} are free ({error.strerror}). Stage smaller or fewer values at a time "
                "(let the reader keep up), or give the backend another folder."
            ) from None
        self._check_folder()
        raise StagingError(f"{self.name}: cannot {what} in {self.where}: {error.strerror}.") from None
