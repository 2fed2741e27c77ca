"""Files in memory (tmpfs) as mappings: a write is a plain copy then."""

import contextlib
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simai_rules.staging.backend import Buffer

Memory = npt.NDArray[np.uint8]
NO_MEMORY: Memory = np.empty(0, np.uint8)
_MADV_POPULATE_WRITE = 23
"""Linux 5.14: allocate a mapping's pages, and say so where there is no room, instead of a SIGBUS later."""


class Mount:
    """What the file system of an open folder is, by /proc/self/mountinfo."""

    def __init__(self, directory: int) -> None:
        device = os.fstat(directory).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        kind, options = "", ""
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/mountinfo").read_text().splitlines():
                words = line.split()
                if words[2] == number:
                    rest = words[words.index("-") + 1 :]
                    kind, options = rest[0], rest[-1]
        self.is_memory = kind == "tmpfs"
        """Its files are memory that can be mapped: no disk writes them back while they are written."""
        self.large_pages_on_advice = self.is_memory and "huge=advise" in options.split(",")
        """It gives large pages to mappings that ask for them (`huge=always` and `within_size` give them to all)."""


def copy_into(memory: Memory, buffers: Sequence[Buffer]) -> None:
    """Copy the buffers to the start of `memory`, one after another."""
    offset = 0
    for buffer in buffers:
        part = np.frombuffer(buffer, np.uint8)
        memory[offset : offset + part.size] = part
        offset += part.size


def map_file(descriptor: int, nbytes: int) -> Memory:
    """Return a mapping of a file whose memory is allocated, with all pages in place: a fault for each costs more."""
    return np.frombuffer(mmap.mmap(descriptor, nbytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE), np.uint8)


def map_large_pages(descriptor: int, nbytes: int) -> Memory:
    """Return a mapping of a new file of `nbytes`, its memory allocated in large pages.

    Raises OSError where there is no room.
    """
    os.ftruncate(descriptor, nbytes)
    mapping = mmap.mmap(descriptor, nbytes)
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE)
        mapping.madvise(_MADV_POPULATE_WRITE)
    except OSError as error:
        if error.errno == errno.EFAULT:  # where there is no room; others are of kernels without one of these
            mapping.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        os.posix_fallocate(descriptor, 0, nbytes)
    return np.frombuffer(mapping, np.uint8)
