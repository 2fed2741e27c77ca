"""Waiting for a file: told by inotify where that works, and looking again after ever longer pauses."""

import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

from simai_rules.staging.inotify import FolderWatch

_SHARE = 1 / 500
"""A pause is at most this share of the time waited so far, so that long waits do not load a file system's servers…"""
_LONGEST_S = 0.02
"""…and at most this many seconds, so that a reader is never late by more."""


def pause_after(waited_ns: int, shortest_s: float) -> float:
    """Return the seconds to sleep between two looks of somebody who has waited for `waited_ns` so far."""
    return min(max(shortest_s, waited_ns / 1e9 * _SHARE), max(shortest_s, _LONGEST_S))


class FolderWaiter:
    """Waits for files to appear in one folder.

    Arguments: `pause_s` is the shortest pause between two looks. With `trust_events` (all writers are on this node)
    the looks are only a safety net beside inotify, every 0.1 s; without, writers may be on other nodes, which inotify
    does not see, and the looks go on beside it.
    """

    def __init__(self, folder: Path, pause_s: float, trust_events: bool) -> None:
        self._folder, self._pause_s, self._trust_events = folder, pause_s, trust_events
        self._watch: FolderWatch | None = None
        self._tried = False

    def wait(self, there: Callable[[], bool], deadline_ns: int) -> bool:
        """Return True as soon as `there()` is, False when the deadline has passed.

        The watch is set before the first look, and stays: what happens between a look and a sleep ends the sleep.
        """
        start = perf_counter_ns()
        watch = self._watching()
        if watch:
            watch.drain()
        while not there():
            now = perf_counter_ns()
            left = (deadline_ns - now) / 1e9
            if left <= 0:
                return False
            pause = pause_after(now - start, self._pause_s)
            if watch:
                watch.sleep(min(left, 0.1 if self._trust_events else pause))
            else:
                time.sleep(min(left, pause))
        return True

    def _watching(self) -> FolderWatch | None:
        """Return the watch, made for the first wait; None where inotify is not to be had."""
        if not self._tried:
            self._tried = True
            try:
                self._watch = FolderWatch(self._folder)
            except OSError:
                self._watch = None
        return self._watch

    def close(self) -> None:
        """Give the watch back; a second call does nothing."""
        if self._watch:
            self._watch.close()
        self._watch, self._tried = None, True
