"""Locks by the kernel's flock, on files in the run's folder beside the values.

A lock file is called `.lock.` and what the key's file is called; no key's file starts with a dot. It is empty and stays
until the run ends: to remove it would take it from those who are about to lock it. The lock itself belongs to the open
file, so it ends with the process that holds it (with its children, too, where it forks inside).
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import NoReturn

from simai_rules.staging.errors import shorten
from simai_rules.staging.keys import file_name

LOCK = ".lock."
_SHORTEST_S, _LONGEST_S = 0.0001, 0.01
"""Pauses between two tries: flock itself cannot wait until a deadline."""
_HELD = (errno.EAGAIN, errno.EACCES)
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


@contextmanager
def hold(directory: int, fail: Callable[[OSError, str], NoReturn], key: str, deadline_ns: int) -> Iterator[None]:
    """Hold the lock of `key` in the open folder `directory`; raises TimeoutError where others do until the deadline.

    `fail` raises the staging error for what cannot be done.
    """
    try:
        descriptor = os.open(f"{LOCK}{file_name(key)}", _OPEN, 0o600, dir_fd=directory)
    except OSError as error:
        fail(error, f"lock key {shorten(key)}")
    try:
        pause = _SHORTEST_S
        while refusal := _refused(descriptor):
            if refusal.errno not in _HELD:
                fail(refusal, f"lock key {shorten(key)} (Lustre locks where it is mounted with -o flock)")
            left = (deadline_ns - perf_counter_ns()) / 1e9
            if left <= 0:
                raise TimeoutError
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_S)
        yield
    finally:
        os.close(descriptor)  # this ends the lock, too


def _refused(descriptor: int) -> OSError | None:
    """Try to lock; return why it is not locked, None where it is."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error
    return None
