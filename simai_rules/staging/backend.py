"""The interface of a backend's client half: bytes in, bytes out.

Every method takes a deadline on the clock of `time.perf_counter_ns` and raises ServerLost where the server does not
answer by then. One contract suite (tests/staging/test_staging_contract.py) runs against every backend.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np

Buffer = bytes | memoryview
"""What is moved: bytes, or the memory of a C contiguous array (`array.data`, of any shape and format)."""


def bytes_of(buffer: Buffer) -> memoryview:
    """Return the memory of a buffer as single bytes; `memoryview.cast` does not know all formats of numpy."""
    return np.frombuffer(buffer, np.uint8).data


def size_of(buffers: Sequence[Buffer]) -> int:
    """Return the bytes of all buffers."""
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in buffers)


class Incoming(Protocol):
    """A value that is being read; it may be closed early."""

    nbytes: int
    """Size of the whole value."""

    @property
    def source(self) -> str:
        """Where it is read from, for messages."""

    header: bytes | None
    """The header that the value starts with, where it came along when the value was opened."""

    def read_header(self) -> bytes:
        """Return the header where it did not come along; raises CorruptValue where there cannot be one."""

    def readinto(self, view: memoryview) -> None:
        """Fill the memory of a C contiguous array with what comes next; raises CorruptValue where there is no more."""

    def close(self) -> None:
        """End the reading."""


class Backend(Protocol):
    """The client half of one backend: one connection of one process, used by one thread."""

    name: str
    """The backend's name in a config."""
    where: str
    """The server's address, for messages."""

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool | None:
        """Store the buffers, `nbytes` in all, one after another, under `key`.

        A reader sees all of it or what was there before. Return whether the key was there before (None: unknown).
        Raises StagingFull where there is no room.
        """

    def open(self, key: str, deadline_ns: int) -> Incoming:
        """Begin to read the value of `key`; raises KeyError where there is none."""

    def exists(self, key: str, deadline_ns: int) -> bool:
        """Return whether `key` has a value."""

    def delete(self, key: str, deadline_ns: int) -> bool:
        """Remove `key`; return whether there was something to remove."""

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Block until `key` is there (True) or the deadline has passed (False)."""

    def close(self) -> None:
        """Release the connection; a second call does nothing."""


@runtime_checkable
class Locking(Protocol):
    """An optional ability of a backend: locks that exclude the clients of the same run from each other."""

    def lock(self, key: str, deadline_ns: int) -> AbstractContextManager[None]:
        """Return a context that holds the lock of `key`: one client at a time, in whatever process, is inside.

        Entering raises TimeoutError where others hold it until the deadline (a deadline that has passed tries once).
        The lock of a holder that has died is free again without anybody's doing. It locks nothing but `lock` of the
        same key: values can be written, read and deleted by all, and the key needs no value. It is not reentrant.
        """
