"""What an iteration of a simulation consists of, and what runs before the first and after every so many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simai_rules.components.kernel_run import KernelRun
from simai_rules.config.kernels import KernelConfig
from simai_rules.config.simulation import Imbalance, SimulationConfig
from simai_rules.kernels.pace import Paced
from simai_rules.kernels.sampling import Sampler, generator

Make = Callable[[KernelConfig, str], KernelRun]
"""Makes the kernel of a config; the text says what its random numbers are for."""
Done = list[tuple[KernelRun, Paced]]
"""Kernels that have run, in their order."""


def run_all(kernels: Sequence[KernelRun]) -> Done:
    """Run `kernels` one after another; what they draw is drawn before the first."""
    work = [(kernel.run, kernel.draw()) for kernel in kernels]
    done = [run(amount) for run, amount in work]
    return list(zip(kernels, done, strict=True))


class Mix:
    """Branches of kernels of which each iteration takes one by weight, the same one on all ranks.

    So a branch can hold kernels that need all ranks.
    """

    def __init__(
        self, branches: Sequence[Sequence[KernelRun]], weights: Sequence[float], seed: int, repeat: int
    ) -> None:
        self.branches = branches
        self._rng = generator(seed, repeat, 0, "mix")
        self._until = np.cumsum(weights) / np.sum(weights)

    def draw(self) -> Sequence[KernelRun]:
        """Return the kernels of the next iteration."""
        if not self.branches:
            return ()
        chosen = int(np.searchsorted(self._until, self._rng.random(), side="right"))
        return self.branches[min(chosen, len(self.branches) - 1)]


class Phases:
    """The kernels of a SimulationConfig; `seed` and `repeat` say what is drawn, `make` makes them."""

    def __init__(self, config: SimulationConfig | None, make: Make, seed: int, repeat: int) -> None:
        def made(kernels: Sequence[KernelConfig], phase: str) -> list[KernelRun]:
            return [make(kernel, f"{phase} {number}") for number, kernel in enumerate(kernels)]

        config = config or SimulationConfig.model_construct(kernels=[])
        self.steps = made(config.kernels, "kernel")
        """In every iteration, before the branch of the mix."""
        branches = [made(branch.kernels, f"mix {number}") for number, branch in enumerate(config.mix)]
        self.mix = Mix(branches, [branch.weight for branch in config.mix], seed, repeat)
        self.start = made(config.start.kernels, "start")
        self.checkpoint = made(config.checkpoint.kernels, "checkpoint")
        self._every = config.checkpoint.every

    def all(self) -> list[KernelRun]:
        """Return every kernel."""
        branches = [kernel for branch in self.mix.branches for kernel in branch]
        return [*self.start, *self.steps, *branches, *self.checkpoint]

    def iteration(self) -> list[KernelRun]:
        """Return the kernels of the next iteration."""
        return [*self.steps, *self.mix.draw()]

    def due(self, iterations: int) -> bool:
        """Return whether a checkpoint comes after so many iterations."""
        return bool(self.checkpoint) and iterations % self._every == 0


def factor_of(imbalance: Imbalance, *, seed: int, repeat: int, rank: int) -> float:
    """Return what multiplies the run times and counts of `rank`."""
    if isinstance(imbalance, list):
        return imbalance[rank % len(imbalance)]
    return Sampler(imbalance, generator(seed, repeat, rank, "imbalance"))()
