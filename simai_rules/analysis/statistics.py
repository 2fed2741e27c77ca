"""Medians with an interval that knows of both sources of spread: between repeats, and between events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, all in the unit of the data."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        """Tell whether the two intervals have a value in common."""
        return self.low <= other.high and other.low <= self.high


def resampled_medians(values: NDArray[np.float64], draws: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw `draws` medians of bootstrap resamples of `values`, shape (n,), without making the resamples.

    The k-th smallest of n draws from the ordered values is the value at floor(n U), where U is the k-th smallest of n
    uniform numbers and hence Beta(k, n - k + 1) (David & Nagaraja, Order Statistics, 2003, 2.1); given U, the next one
    is the smallest of n - k uniform numbers above it. So the distribution is exact at a cost that n does not change.
    """
    import numpy as np

    ordered, size = np.sort(values), len(values)
    middle = (size + 1) // 2
    lower = random.beta(middle, size - middle + 1, draws)
    first = ordered[np.minimum((lower * size).astype(np.int64), size - 1)]
    if size % 2:
        return np.asarray(first)
    upper = lower + (1 - lower) * (1 - random.random(draws) ** (1 / (size - middle)))
    second = ordered[np.minimum((upper * size).astype(np.int64), size - 1)]
    return np.asarray((first + second) / 2)


def median_over_repeats(repeats: Sequence[Sequence[NDArray[np.float64]]], seed: int = 0) -> Estimate:
    """Estimate the median over repeats of a statistic, with its 95 % interval by a two-level bootstrap.

    `repeats[r]` holds one or more arrays of events of repeat r; the statistic of a repeat is the sum of their medians.
    Repeats are resampled, then the events inside each. With a single repeat the interval only knows of its events.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    value = float(np.median([sum(float(np.median(array)) for array in arrays) for arrays in repeats]))
    drawn = np.empty((len(repeats), DRAWS))
    for slot in range(len(repeats)):
        chosen = random.integers(len(repeats), size=DRAWS)
        for which, arrays in enumerate(repeats):
            here = chosen == which
            count = int(here.sum())
            drawn[slot, here] = sum(resampled_medians(array, count, random) for array in arrays)
    low, high = np.percentile(np.median(drawn, axis=0), [2.5, 97.5])
    return Estimate(value, float(low), float(high))
