"""The pace fills a time with whole calls and never begins one that is foreseen not to fit.

A clock that only moves when somebody works or looks at it makes the arithmetic exact; how well real time is met is
measured by benchmarks/fidelity.py.
"""

import pytest

from simai_rules.errors import UserError
from simai_rules.kernels import pace as pace_module
from simai_rules.kernels.pace import Pace

MS = 1_000_000


class Clock:
    """Time that passes by the work done (`durations` in turn, the last one for ever) and 100 ns per look."""

    def __init__(self, *durations: int) -> None:
        self.now = 0
        self.durations = list(durations)
        self.calls = 0

    def perf_counter_ns(self) -> int:
        self.now += 100
        return self.now

    def work(self) -> None:
        self.calls += 1
        self.now += self.durations.pop(0) if len(self.durations) > 1 else self.durations[0]


class TooLong(UserError):
    def __init__(self, call: float, target: float) -> None:
        self.call, self.target = call, target


@pytest.fixture
def paced(monkeypatch):
    def make(*durations):
        clock = Clock(*durations)
        monkeypatch.setattr(pace_module, "time", clock)
        return Pace(clock.work, TooLong), clock

    return make


def test_time_is_filled_with_calls_and_a_busy_finish(paced):
    pace, clock = paced(3 * MS)
    pace.calibrate()
    before = clock.calls
    done = pace.for_time(0.031)
    assert done.calls == 10 == clock.calls - before
    assert 31 * MS <= done.elapsed_ns <= 31 * MS + 100
    assert done.start_ns > 0


def test_work_is_told_apart_from_the_busy_finish_and_by_the_clock_of_the_device(monkeypatch):
    clock = Clock(3 * MS)
    monkeypatch.setattr(pace_module, "time", clock)
    pace = Pace(clock.work, TooLong, device_ns=lambda: clock.calls * 2 * MS)
    pace.calibrate()
    done = pace.for_time(0.031)
    assert 30 * MS <= done.work_ns <= 30 * MS + 2000
    assert done.device_ns == 20 * MS
    done = pace.for_count(4)
    assert (done.work_ns, done.device_ns) == (done.elapsed_ns, 8 * MS)
    assert pace.for_time(0.001).work_ns == 0


def test_count_is_exact(paced):
    pace, clock = paced(MS)
    assert pace.for_count(7).calls == clock.calls == 7
    assert pace.for_count(0).calls == 0


def test_exactly_the_calls_that_were_agreed_and_the_time_is_still_met(paced):
    pace, _ = paced(MS)
    pace.calibrate()
    assert pace.fitting(0.0105) == 10
    done = pace.for_time(0.0105, calls=4)
    assert done.calls == 4
    assert 10.5 * MS <= done.elapsed_ns <= 10.5 * MS + 100
    assert pace.for_time(0.001, calls=4).elapsed_ns >= 4 * MS


def test_a_call_that_does_not_fit_is_an_error_when_required(paced):
    pace, _ = paced(5 * MS)
    pace.prepare(0.0051)
    with pytest.raises(TooLong) as raised:
        pace.prepare(0.002)
    assert raised.value.call == pytest.approx(0.005, rel=1e-3)
    assert raised.value.target == 0.002


def test_a_time_below_a_call_is_spent_without_one(paced):
    pace, clock = paced(5 * MS)
    pace.calibrate()
    before = clock.calls
    done = pace.for_time(0.002)
    assert (done.calls, clock.calls) == (0, before)
    assert 2 * MS <= done.elapsed_ns <= 2 * MS + 100
    assert pace.fitting(0.002) == 0
    assert pace.for_time(0.0).calls == 0


def test_rare_outliers_do_not_count(paced):
    pace, _ = paced(*[MS] * 10, 40 * MS, *[MS])
    pace.calibrate()
    assert pace.expected_ns < 1.01 * MS
    assert pace.for_time(0.0105).calls == 10


def test_a_calibration_on_a_busy_core_is_corrected_by_later_calls(paced):
    busy = [8 * MS] * 20
    pace, _ = paced(MS, *busy, MS)
    pace.calibrate()
    assert pace.expected_ns > 7 * MS
    calls = [pace.for_time(0.0105).calls for _ in range(30)]
    assert calls[0] < 10
    assert calls[-1] == 10


def test_one_call_is_tried_where_only_the_fastest_fits(paced):
    slow = [8 * MS] * 18
    pace, _ = paced(MS, MS, *slow, MS)
    pace.calibrate()
    assert pace.fitting(0.002) == 1
    assert pace.for_time(0.002).calls == 1


def test_calibration_counts(paced):
    pace, clock = paced(MS)
    assert not pace.calibrated
    pace.calibrate(calls=10)
    assert pace.calibrated
    assert clock.calls == 11
    pace, clock = paced(150 * MS)
    pace.calibrate()
    assert clock.calls == 3


def test_a_core_that_is_busy_for_a_while_is_no_error(paced):
    pace, _ = paced(*[8 * MS] * 40, MS)
    pace.prepare(0.005)
    assert pace.fastest_ns < 1.01 * MS
    pace, clock = paced(8 * MS)
    with pytest.raises(TooLong):
        pace.prepare(0.001)
    assert clock.calls == 21  # eight times too long: not tried again


def test_ranks_judge_alike(paced):
    pace, clock = paced(MS)
    with pytest.raises(TooLong) as raised:
        pace.prepare(0.005, 10, lambda fastest: 6 * fastest)  # another rank is six times slower
    assert raised.value.call == pytest.approx(0.006, rel=1e-3)
    assert clock.calls == 5 * 11
    pace.prepare(0.007, 10, lambda fastest: 6 * fastest)
    assert pace.fitting(0.007) == 6
