"""Drawn values follow their distribution, and depend on seed, repeat, rank and purpose alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simai_rules.config.distributions import Distribution
from simai_rules.errors import UserError
from simai_rules.kernels.sampling import Sampler, generator

DRAWS = 20_000


def sampler(raw, seed=0):
    return Sampler(TypeAdapter(Distribution).validate_python(raw), generator(seed, 0, 0, "test"))


def drawn(raw, count=DRAWS):
    sample = sampler(raw)
    return np.array([sample() for _ in range(count)])


def test_a_number_is_itself():
    assert set(drawn(0.031, 3000)) == {0.031}
    assert sampler(0.031).mean() == 0.031


def test_normal():
    raw = {"normal": {"mean": 0.031, "std": 0.002}}
    values = drawn(raw)
    assert values.mean() == pytest.approx(0.031, rel=0.003)
    assert values.std() == pytest.approx(0.002, rel=0.03)
    assert np.quantile(values, 0.95) == pytest.approx(0.031 + 1.645 * 0.002, rel=0.005)
    assert sampler(raw).mean() == 0.031


def test_normal_is_cut_off_at_a_tenth_of_its_mean():
    values = drawn({"normal": {"mean": 1.0, "std": 1.0}})
    assert values.min() >= 0.1
    assert values.min() < 0.12
    # Drawn again, not set to the limit: the mean of the truncated distribution is 1 + pdf(-0.9) / (1 - cdf(-0.9)).
    assert values.mean() == pytest.approx(1 + 0.2661 / 0.8159, rel=0.02)


def test_lognormal():
    raw = {"lognormal": {"median": 0.02, "sigma": 0.5}}
    values = drawn(raw)
    assert np.median(values) == pytest.approx(0.02, rel=0.02)
    assert np.quantile(values, 0.95) == pytest.approx(0.02 * np.exp(1.645 * 0.5), rel=0.04)
    assert values.mean() == pytest.approx(0.02 * np.exp(0.125), rel=0.02)
    assert sampler(raw).mean() == pytest.approx(0.02 * np.exp(0.125))


def test_histogram():
    raw = {"histogram": {"values": [3.0, 1.0, 2.0], "probabilities": [0.5, 0.2, 0.3]}}
    values = drawn(raw)
    for value, probability in [(1, 0.2), (2, 0.3), (3, 0.5)]:
        assert (values == value).mean() == pytest.approx(probability, abs=0.015)
    assert sampler(raw).mean() == pytest.approx(2.3)


def test_a_histogram_that_was_not_read_is_refused():
    with pytest.raises(UserError, match=r"'times\.csv' was not read"):
        sampler({"histogram": "times.csv"})


def test_each_seed_repeat_rank_and_purpose_has_numbers_of_its_own():
    keys = [(0, 0, 0, "a"), (1, 0, 0, "a"), (0, 1, 0, "a"), (0, 0, 1, "a"), (0, 0, 0, "b"), (2**62, 0, 0, "a")]
    assert len({generator(*key).random() for key in keys}) == len(keys)
    assert all(generator(*key).random() == generator(*key).random() for key in keys)


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(0.01, 1)), min_size=1, max_size=20),
)
def test_only_values_of_the_histogram_are_drawn(bins):
    total = sum(weight for _, weight in bins)
    histogram = {"values": [value for value, _ in bins], "probabilities": [weight / total for _, weight in bins]}
    sample = sampler({"histogram": histogram})
    assert {sample() for _ in range(100)} <= set(histogram["values"])
    assert sample.mean() == pytest.approx(np.average(histogram["values"], weights=histogram["probabilities"]))
