"""Being told by the kernel that a file has been renamed into a folder (inotify, by ctypes)."""

import ctypes
import os
import select
from pathlib import Path

_MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x80, 0x400, 0x800


class FolderWatch:
    """Becomes readable when a file is renamed into a folder, or when the folder itself goes.

    Raises OSError where the kernel has no inotify or the user has too many watches
    (/proc/sys/fs/inotify/max_user_instances). Renames on other nodes are not seen.
    """

    def __init__(self, folder: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError("this system has no inotify") from None
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._descriptor = descriptor
        if library.inotify_add_watch(descriptor, os.fsencode(folder), _MOVED_TO | _DELETE_SELF | _MOVE_SELF) < 0:
            number = ctypes.get_errno()
            os.close(descriptor)
            raise OSError(number, "inotify_add_watch")
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def drain(self) -> None:
        """Forget what has happened so far."""
        try:
            while os.read(self._descriptor, 65536):
                pass
        except BlockingIOError:
            pass

    def sleep(self, seconds: float) -> None:
        """Return when something has happened, or after `seconds`."""
        if self._poll.poll(seconds * 1000):
            self.drain()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
