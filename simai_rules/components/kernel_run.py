"""One kernel of a simulation: its operands, its pace, and how long or how often it runs in an iteration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.pace import Pace, Paced
from simai_rules.kernels.registry import make
from simai_rules.kernels.sampling import Sampler, generator

_CALIBRATION_CALLS = 10
"""Of a kernel that all ranks run together, who have to call it equally often."""
_COMFORT = 0.25
"""Of the target: a call as short as this leaves little to the busy finish."""


class KernelRun:
    """Runs the kernel of `config` once per iteration, for a time or a count that is drawn from its distribution.

    What is drawn depends on seed, repeat, rank and purpose; factor multiplies it. comm, claim: as for `make`.
    """

    def __init__(
        self,
        config: KernelConfig,
        *,
        seed: int,
        repeat: int,
        rank: int,
        purpose: str,
        factor: float = 1.0,
        comm: Any | None = None,
        claim: Callable[[Path], None] | None = None,
    ) -> None:
        self.config = config
        self.name: str = config.name
        self._random = (seed, repeat, rank, purpose)
        self.kernel = make(config, generator(*self._random), comm, claim)
        self.collective = self.kernel.collective
        """Whether all ranks have to run it together: then they draw the same, and no imbalance tells them apart."""
        self._by_time = config.run_time is not None
        self._owed = 0.0
        """Calls."""
        amount = config.run_time or config.run_count or 1.0
        self._comm, self._claim = comm, claim
        self._factor = 1.0 if self.collective else factor
        self._sampler = Sampler(amount, generator(seed, repeat, 0 if self.collective else rank, f"{purpose} amounts"))
        self.flops, self.nbytes = self.kernel.flops(), self.kernel.nbytes()
        """Of one call."""
        self._pace = Pace(self.kernel, self._too_long, lambda: self.kernel.device_ns)
        by_time = self._by_time_together if self.collective else self._pace.for_time
        self.run: Callable[[float], Paced] = by_time if self._by_time else self._by_count
        """Runs the kernel for seconds, or calls if it runs by count."""

    def prepare(self) -> None:
        """Learn how long a call takes, once; raises UserError where one call takes longer than its run_time."""
        if self._by_time and not self._pace.calibrated:
            calls = _CALIBRATION_CALLS if self.collective else None
            self._pace.prepare(self._sampler.mean() * self._factor, calls, self.kernel.agree)

    def draw(self) -> float:
        """Return the seconds or the calls of the next iteration."""
        return self._sampler() * self._factor

    def close(self) -> None:
        """Remove what the kernel made outside of this process's memory."""
        self.kernel.close()

    def _by_time_together(self, seconds: float) -> Paced:
        return self._pace.for_time(seconds, self.kernel.agree_least(self._pace.fitting(seconds)))

    def _by_count(self, amount: float) -> Paced:
        """Run whole calls; what is left of the amount counts for the next iteration, so that the mean is kept."""
        owed = self._owed + amount
        calls = max(0, round(owed))
        self._owed = owed - calls
        return self._pace.for_count(calls)

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
        if self.collective or self.config.own:  # the others do not take part in this; the size may mean nothing
            return None
        size = list(self.config.data_size)
        while max(size) > 1:
            size = [max(1, length // 2) for length in size]
            try:
                smaller = KernelConfig.model_validate(self.config.model_dump() | {"data_size": size})
            except ValidationError:  # too small for this kernel
                return None
            kernel = make(smaller, generator(*self._random), self._comm, self._claim)
            pace = Pace(kernel, self._too_long)
            pace.calibrate(calls=5)
            kernel.close()
            if pace.fastest_ns <= _COMFORT * target * 1e9:
                return size
        return None
