"""Ending this process from outside Python: what a call into SST needs that may not come back."""

import ctypes
import os
import time
from functools import cache
from time import perf_counter_ns
from typing import Any, Self

from simai_rules.staging.errors import StagingError

_OVERTIME_NS = 5_000_000_000
"""What SST gets beyond a deadline before its process is ended."""
_SIGEV_THREAD = 2


class _Event(ctypes.Structure):
    """struct sigevent of 64-bit Linux: when the timer fires, a thread of the C library's calls a function."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("unused", ctypes.c_char * 32),
    )


class _Times(ctypes.Structure):
    """struct itimerspec: the interval, which is 0, and the time until the timer fires."""

    _fields_ = (
        ("interval", ctypes.c_long * 2),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Watchdog:
    """Ends this process, by SIGABRT, if a call does not return by its deadline and 5 s more.

    SST waits for ever for a partner that is halted, or that died while it opened, and holds the interpreter's lock: no
    thread of Python's could raise an error. So it is a timer of the kernel's, on which the C library calls Python's
    function for fatal errors: that needs no lock, and writes `message` and the stack to standard error. To set and
    to unset it takes a few microseconds; Python's own `faulthandler.dump_traceback_later` starts a thread each time.
    """

    def __init__(self, message: str) -> None:
        self._message = ctypes.create_string_buffer(message.encode())
        fatal = ctypes.cast(ctypes.pythonapi.Py_FatalError, ctypes.c_void_p)
        event = _Event(ctypes.addressof(self._message), 0, _SIGEV_THREAD, fatal)
        self._timer, self._times, self._never = ctypes.c_void_p(), _Times(), _Times()
        if _library().timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)):
            raise StagingError(
                f"This process gets no timer from the system ({os.strerror(ctypes.get_errno())}), which each stream of "
                "SST needs one of. Close streams that are no longer used, or allow more pending signals (ulimit -i)."
            )
        self._set = _library().timer_settime

    def until(self, deadline_ns: int) -> Self:
        """Set the deadline of the block that follows."""
        left_ns = max(deadline_ns - perf_counter_ns(), 0) + _OVERTIME_NS
        self._times.seconds, self._times.nanoseconds = divmod(left_ns, 1_000_000_000)
        return self

    def __enter__(self) -> None:
        self._set(self._timer, 0, self._times, None)

    def __exit__(self, *_exception: object) -> None:
        self._set(self._timer, 0, self._never, None)

    def end(self) -> None:
        """Give the timer back; a second call does nothing."""
        timer, self._timer = self._timer, ctypes.c_void_p()
        if timer:
            _library().timer_delete(timer)


@cache
def _library() -> Any:
    """The timers of the C library, which are in one of its own before glibc 2.34."""
    library = ctypes.PyDLL("librt.so.1", use_errno=True)
    library.timer_settime.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Times), ctypes.c_void_p)
    return library
