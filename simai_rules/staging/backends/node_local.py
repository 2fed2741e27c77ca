"""Files in a node's memory (/dev/shm) or on its local disk: writers and readers are on the same node.

Values of SMALLEST bytes and more go into segments, which are used again; how, and why no reader sees half a value, is
told in `simai_rules.staging.backends.segments`. Others are ordinary files.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

from simai_rules.staging.backend import Buffer
from simai_rules.staging.backends.files import Files, FileValue
from simai_rules.staging.backends.mapped import Mount
from simai_rules.staging.backends.segments import Segments
from simai_rules.staging.errors import StagingError, StagingFull, shorten
from simai_rules.staging.info import ServerInfo

SMALLEST = 64 * 1024
"""Bytes from which on a segment is faster than a new file."""
_PATIENCE_NS = 10**9
"""Least time for looking again at a key that others replace, whatever the deadline."""


class NodeLocal(Files):
    """The client half of node-local."""

    def __init__(self, folder: Path) -> None:
        super().__init__("node-local", folder, pause_s=0.00025, trust_events=True)
        self._segments = Segments(self._directory, Mount(self._directory))

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:
        """Fill a segment and give it the key's name; return whether that replaced one."""
        segments = self._segments
        if nbytes < SMALLEST or not segments.expect(nbytes):
            try:
                return super().put(key, buffers, nbytes, deadline_ns)
            except StagingFull:
                if not segments.give_back():
                    raise
                return super().put(key, buffers, nbytes, deadline_ns)
        directory, name = self._directory, self._name_of(key)
        temporary = self._beside(name)
        try:
            try:
                segments.store(buffers, nbytes, temporary)
                replaced = os.access(name, os.F_OK, dir_fd=directory)
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                self._discard(temporary)
                raise
        except OSError as error:
            self._fail(error, f"write key {shorten(key)}", nbytes)
        return replaced

    def open(self, key: str, deadline_ns: int) -> FileValue:
        """Open the key's file; its writer does not use it again until it is closed."""
        name, start = self._name_of(key), perf_counter_ns()
        try:
            while True:
                descriptor = os.open(name, self._read, dir_fd=self._directory)
                try:
                    if self._enter(descriptor, name):
                        return FileValue(descriptor, self.where, name)
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
                if perf_counter_ns() > max(deadline_ns, start + _PATIENCE_NS):
                    raise StagingError(
                        f"Key {shorten(key)} on {self.name} ({self.where}) is replaced faster than it can be opened. "
                        "Let its writers wait for the reader, or write under new keys."
                    )
        except FileNotFoundError:
            self._check_folder()
            raise KeyError(key) from None
        except OSError as error:
            self._fail(error, f"read key {shorten(key)}")

    def _enter(self, descriptor: int, name: str) -> bool:
        """Return whether the open file is the key's, and from now on stays what it is."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.stat(name, dir_fd=self._directory).st_ino == os.fstat(descriptor).st_ino

    def close(self) -> None:
        """Give up the segments, and close the folder."""
        self._segments.close()
        super().close()


def connect(info: ServerInfo, deadline_ns: int) -> NodeLocal:  # noqa: ARG001
    """Open the run's folder on this node; raises ServerLost where it is not there."""
    return NodeLocal(Path(info.address_here["folder"]))
