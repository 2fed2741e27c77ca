"""Files that a writer fills again and again, so that a value costs one copy and no new pages.

Writing to a new file in /dev/shm takes most of its time for pages: each is found, zeroed or charged, and given back
when the value is deleted. A segment keeps them. It is a file of one writer in the run's folder, under a permanent
private name `.seg.<pid>.<client>.<number>.<where that pid counts>`. A value is published by giving the segment a second
name (a hard link), which is renamed to the key's. Its size is exactly the value's.

Why no reader ever sees half a value, or another one than its key's:

1. A segment with one name has no key, as only its owner gives it names. It gets a second one when it is published, and
   has one again when its key was deleted or overwritten, by whomever: names are counted by the file system.
2. Whoever changes a segment, its owner or a writer that needs room, does so only while it has one name, and with its
   exclusive lock (flock). Its owner keeps the lock until it has given it a second, temporary name, and renames that to
   the key's without: what is published is complete, nobody writes to it, and readers do not meet the lock.
3. A reader opens the key's file, takes a shared lock, and then looks whether the key still has this very file. If so,
   the file was published at that moment, thus complete (2), and stays as it is until the reader closes it: the owner
   cannot get the lock. If not, or if there is no lock to be had, the key was overwritten or deleted since the reader
   opened it, and it looks again. So readers wait for no writer, and a writer takes another segment where a reader is
   still inside.
4. That the file was reused for the same key between a reader's two steps does no harm: it then reads the later value.
5. Two writers of one key have segments of their own, and rename replaces one by the other. (Renaming to a name of the
   same file would do nothing and leave the temporary name, but a segment that is published has no key before.)
6. Locks end with the processes that hold them. What a killed writer has published stays as it is, since nobody
   reuses it; what it has not published has no key.

A segment is given up (its private name is removed; if it has a key it lives on as that key's file) when it was not used
in the writer's last KEPT values, and all of them when the writer closes or ends; those of a killed writer, when the
next one of this node makes its first. When there is no room, a writer gives up its free ones and cuts the free ones of
others to nothing, which these do not use again. So a writer holds no more than what it had staged at the same time
lately, and one value more per reader that is inside a deleted one; and no value is refused for the sake of free ones. A
size that was not written lately is first written to an ordinary file.

In memory (tmpfs) a segment is written through a mapping, which is a plain copy; its pages are allocated before, so that
a full memory is an error and not a signal. On a disk it is written by system calls. Large pages are asked for where the
mount gives them to who asks (`huge=advise`).
"""

import contextlib
import fcntl
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from simai_rules.process import pid_space
from simai_rules.staging.backend import Buffer
from simai_rules.staging.backends.files import FULL, fill, left_by_dead
from simai_rules.staging.backends.mapped import NO_MEMORY, Mount, copy_into, map_file, map_large_pages

SEGMENT = ".seg."
"""How the private names start; no key's file name starts with a dot."""
KEPT = 16
"""A segment that was not used for so many values is given up; more than so many values in flight are not reused."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Segment:
    """One file of a writer, open, and mapped once it is used again."""

    __slots__ = ("descriptor", "memory", "name", "used")

    def __init__(self, name: str, descriptor: int) -> None:
        self.name, self.descriptor = name, descriptor
        self.memory = NO_MEMORY
        self.used = 0
        """The number of the value that it was last used for."""

    def refill(self, buffers: Sequence[Buffer], nbytes: int, mapped: bool) -> None:
        """Write the buffers, `nbytes` in all, over what was there. The caller holds the lock.

        Until it had the lock, somebody may have cut the file short or made holes into it. Memory that is not there
        would be a SIGBUS when it is written to, so it is allocated first; raises OSError where there is no room.
        """
        state = os.fstat(self.descriptor)
        if not mapped:
            os.lseek(self.descriptor, 0, os.SEEK_SET)
            fill(self.descriptor, buffers, nbytes)
        else:
            if state.st_size < nbytes or state.st_blocks * 512 < nbytes:
                os.posix_fallocate(self.descriptor, 0, nbytes)
            if len(self.memory) < nbytes:
                self.memory = map_file(self.descriptor, nbytes)
            copy_into(self.memory, buffers)
        if state.st_size > nbytes:
            os.ftruncate(self.descriptor, nbytes)


class Segments:
    """The segments of one writer in the open folder `directory`; `mount` says what the folder is on."""

    def __init__(self, directory: int, mount: Mount) -> None:
        self._directory, self._mount = directory, mount
        self._prefix = f"{SEGMENT}{os.getpid()}.{os.urandom(4).hex()}."
        self._segments: list[Segment] = []
        self._values = self._made = 0
        self._sizes: deque[int] = deque(maxlen=KEPT)
        # Also where a writer ends without closing: what it has staged should go when its reader deletes it.
        self.close: Callable[[], object] = weakref.finalize(self, _end, directory, self._segments, os.getpid())

    def expect(self, nbytes: int) -> bool:
        """Note that a value of this size is written; return whether one of about this size was, lately.

        What was not used for long is given up.
        """
        self._values += 1
        while self._segments and self._segments[0].used < self._values - KEPT:
            _give_up(self._directory, self._segments.pop(0))
        expected = any(_alike(size, nbytes) for size in self._sizes)
        self._sizes.append(nbytes)
        return expected

    def store(self, buffers: Sequence[Buffer], nbytes: int, name: str) -> None:
        """Write the buffers to a segment that is free, or to a new one, and give it the second name `name`.

        Raises OSError where there is no room even without the segments that are free.
        """
        try:
            segment = self._refilled(buffers, nbytes, name) or self._make(buffers, nbytes, name)
        except OSError as error:
            if error.errno not in FULL or not self.give_back():
                raise
            segment = self._make(buffers, nbytes, name)
        segment.used = self._values
        if segment in self._segments:
            self._segments.remove(segment)
        self._segments.append(segment)

    def give_back(self) -> bool:
        """Give up what is free, of whomever, and what dead writers have left; return whether there was anything."""
        given = _sweep(self._directory)
        for segment in list(self._segments):
            if (state := self._state(segment)) is None or state.st_nlink == 1:
                self._segments.remove(segment)
                _give_up(self._directory, segment)
                given = True
        return _cut_free(self._directory) or given

    def _refilled(self, buffers: Sequence[Buffer], nbytes: int, name: str) -> Segment | None:
        """Return a free segment, the last used first, with the buffers in it and `name`; None where there is none.

        The last used is likely to be in the processor's caches still, and the others get old and are given up.
        """
        for segment in reversed(self._segments):
            state = self._state(segment)
            if state is None or state.st_nlink > 1 or not _alike(state.st_size, nbytes):
                continue
            try:
                fcntl.flock(segment.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # a reader is inside
            try:
                segment.refill(buffers, nbytes, self._mount.is_memory)
                self._link(segment, name)
            finally:
                fcntl.flock(segment.descriptor, fcntl.LOCK_UN)
            return segment
        return None

    def _link(self, segment: Segment, name: str) -> None:
        os.link(segment.name, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _state(self, segment: Segment) -> os.stat_result | None:
        """Return the file's state; None where somebody has removed its private name, so that names tell no more."""
        try:
            return os.stat(segment.name, dir_fd=self._directory)
        except FileNotFoundError:
            return None

    def _make(self, buffers: Sequence[Buffer], nbytes: int, name: str) -> Segment:
        """Return a new segment with the buffers in it and the second name `name`."""
        if not self._made:
            _sweep(self._directory)
        self._made += 1
        own = f"{self._prefix}{self._made}.{pid_space()}"
        segment = Segment(own, os.open(own, _NEW, 0o600, dir_fd=self._directory))
        try:
            # It is free at once: nobody locks an empty file.
            fcntl.flock(segment.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._mount.large_pages_on_advice:
                segment.memory = map_large_pages(segment.descriptor, nbytes)
                copy_into(segment.memory, buffers)
            else:
                fill(segment.descriptor, buffers, nbytes)
            self._link(segment, name)
            fcntl.flock(segment.descriptor, fcntl.LOCK_UN)
        except BaseException:
            _give_up(self._directory, segment)
            raise
        return segment


def _alike(size: int, nbytes: int) -> bool:
    return size <= 2 * nbytes and nbytes <= 2 * size


def _give_up(directory: int, segment: Segment) -> None:
    """Remove the private name and close the file; its key, if it has one, keeps it."""
    with contextlib.suppress(OSError):  # the folder may have gone
        os.unlink(segment.name, dir_fd=directory)
    os.close(segment.descriptor)
    segment.memory = NO_MEMORY  # the mapping would keep the pages, as long as the traceback of an error keeps this


def _end(directory: int, segments: list[Segment], pid: int) -> None:
    """Give up all segments; not in a child of the writer, which has copies of its descriptors."""
    if os.getpid() == pid:
        while segments:
            _give_up(directory, segments.pop())


def _sweep(directory: int) -> bool:
    """Give up the segments of writers on this machine that have died; return whether there were any."""
    found = False
    for name in left_by_dead(directory, SEGMENT):
        with contextlib.suppress(OSError):  # another one was faster
            os.unlink(name, dir_fd=directory)
            found = True
    return found


def _cut_free(directory: int) -> bool:
    """Cut the free segments of all writers to nothing; return whether there were any."""
    found = False
    for name in os.listdir(directory):
        if name.startswith(SEGMENT):
            with contextlib.suppress(OSError):  # its owner has removed it
                found |= _cut(directory, name)
    return found


def _cut(directory: int, name: str) -> bool:
    """Cut a segment to nothing if it is free; return whether it was, and not empty."""
    if not _is_free(directory, name):
        return False
    descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Looked at by its name: it may have lost that one meanwhile and be a key's file alone.
        if not _is_free(directory, name):
            return False
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
    return True


def _is_free(directory: int, name: str) -> bool:
    """Return whether a segment has no key, and something in it."""
    state = os.stat(name, dir_fd=directory)
    return state.st_nlink == 1 and state.st_size > 0
