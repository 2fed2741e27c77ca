"""One file per step: keys that end in the same last '/'-component share a file, as all ranks' values of a step do.

    <step>.step     a block with the number of regions in use, then the regions, each from a block's boundary on
    <key>           a symbolic link that leads nowhere: its text, `inode:offset:bytes:file`, says where the value is

A link is made and renamed like a file, by one system call less. A writer reserves a region under the lock of the
file's first block, writes to it without a lock, and renames its link to the key's name under the lock again. No region
is used twice: one that is given back becomes a hole, and the file goes with its last region. A reader locks the region
that it reads, and the last reader of a value that was removed meanwhile makes the hole. Locks are those of open files
(fcntl(2), F_OFD_SETLK): the kernel gives them back however a process ends. A writer that was killed leaves its
temporary link, by which the next one in the folder gives the region back.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any, NamedTuple

from simai_rules.staging.backend import Buffer
from simai_rules.staging.backends.direct import BLOCK, DirectValue, blocks, fill_direct
from simai_rules.staging.backends.files import Files, FileValue, fill, shard_name
from simai_rules.staging.errors import CorruptValue, StagingError, shorten
from simai_rules.staging.keys import SUFFIX, file_name

_PUNCH = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE."""
_SWEEP_NS = 10**9
_TRY_NS = 0
_LOOKS = 100
"""How often a link whose file is not there is looked at, every 5 ms: NFS tells of changes late."""


class Region(NamedTuple):
    """Where a value is, as the text of its link says."""

    inode: int
    offset: int
    nbytes: int
    file: str

    @property
    def length(self) -> int:
        """Its bytes in the file; a lock of no bytes would be one of all that follow."""
        return blocks(max(self.nbytes, 1))

    @property
    def text(self) -> str:
        """The text of the link."""
        return f"{self.inode}:{self.offset}:{self.nbytes}:{self.file}"

    @classmethod
    def of(cls, text: str) -> "Region":
        """Read a link's text; raises ValueError."""
        inode, offset, nbytes, file = text.split(":", 3)
        return cls(int(inode), int(offset), int(nbytes), file)


def lock(descriptor: int, kind: int, start: int, length: int, deadline_ns: int) -> bool:
    """Lock or unlock (`kind`: F_RDLCK, F_WRLCK, F_UNLCK) bytes of an open file; False if others have them till then."""
    wanted = struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)
    pause = 0.00005
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if perf_counter_ns() >= deadline_ns:
            return False
        sleep(pause)
        pause = min(2 * pause, 0.005)


def punch(descriptor: int, region: Region) -> None:
    """Make the region a hole, unless somebody still reads it, who then does it.

    Where the file system makes no holes, the room comes back with the last value of the step.
    """
    if lock(descriptor, fcntl.F_WRLCK, region.offset, region.length, _TRY_NS):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate(descriptor, _PUNCH, ctypes.c_long(region.offset), ctypes.c_long(region.length))
        lock(descriptor, fcntl.F_UNLCK, region.offset, region.length, _TRY_NS)


class StepValue:
    """A value in a step's file that is being read; its region is locked and stays what it was."""

    def __init__(self, files: "StepFiles", name: str, region: Region, value: FileValue, locked: int) -> None:
        self._files, self._name, self._region, self._value, self._locked = files, name, region, value, locked
        self.nbytes, self.header, self.source = region.nbytes, value.header, f"{files.where}/{name}"
        self.read_header, self.readinto = value.read_header, value.readinto

    def close(self) -> None:
        """Give the region back to those who want to free it, or free it if its key has gone."""
        try:
            lock(self._locked, fcntl.F_UNLCK, self._region.offset, self._region.length, _TRY_NS)
            # Whoever removed the key did so before they tried to make the hole: it is seen here, or they made it.
            if self._files.region_of(self._name) != self._region:
                punch(self._locked, self._region)
        finally:
            self._value.close()
            if isinstance(self._value, DirectValue):
                os.close(self._locked)


class StepFiles(Files):
    """The client half of filesystem with `layout: file-per-step`."""

    def __init__(self, name: str, folder: Path, *, direct: bool = False, **options: Any) -> None:
        super().__init__(name, folder, **options)
        self._direct = direct
        self._left: set[str] = set()
        """Temporary links of failed writes, whose regions could not be given back because others had the lock."""

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:
        """Write to a region of the step's file and point the key to it; return whether that replaced a value."""
        name, file, directory = self._name_of(key), self._file_of(key), self._directory
        temporary = self._beside(name)
        try:
            if temporary in self._left:
                self._undo(temporary, deadline_ns)
                self._left.remove(temporary)
            descriptor = self._enter(file, deadline_ns, os.O_CREAT)
            try:
                region = self._reserve(descriptor, file, nbytes)
                try:
                    os.symlink(region.text, temporary, dir_fd=directory)
                    self._leave(descriptor)
                    self._write(descriptor, region, buffers)
                    if self._fsync and os.path.dirname(file) != os.path.dirname(name):  # noqa: PTH120
                        self._sync_folder(file)
                    self._lock(descriptor, file, deadline_ns)
                    old = self.region_of(name)
                    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                except BaseException:
                    self._take_back(descriptor, name, temporary, region)
                    raise
                if old and old.inode == region.inode:
                    self._free(descriptor, old)
                else:
                    self._leave(descriptor)
                if self._fsync:
                    self._sync_folder(name)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._fail(error, f"write key {shorten(key)}", nbytes)
        return old is not None

    def open(self, key: str, deadline_ns: int) -> StepValue:  # noqa: ARG002
        """Find the key's region and lock it against being freed; raises KeyError where there is none."""
        name = self._name_of(key)
        try:
            region, looks = self.region_of(name), _LOOKS
            while region:
                value = self._read_region(name, region)
                if value:
                    return value
                before, region = region, self.region_of(name)
                if region == before:
                    looks -= 1
                    sleep(0.005)
                if not looks:
                    raise CorruptValue(
                        f"Key {shorten(key)} on {self.name} ({self.where}/{name}) points to {before.text}, which has "
                        "gone: it was removed by something else than simai-rules. Stage the value again."
                    )
        except OSError as error:
            self._fail(error, f"read key {shorten(key)}")
        self._check_folder()
        raise KeyError(key)

    def exists(self, key: str, deadline_ns: int = 0) -> bool:  # noqa: ARG002
        """Return whether the key's link is there."""
        if self.region_of(self._name_of(key)):
            return True
        self._check_folder()
        return False

    def delete(self, key: str, deadline_ns: int) -> bool:
        """Remove the key's link and free its region; the last one of a step takes the file along."""
        name, file = self._name_of(key), self._file_of(key)
        try:
            descriptor = self._enter(file, deadline_ns)
            try:
                region = self.region_of(name)
                if region:
                    os.unlink(name, dir_fd=self._directory)
                    self._free(descriptor, region)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            region = None
        except OSError as error:
            self._fail(error, f"delete key {shorten(key)}")
        if not region:
            self._check_folder()
        return region is not None

    def region_of(self, name: str) -> Region | None:
        """Return where the link `name` points to; None where there is no such link."""
        try:
            return Region.of(os.readlink(name, dir_fd=self._directory))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptValue(f"{self.where}/{name} is not a link of simai-rules: {error}.") from None

    def _file_of(self, key: str) -> str:
        """Return the file of the key's step."""
        # No last component holds a '/', so that the empty one can be called by it.
        name = file_name(key.rpartition("/")[2] or "/").removesuffix(SUFFIX) + ".step"
        return name if self._shards == 1 else f"{shard_name(name, self._shards)}/{name}"

    def _enter(self, file: str, deadline_ns: int, create: int = 0) -> int:
        """Open the step's file and lock its first block."""
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | create, 0o600, dir_fd=self._directory)
            try:
                self._lock(descriptor, file, deadline_ns)
                if os.fstat(descriptor).st_nlink:
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            # Its last value was removed before the lock was to be had.
            os.close(descriptor)

    def _lock(self, descriptor: int, file: str, deadline_ns: int) -> None:
        if not lock(descriptor, fcntl.F_WRLCK, 0, BLOCK, deadline_ns):
            raise StagingError(
                f"{self.name}: {self.where}/{file} was locked by another process until the deadline. Is one of the "
                "run's processes halted (SIGSTOP)?"
            )

    @staticmethod
    def _leave(descriptor: int) -> None:
        lock(descriptor, fcntl.F_UNLCK, 0, BLOCK, _TRY_NS)

    @staticmethod
    def _count(descriptor: int, change: int) -> int:
        """Change the number of regions in use and return it; the caller has the lock."""
        count = int.from_bytes(os.pread(descriptor, 8, 0), "little") + change
        os.pwrite(descriptor, count.to_bytes(8, "little"), 0)
        return count

    def _reserve(self, descriptor: int, file: str, nbytes: int) -> Region:
        """Return a fresh region at the end of the file. Killed from here to the symlink, a writer costs it for good."""
        status = os.fstat(descriptor)
        region = Region(status.st_ino, max(BLOCK, blocks(status.st_size)), nbytes, file)
        os.ftruncate(descriptor, region.offset + region.length)
        self._count(descriptor, 1)
        return region

    def _write(self, descriptor: int, region: Region, buffers: Sequence[Buffer]) -> None:
        if self._direct:
            direct = os.open(region.file, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                fill_direct(direct, buffers, region.nbytes, region.offset)
            finally:
                os.close(direct)
        else:
            os.lseek(descriptor, region.offset, os.SEEK_SET)
            fill(descriptor, buffers, region.nbytes)
        if self._fsync:
            os.fsync(descriptor)

    def _free(self, descriptor: int, region: Region) -> None:
        """Give back a region whose link is gone, and the file with its last one; the caller has the lock."""
        if self._count(descriptor, -1) == 0:
            os.unlink(region.file, dir_fd=self._directory)
        self._leave(descriptor)
        punch(descriptor, region)

    def _take_back(self, descriptor: int, name: str, temporary: str, region: Region) -> None:
        """Undo a write that has failed, or was interrupted before its value could be seen."""
        self._left.add(temporary)
        with contextlib.suppress(OSError, StagingError):
            self._lock(descriptor, region.file, perf_counter_ns() + _SWEEP_NS)
            if self.region_of(name) == region:
                self._leave(descriptor)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=self._directory)
                self._free(descriptor, region)
            self._left.remove(temporary)

    def _discard(self, temporary: str) -> None:
        """Free the region of a writer that was killed."""
        with contextlib.suppress(OSError, StagingError):
            self._undo(temporary, perf_counter_ns() + _SWEEP_NS)

    def _undo(self, temporary: str, deadline_ns: int) -> None:
        """Remove a temporary link and free its region; raises StagingError where others have the lock till then."""
        region = self.region_of(temporary)
        if region:
            descriptor = self._enter(region.file, deadline_ns)
            try:
                if self.region_of(temporary) == region:
                    os.unlink(temporary, dir_fd=self._directory)
                    self._free(descriptor, region)
            finally:
                os.close(descriptor)

    def _read_region(self, name: str, region: Region) -> StepValue | None:
        """Lock the region and open it; None where it is not, or not any more, that of the link `name`."""
        try:
            locked = os.open(region.file, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        opened = [locked]
        try:
            mine = lock(locked, fcntl.F_RDLCK, region.offset, region.length, _TRY_NS)
            if mine and os.fstat(locked).st_ino == region.inode and self.region_of(name) == region:
                if not self._direct:
                    value = FileValue(locked, self.where, name, region.offset, region.nbytes)
                    return StepValue(self, name, region, value, locked)
                opened.append(os.open(region.file, self._read | os.O_DIRECT, dir_fd=self._directory))
                if os.fstat(opened[1]).st_ino == region.inode:
                    direct = DirectValue(opened[1], self.where, name, region.offset, region.nbytes)
                    return StepValue(self, name, region, direct, locked)
        except FileNotFoundError:
            pass
        except BaseException:
            _close_all(opened)
            raise
        _close_all(opened)
        return None


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
