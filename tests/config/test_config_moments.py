"""Means and deviations in closed form are those of what is drawn."""

import math

import numpy as np
import pytest
from pydantic import TypeAdapter

from simai_rules.config.distributions import Distribution
from simai_rules.config.moments import mean, moments
from simai_rules.kernels.sampling import Sampler


def of(raw):
    return TypeAdapter(Distribution).validate_python(raw)


def test_in_closed_form():
    assert moments(of(0.25)) == (0.25, 0)
    assert moments(of({"normal": {"mean": 2, "std": 0}})) == (2, 0)
    assert moments(of({"normal": {"mean": 2, "std": 0.01}})) == pytest.approx((2, 0.01))
    assert mean(of({"lognormal": {"median": 2, "sigma": 0.5}})) == pytest.approx(2 * math.exp(0.125))
    assert moments(of({"histogram": {"values": [1, 3], "probabilities": [0.5, 0.5]}})) == (2, 1)


@pytest.mark.parametrize(
    "raw",
    [
        {"normal": {"mean": 0.03, "std": 0.015}},
        {"normal": {"mean": 1, "std": 1}},
        {"normal": {"mean": 1, "std": 30}},
        {"lognormal": {"median": 0.03, "sigma": 0.4}},
        {"histogram": {"values": [0.01, 0.02, 0.09], "probabilities": [0.5, 0.3, 0.2]}},
    ],
)
def test_as_drawn(raw):
    sampler = Sampler(of(raw), np.random.default_rng(1))
    drawn = np.array([sampler() for _ in range(100_000)])
    assert moments(of(raw)) == pytest.approx((drawn.mean(), drawn.std()), rel=0.02)


def test_a_histogram_that_was_not_read_has_no_mean():
    with pytest.raises(TypeError, match=r"x\.csv"):
        mean(of({"histogram": "x.csv"}))
