"""Making work last a given time: whole calls as long as the next one fits, then a busy finish on the clock.

A loop that calls until the time is over ends a whole call late: +83 % at 0.2 ms. Here the duration of the next call is
foreseen from the last ones, so that the work ends before the time does, and what is left is spent looking at the clock:
the core stays as busy as that of the code that is imitated. Where ranks share a core, the scheduler may take the core
away until after the deadline; that overshoot is real and stays in the result.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from simai_rules.errors import UserError

_WINDOW = 50
"""Calls that the next one is foreseen from."""
_QUANTILE = 0.9
"""Of their durations: the foreseen duration. Outliers must neither count nor be frequent."""
_UPDATE_NS = 20_000
"""Least slack in which the foreseen duration is worked out anew: it costs a few µs of time that is idle anyway."""
_CALIBRATION_CALLS = 20
_CALIBRATION_NS = 200_000_000
_ATTEMPTS = 5
_HOPELESS = 5
"""Times the target: a call that takes so much longer is not tried again."""


class Paced(NamedTuple):
    """Work that was done: when it began (`time.perf_counter_ns`), how long it took, and its number of calls.

    work_ns: the part of elapsed_ns that is calls, without the busy finish. device_ns: what the calls took by the
    device's own events, 0 on a CPU.
    """

    start_ns: int
    elapsed_ns: int
    calls: int
    work_ns: int = 0
    device_ns: int = 0


class Pace:
    """Runs `call` for a time or a number of times.

    `too_long(call_seconds, target_seconds)` makes the error for a call that does not fit into its target. `device_ns`
    returns what all calls so far took by the device's own events.
    """

    def __init__(
        self,
        call: Callable[[], object],
        too_long: Callable[[float, float], UserError],
        device_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._call = call
        self._device_ns = device_ns
        self._too_long = too_long
        self._last: deque[int] = deque(maxlen=_WINDOW)
        self.fastest_ns = 0
        """Fastest of the last calls."""
        self.expected_ns = 0
        """What the next call is foreseen to take."""

    @property
    def calibrated(self) -> bool:
        """Whether the duration of a call is known."""
        return bool(self._last)

    def calibrate(self, calls: int | None = None) -> None:
        """Learn how long a call takes: exactly `calls` timed ones, or up to 20 within 0.2 s; one more comes before."""
        clock = time.perf_counter_ns
        self._call()  # the first one wakes libraries, caches and page tables
        start = before = clock()
        for done in range(1, (calls or _CALIBRATION_CALLS) + 1):
            self._call()
            after = clock()
            self._last.append(after - before)
            before = after
            if calls is None and done > 1 and after - start > _CALIBRATION_NS:
                break
        self._foresee()

    def prepare(self, seconds: float, calls: int | None = None, agree: Callable[[int], int] = int) -> None:
        """Calibrate, and raise the error of `too_long` if even the fastest call takes more than `seconds`.

        On a core that others use as well, a call can look too long: before the error it is tried again, a few times.

        calls: as for `calibrate`. agree: makes one decision of those of several ranks, given the fastest call in ns.
        """
        for _ in range(_ATTEMPTS):
            self.calibrate(calls)
            fastest = agree(self.fastest_ns)
            if not 1 < fastest / (seconds * 1e9) < _HOPELESS:
                break
        self.fastest_ns = fastest
        if fastest > seconds * 1e9:
            raise self._too_long(fastest / 1e9, seconds)

    def fitting(self, seconds: float) -> int:
        """Return how many calls fit into `seconds`."""
        return max(int(seconds * 1e9 / self.expected_ns), 1 if self.fastest_ns <= seconds * 1e9 else 0)

    def for_time(self, seconds: float, calls: int | None = None) -> Paced:
        """Run for `seconds`: as many calls as fit, or exactly `calls`, then a busy finish. Calibrate before.

        A time shorter than a call, as a distribution may give one now and then, is a busy finish without any call.
        """
        clock, call, note = time.perf_counter_ns, self._call, self._last.append
        done, on_device = 0, self._device_ns()
        start = now = clock()
        deadline = start + round(seconds * 1e9)
        last_start = deadline - self.expected_ns
        first_start = deadline - self.fastest_ns  # one call is tried even where the others look too slow to fit
        while done < calls if calls is not None else (now <= last_start or (done == 0 and now <= first_start)):
            call()
            after = clock()
            note(after - now)
            now = after
            done += 1
        worked = now - start
        if deadline - now > _UPDATE_NS:
            self._foresee()
        while now < deadline:
            now = clock()
        return Paced(start, now - start, done, worked, self._device_ns() - on_device)

    def for_count(self, calls: int) -> Paced:
        """Run exactly `calls` calls."""
        call, on_device = self._call, self._device_ns()
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        elapsed = time.perf_counter_ns() - start
        return Paced(start, elapsed, calls, elapsed, self._device_ns() - on_device)

    def _foresee(self) -> None:
        ordered = sorted(self._last)
        self.fastest_ns = ordered[0]
        self.expected_ns = max(1, ordered[int(_QUANTILE * (len(ordered) - 1))])
