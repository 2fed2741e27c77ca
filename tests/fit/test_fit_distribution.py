"""The right distribution is chosen, with the parameters that the times were drawn with; distances are what they are."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_logs import lognormal, two_modes

from simai_rules.fit.distribution import chance_distance, distance_to, fit, two_sample_distance

SEEDS = st.integers(0, 2**32 - 1)


@given(median=st.floats(1e-5, 100), sigma=st.floats(0.01, 0.8), count=st.integers(200, 1500), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_parameters_of_a_lognormal_are_recovered(median, sigma, count, seed):
    fitted = {each.kind: each for each in fit(lognormal(count, median, sigma, seed))}["lognormal"]
    # Six standard errors: sigma / sqrt(n) of log(median), sigma / sqrt(2 n) of sigma.
    assert abs(math.log(fitted.median / median)) < 6 * sigma / math.sqrt(count)
    assert abs(fitted.sigma - sigma) < 6 * sigma / math.sqrt(2 * count)


def test_a_lognormal_is_nearly_always_taken_for_one():
    chosen = [fit(lognormal(500, sigma=0.1, seed=seed))[0].kind for seed in range(100)]
    assert chosen.count("lognormal") >= 90


def test_so_is_one_that_a_log_has_rounded_to_three_digits():
    chosen = [fit(np.round(lognormal(1000, seed=seed), 4), 1e-4)[0].kind for seed in range(60)]
    assert chosen.count("lognormal") >= 52
    chosen = [fit(np.round(two_modes(1000, seed), 4), 1e-4)[0].kind for seed in range(20)]
    assert chosen.count("histogram") == 20


def test_the_distance_of_rounded_times_is_that_of_a_rounded_distribution():
    fitted = {each.kind: each for each in fit(lognormal(400))}["lognormal"]
    times = np.round(lognormal(300, seed=3), 3)
    sample = np.round(lognormal(400_000, fitted.median, fitted.sigma, seed=4), 3)
    assert distance_to(times, fitted, 1e-3) == pytest.approx(two_sample_distance(times, sample), abs=0.004)
    assert distance_to(times, fitted) > 2 * distance_to(times, fitted, 1e-3)


@given(value=st.floats(1e-6, 1e4), count=st.integers(2, 300), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_times_that_hardly_differ_are_constant(value, count, seed):
    noise = np.random.default_rng(seed).uniform(-0.001, 0.001, count)
    chosen = fit(value * (1 + noise))[0]
    assert chosen.kind == "constant"
    assert chosen.config("") == pytest.approx(value, rel=0.0011)


@given(count=st.integers(100, 1500), seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_two_modes_need_a_histogram_which_keeps_the_mean_and_the_shape(count, seed):
    times = two_modes(count, seed)
    chosen = fit(times)[0]
    assert chosen.kind == "histogram"
    assert len(chosen.values) <= 200
    assert sum(chosen.shares) == pytest.approx(1)
    assert np.dot(chosen.values, chosen.shares) == pytest.approx(times.mean(), rel=1e-5)
    assert distance_to(times, chosen) <= 2.01 * math.ceil(count / 200) / count


def test_a_few_times_have_no_histogram():
    assert {each.kind for each in fit(two_modes(10))} == {"lognormal", "constant"}
    assert fit(np.array([1.0, 2.0]))[0].kind == "lognormal"


@given(
    first=st.lists(st.integers(1, 8), min_size=1, max_size=12),
    second=st.lists(st.integers(1, 8), min_size=1, max_size=9),
)
@settings(deadline=None)
def test_the_distance_of_two_samples_by_its_definition(first, second):
    def share(values, until):
        return sum(value <= until for value in values) / len(values)

    expected = max(abs(share(first, place) - share(second, place)) for place in range(10))
    assert two_sample_distance(np.array(first, float), np.array(second, float)) == pytest.approx(expected)


@given(kind=st.sampled_from(["lognormal", "constant", "histogram"]), count=st.integers(20, 60), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_distance_to_a_distribution_is_that_to_a_large_sample_of_it(kind, count, seed):
    fitted = {each.kind: each for each in fit(two_modes(60))}[kind]
    times = two_modes(count, seed)
    if kind == "lognormal":
        sample = lognormal(200_000, fitted.median, fitted.sigma)
    elif kind == "constant":
        sample = np.array([fitted.median])
    else:
        sample = np.repeat(fitted.values, np.round(np.array(fitted.shares) * 60).astype(int))
    assert distance_to(times, fitted) == pytest.approx(two_sample_distance(times, sample), abs=0.005)


def test_samples_of_one_distribution_are_seldom_further_apart_than_chance():
    apart = [two_sample_distance(lognormal(300, seed=2 * i), lognormal(200, seed=2 * i + 1)) for i in range(300)]
    beyond = sum(distance > chance_distance(300, 200) for distance in apart)
    assert 3 <= beyond <= 30  # 15 expected
