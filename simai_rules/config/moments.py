"""Mean and standard deviation of what is drawn from a distribution, in closed form."""

import math

from simai_rules.config.distributions import (
    Distribution,
    Histogram,
    HistogramChoice,
    LognormalChoice,
    Normal,
    NormalChoice,
)

CUT = 0.1
"""Of the mean: where a normal distribution is cut off below. Smaller values are drawn again."""


def mean(distribution: Distribution) -> float:
    """Return the mean, in the unit of the values; raises TypeError for a histogram whose file was not read."""
    return moments(distribution)[0]


def moments(distribution: Distribution) -> tuple[float, float]:
    """Return mean and standard deviation, in the unit of the values; raises TypeError as `mean` does."""
    if isinstance(distribution, NormalChoice):
        return _of_cut_normal(distribution.normal)
    if isinstance(distribution, LognormalChoice):
        lognormal = distribution.lognormal
        middle = lognormal.median * math.exp(lognormal.sigma**2 / 2)
        return middle, middle * math.sqrt(math.expm1(lognormal.sigma**2))
    if isinstance(distribution, HistogramChoice):
        if not isinstance(distribution.histogram, Histogram):
            raise TypeError(f"the histogram {distribution.histogram} has not been read")
        pairs = list(zip(distribution.histogram.values, distribution.histogram.probabilities, strict=True))
        total = sum(probability for _, probability in pairs)
        middle = sum(value * probability for value, probability in pairs) / total
        return middle, math.sqrt(sum(probability * (value - middle) ** 2 for value, probability in pairs) / total)
    return distribution, 0.0


def _of_cut_normal(normal: Normal) -> tuple[float, float]:
    """Return the moments of a normal distribution that is truncated below at CUT × its mean.

    With z = (cut - mean) / std and h = φ(z) / (1 - Φ(z)): mean + std·h, and std·√(1 + z·h - h²).
    """
    if normal.std == 0:
        return normal.mean, 0.0
    z = (CUT - 1) * normal.mean / normal.std
    h = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (math.erfc(z / math.sqrt(2)) / 2)
    return normal.mean + normal.std * h, normal.std * math.sqrt(1 + z * h - h * h)
