"""Processes: an identity that survives the reuse of pids, children that die with their parent, an orderly end."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

_PR_SET_PDEATHSIG = 1


class Process(NamedTuple):
    """A process of this node: its pid and its start in clock ticks after boot (/proc/PID/stat, field 22)."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the identity of `pid`, or None if there is no such process (a zombie counts as none)."""
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def current(cls) -> Self:
        """Return the identity of this process."""
        fields = _stat(os.getpid())
        return cls(os.getpid(), int(fields[19]) if fields else 0)

    @property
    def alive(self) -> bool:
        """Whether this very process, not a later one with its pid, is there."""
        return Process.of(self.pid) == self

    @property
    def stopped(self) -> bool:
        """Whether it is halted by SIGSTOP or SIGTSTP; a process that is being traced is not."""
        fields = _stat(self.pid)
        return fields is not None and fields[0] == "T" and int(fields[19]) == self.start

    def send(self, number: int) -> None:
        """Send signal `number`, unless the process has gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third (state) on: the second may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


@cache
def pid_space() -> str:
    """Return what tells apart the machines and containers in which a pid means something: `<boot>-<namespace>`."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return os.uname().nodename


def boot_of(space: str) -> str:
    """Return the part of a `pid_space` that changes when the machine is started again."""
    return space.rpartition("-")[0]


def started_ns() -> int:
    """Return when this process was started, on the clock of `time.perf_counter_ns`, exact to a tick (10 ms)."""
    since_boot = Process.current().start * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return time.perf_counter_ns() - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since_boot)


def wait_ended(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until none of `processes` is alive, `seconds` at most; return those that still are."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.alive]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [process for process in left if process.alive]
    return left


def end(processes: Iterable[Process], grace: float) -> None:
    """End `processes`: SIGTERM, after `grace` seconds SIGKILL for those that are left."""
    left = [process for process in processes if process.alive]
    for process in left:
        process.send(signal.SIGTERM)
    for process in wait_ended(left, grace):
        process.send(signal.SIGKILL)
    wait_ended(left, 1.0)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def dying_with(parent: int) -> Callable[[], None]:
    """Return a `preexec_fn` for a child of process `parent`: it dies with it, also if `parent` has ended by now.

    The signal is bound to the thread that starts the child, so start it from one that lives as long: the main thread.
    The C library is looked up here and not in the child, where little is safe between fork and exec.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def bind_to(cores: Iterable[int]) -> None:
    """Bind this process, and those that it starts from now on, to those of `cores` that it may use; none: leave it."""
    usable = os.sched_getaffinity(0) & set(cores)
    if usable:
        os.sched_setaffinity(0, usable)
