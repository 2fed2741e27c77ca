import numpy as np
import pytest

from simai_rules.analysis.statistics import Estimate, median_over_repeats, resampled_medians


@pytest.mark.parametrize("size", [1, 2, 5, 12, 101])
def test_resampled_medians_are_distributed_as_medians_of_resamples(size):
    random = np.random.default_rng(1)
    values = random.lognormal(0, 1, size)
    drawn = resampled_medians(values, 40_000, random)
    resamples = np.median(values[random.integers(size, size=(40_000, size))], axis=1)
    spread = np.ptp(values) or 1.0
    marks = (np.unique(values)[1:] + np.unique(values)[:-1]) / 2
    for mark in marks:
        assert np.mean(drawn <= mark) == pytest.approx(np.mean(resamples <= mark), abs=0.015)
    assert np.mean(drawn) == pytest.approx(np.mean(resamples), abs=0.01 * spread)


def test_the_value_is_the_median_over_repeats_of_the_sum_of_medians():
    repeats = [
        [np.array([1.0, 2.0, 9.0]), np.array([10.0])],
        [np.array([4.0]), np.array([10.0])],
        [np.array([3.0]), np.array([0.0])],
    ]
    assert median_over_repeats(repeats).value == 12.0


def test_the_interval_is_reproducible_and_grows_with_the_spread_between_repeats():
    random = np.random.default_rng(5)
    alike = [[random.normal(1, 0.01, 200)] for _ in range(3)]
    apart = [[random.normal(mean, 0.01, 200)] for mean in (0.8, 1.0, 1.2)]
    first, again, wide = median_over_repeats(alike), median_over_repeats(alike), median_over_repeats(apart)
    assert first == again
    assert first.low < first.value < first.high
    assert first.high - first.low < 0.01
    assert wide.low < 0.81
    assert wide.high > 1.19


def test_constant_data_have_an_interval_of_no_width():
    assert median_over_repeats([[np.full(7, 2.0)]] * 2) == Estimate(2.0, 2.0, 2.0)


def test_overlap_of_intervals():
    assert Estimate(2, 1, 3).overlaps(Estimate(3.5, 3, 4))
    assert not Estimate(2, 1, 3).overlaps(Estimate(4, 3.5, 5))
