"""One kernel of a simulation: its operands, its pace, and how long or how often it runs in an iteration."""

from __future__ import annotations

from collections.abc import Callable

from simai_rules.config.components import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.pace import Pace, Paced
from simai_rules.kernels.registry import make
from simai_rules.kernels.sampling import Sampler, generator

_COMFORT = 0.25
"""Of the target: a call as short as this leaves little to the busy finish."""


class KernelRun:
    """Runs the kernel of `config` once per iteration, for a time or a count that is drawn from its distribution."""

    def __init__(self, config: KernelConfig, *, seed: int, repeat: int, rank: int, purpose: str) -> None:
        self.config = config
        self.name: str = config.name
        self._random = (seed, repeat, rank, purpose)
        self.kernel = make(config, generator(*self._random))
        self._by_time = config.run_time is not None
        amount = config.run_time or config.run_count or 1.0
        self._sampler = Sampler(amount, generator(seed, repeat, rank, f"{purpose} amounts"))
        self._pace = Pace(self.kernel, self._too_long)
        self.run: Callable[[float], Paced] = self._pace.for_time if self._by_time else self._by_count
        """Runs the kernel for seconds, or calls if it runs by count."""

    def prepare(self) -> None:
        """Learn how long a call takes, once; raises UserError where one call takes longer than its run_time."""
        if self._by_time and not self._pace.calibrated:
            self._pace.prepare(self._sampler.mean())

    def draw(self) -> float:
        """Return the seconds or the calls of the next iteration."""
        return self._sampler()

    def _by_count(self, amount: float) -> Paced:
        return self._pace.for_count(round(amount))

    def _too_long(self, call: float, target: float) -> UserError:
        size = list(self.config.data_size)
        fitting = self._fitting_size(target)
        advice = f"data_size {fitting} would fit" if fitting else "no data_size is fast enough"
        return UserError(
            f"kernel {self.config.name}: one call with data_size {size} ({self.config.dtype}) takes {call * 1e3:.3g} "
            f"ms, longer than its run_time of {target * 1e3:.3g} ms. Take a smaller data_size ({advice}) "
            "or a longer run_time."
        )

    def _fitting_size(self, target: float) -> list[int] | None:
        """Halve the data_size until a call takes at most a quarter of `target` seconds; None if none does."""
        size = list(self.config.data_size)
        while max(size) > 1:
            size = [max(1, length // 2) for length in size]
            smaller = self.config.model_copy(update={"data_size": size})
            pace = Pace(make(smaller, generator(*self._random)), self._too_long)
            pace.calibrate(calls=5)
            if pace.fastest_ns <= _COMFORT * target * 1e9:
                return size
        return None
