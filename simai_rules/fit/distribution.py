"""The distribution of iteration times: constant, lognormal or histogram, whichever foretells unseen ones best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Kind = Literal["constant", "lognormal", "histogram"]

_CONSTANT = 0.002
"""Mean deviation from the median, relative to it, below which times are all the same: a run is paced no better."""
_MOST_VALUES = 200
_LEAST_FOR_HISTOGRAM = 20
_SIMPLER = 1.1
"""A lognormal is taken for a histogram unless its distance is so many times greater."""


@dataclass(frozen=True)
class Fit:
    """A distribution fitted to times in seconds.

    distance: Kolmogorov-Smirnov distance between what was fitted to one half of the times and the other half, the mean
    of both ways; for fewer than four times that of all to all. values, shares: of a histogram.
    """

    kind: Kind
    distance: float
    median: float
    sigma: float = 0.0
    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    def config(self, histogram_file: str) -> Any:
        """Return the distribution as a config file has it; a histogram's numbers are to be in `histogram_file`."""
        if self.kind == "constant":
            return _rounded(self.median)
        if self.kind == "lognormal":
            return {"lognormal": {"median": _rounded(self.median), "sigma": _rounded(self.sigma)}}
        return {"histogram": histogram_file}

    def describe(self) -> str:
        """Return its parameters in words."""
        if self.kind == "constant":
            return f"{self.median:.4g} s"
        if self.kind == "lognormal":
            return f"median {self.median:.4g} s, sigma {self.sigma:.3g}"
        return f"{len(self.values)} values from {self.values[0]:.4g} s to {self.values[-1]:.4g} s"

    def cdf(self, times: Times) -> Times:
        """Return the probability of a time up to each of `times`, shape (n,)."""
        if self.kind == "histogram":
            until = np.concatenate([[0.0], np.cumsum(self.shares)])
            return np.asarray(until[np.searchsorted(np.asarray(self.values), times, side="right")])
        if self.kind == "constant" or self.sigma == 0:
            return (times >= self.median).astype(np.float64)
        with np.errstate(divide="ignore"):  # a time of 0 has the probability 0
            z = np.log(times / self.median) / self.sigma
        return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])


def fit(times: Times, resolution: float = 0.0) -> list[Fit]:
    """Return the distributions fitted to `times`, the chosen one first. resolution: what their last digit stands for.

    Constant where the times hardly differ; else the lognormal or the histogram, by their distance from times that they
    have not seen.
    """
    kinds: list[Kind] = ["lognormal", "constant"]
    if len(times) >= _LEAST_FOR_HISTOGRAM:
        kinds.append("histogram")
    fits = {kind: _fit(kind, times, _held_out(kind, times, resolution)) for kind in kinds}
    median = fits["constant"].median
    if float(np.abs(times - median).mean()) < _CONSTANT * median:
        chosen: Kind = "constant"
    elif "histogram" in fits and fits["lognormal"].distance > _SIMPLER * fits["histogram"].distance:
        chosen = "histogram"
    else:
        chosen = "lognormal"
    return [fits.pop(chosen), *sorted(fits.values(), key=lambda other: other.distance)]


def two_sample_distance(first: Times, second: Times) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples: how far their distribution functions are apart at most."""
    first, second = np.sort(first), np.sort(second)
    places = np.concatenate([first, second])
    one = np.searchsorted(first, places, side="right") / len(first)
    other = np.searchsorted(second, places, side="right") / len(second)
    return float(np.abs(one - other).max())


def chance_distance(first: int, second: int) -> float:
    """Return the distance that two samples of one distribution exceed in 5 % of all cases, for the sizes given.

    The asymptotic 1.358·sqrt((n + m) / (n·m)): Smirnov, Ann. Math. Stat. 19 (1948) 279.
    """
    return 1.358 * math.sqrt((first + second) / (first * second))


def distance_to(times: Times, fitted: Fit, resolution: float = 0.0) -> float:
    """Return the Kolmogorov-Smirnov distance of a sample to a distribution.

    Where the sample is rounded to a `resolution`, it is the distance to the distribution rounded alike: a smooth one
    would look far from it otherwise, and a histogram, which has the rounding in it, would not.
    """
    ordered = np.sort(times)
    count = len(ordered)
    if fitted.kind == "histogram":  # which jumps at its values, too
        places = np.concatenate([ordered, np.asarray(fitted.values)])
        share = np.searchsorted(ordered, places, side="right") / count
        return float(np.abs(share - fitted.cdf(places)).max())
    # Up to where a time would be written as this one, and from where; the limit from the left, where a constant jumps.
    until, since = ordered + resolution / 2, np.nextafter(ordered - resolution / 2, 0)
    above = np.searchsorted(ordered, ordered, side="right") / count - fitted.cdf(until)
    below = fitted.cdf(np.maximum(since, 0.0)) - np.searchsorted(ordered, ordered, side="left") / count
    return float(max(above.max(), below.max(), 0.0))


def _fit(kind: Kind, times: Times, distance: float) -> Fit:
    if kind == "constant":
        return Fit(kind, distance, float(np.median(times)))
    if kind == "lognormal":
        logs = np.log(times)
        return Fit(kind, distance, math.exp(logs.mean()), float(logs.std(ddof=1)))
    parts = np.array_split(np.sort(times), min(len(times), _MOST_VALUES))
    values = tuple(_rounded(float(part.mean())) for part in parts)
    shares = tuple(len(part) / len(times) for part in parts)
    return Fit(kind, distance, float(np.median(times)), values=values, shares=shares)


def _held_out(kind: Kind, times: Times, resolution: float) -> float:
    if len(times) < 4:
        return distance_to(times, _fit(kind, times, 0.0), resolution)
    mixed = np.random.default_rng(0).permutation(times)
    half = len(times) // 2
    ways = [(mixed[:half], mixed[half:]), (mixed[half:], mixed[:half])]
    return sum(distance_to(unseen, _fit(kind, seen, 0.0), resolution) for seen, unseen in ways) / 2


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
