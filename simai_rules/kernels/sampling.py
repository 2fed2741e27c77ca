"""Drawing run times and counts from their distributions, in blocks, so that one value costs next to nothing."""

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simai_rules.config.distributions import Distribution, Histogram, HistogramChoice, LognormalChoice, NormalChoice
from simai_rules.config.moments import CUT, mean
from simai_rules.errors import UserError

_BLOCK = 1024


def generator(seed: int, repeat: int, rank: int, purpose: str) -> np.random.Generator:
    """Return a random generator of its own for each seed, repeat, rank and purpose ("simulation", "payload", …)."""
    return np.random.default_rng([seed, repeat, rank, zlib.crc32(purpose.encode())])


class Sampler:
    """Values of a distribution, in its own unit; each call gives the next one.

    A normal distribution is cut off at CUT times its mean: smaller values are drawn again.

    Raises UserError for a histogram whose file was not read.
    """

    def __init__(self, distribution: Distribution, rng: np.random.Generator) -> None:
        if isinstance(distribution, HistogramChoice) and isinstance(distribution.histogram, str):
            raise UserError(
                f"The file of the histogram '{distribution.histogram}' was not read. In a config file that is done "
                "when its points are resolved; in Python give {'histogram': {'values': […], 'probabilities': […]}}."
            )
        self._distribution = distribution
        self._rng = rng
        self._block: list[float] = []

    def __call__(self) -> float:
        """Return the next value."""
        if not self._block:
            self._block = self._draw().tolist()[::-1]
        return self._block.pop()

    def mean(self) -> float:
        """Return the mean of what is drawn."""
        return mean(self._distribution)

    def _draw(self) -> NDArray[np.float64]:
        rng = self._rng
        match self._distribution:
            case NormalChoice(normal=normal):
                return _cut_normal(rng, normal.mean, normal.std)
            case LognormalChoice(lognormal=lognormal):
                return rng.lognormal(math.log(lognormal.median), lognormal.sigma, _BLOCK)
            case HistogramChoice(histogram=Histogram() as histogram):
                weights = np.asarray(histogram.probabilities)
                drawn: Any = rng.choice(np.asarray(histogram.values), _BLOCK, p=weights / weights.sum())
                return np.asarray(drawn, np.float64)
            case value:
                return np.full(_BLOCK, value, np.float64)


def _cut_normal(rng: np.random.Generator, middle: float, std: float) -> NDArray[np.float64]:
    values = rng.normal(middle, std, _BLOCK)
    while (below := values < CUT * middle).any():
        values[below] = rng.normal(middle, std, int(below.sum()))
    return values
