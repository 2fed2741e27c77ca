"""Files past the page cache (O_DIRECT): what is measured is the file system, not the memory in front of it.

The kernel then moves whole blocks between the disk and memory that starts at a block's boundary. A value is a header of
any length followed by arrays that numpy aligns to 16 or 64 bytes, so neither side fits: every byte is copied once
through a page-aligned buffer. The copy costs memory bandwidth, which is several times that of the file systems that
this is for.
"""

import errno
import mmap
import os
from collections.abc import Sequence
from typing import NoReturn

from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.backends.files import HEAD, Files, FileValue
from simai_rules.staging.errors import CorruptValue, StagingError
from simai_rules.staging.safetensors import header_length

BLOCK = 4096
"""Bytes; what Linux file systems and Lustre's clients ask for at most."""
BUFFER = 512 * 1024
"""Bytes of the copy's buffer: within the memory that a put or get may take, and no write crosses a stripe of Lustre."""


def blocks(nbytes: int) -> int:
    """Return `nbytes` rounded up to whole blocks."""
    return -(-nbytes // BLOCK) * BLOCK


def fill_direct(descriptor: int, buffers: Sequence[Buffer], nbytes: int, start: int = 0) -> None:
    """Write the buffers from byte `start`, a multiple of BLOCK, of a file that was opened with O_DIRECT.

    The last block is filled up with what was in the buffer; the file is cut to its length where it was empty before.
    """
    aligned = _aligned(nbytes)
    size = len(aligned)
    filled, offset = 0, start
    for buffer in buffers:
        rest = bytes_of(buffer)
        while rest:
            part = rest[: size - filled]
            aligned[filled : filled + len(part)] = part
            filled += len(part)
            rest = rest[len(part) :]
            if filled == size:
                _write_all(descriptor, aligned, offset)
                offset += size
                filled = 0
    if filled:
        _write_all(descriptor, aligned[: blocks(filled)], offset)
    if start == 0:
        os.ftruncate(descriptor, nbytes)


def _aligned(nbytes: int) -> memoryview:
    """Return memory for the blocks of `nbytes`, BUFFER at most, from a block's boundary on."""
    return memoryview(mmap.mmap(-1, min(BUFFER, blocks(max(nbytes, 1))), flags=mmap.MAP_PRIVATE))


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        # A write that is cut short goes on from the last whole block; why it was, the next call tells.
        written -= written % BLOCK
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        offset += written
        view = view[written:]


class DirectValue(FileValue):
    """A file, or a part of one from a block's boundary on, that is read block by block into an aligned buffer."""

    __slots__ = ("_aligned", "_from", "_until")

    def __init__(self, descriptor: int, folder: str, name: str, start: int = 0, nbytes: int | None = None) -> None:
        self._descriptor, self._folder, self._name, self._start = descriptor, folder, name, start
        self.nbytes = os.lseek(descriptor, 0, os.SEEK_END) if nbytes is None else nbytes
        self._aligned = _aligned(self.nbytes)
        self._from = self._until = 0
        """The bytes of the value that are in the buffer."""
        head = bytes(self._at(0)[:HEAD])
        self._offset = end = 8 + int.from_bytes(head[:8], "little")
        self.header = head[8:end] if end <= len(head) else None

    def _at(self, offset: int) -> memoryview:
        """Return bytes of the value from `offset` on, as many as the buffer holds; none at its end."""
        if not self._from <= offset < self._until:
            self._from = self._until = offset // BLOCK * BLOCK
            count = os.preadv(self._descriptor, (self._aligned,), self._start + self._from)
            self._until = min(self._from + count, self.nbytes)
        return self._aligned[offset - self._from : max(self._until - self._from, 0)]

    def read_header(self) -> bytes:
        """Return a header that is long, or raise CorruptValue."""
        text = bytearray(header_length(bytes(self._at(0)[:8]), self.nbytes))
        self._offset = 8
        self.readinto(memoryview(text))
        return bytes(text)

    def readinto(self, view: memoryview) -> None:
        """Fill an array's memory with the next bytes of the file."""
        view = bytes_of(view)
        while view:
            part = self._at(self._offset)[: len(view)]
            if not part:
                raise CorruptValue(f"its file ends at byte {self._offset}")
            view[: len(part)] = part
            self._offset += len(part)
            view = view[len(part) :]


def no_direct(name: str, folder: str) -> str:
    """Return what to say where the file system of `folder` does not know O_DIRECT."""
    return (
        f"{name}: the file system of {folder} does not offer O_DIRECT (some in memory and on networks do not). Set "
        f"backends.{name}.direct: false, or choose another folder."
    )


class DirectFiles(Files):
    """Files that are written and read past the page cache."""

    _incoming = DirectValue
    _new = Files._new | os.O_DIRECT
    _read = Files._read | os.O_DIRECT
    _fill = staticmethod(fill_direct)

    def _fail(self, error: OSError, what: str, needed: int = 0) -> NoReturn:
        """Raise the staging error that `error` means."""
        if error.errno == errno.EINVAL:
            raise StagingError(no_direct(self.name, self.where)) from None
        super()._fail(error, what, needed)
