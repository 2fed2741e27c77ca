"""What a simulation does: kernels in each iteration, at its start, and at a checkpoint; how its ranks differ."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from simai_rules.config.base import Positive, PositiveInt, Says, Strict
from simai_rules.config.components import ComponentConfig
from simai_rules.config.distributions import DISTRIBUTION_TEXT, Distribution
from simai_rules.config.kernels import KernelConfig, undivided


class Alternative(Strict):
    """One branch of a mix."""

    weight: Positive = 1.0
    """How often it is taken, relative to the others."""
    kernels: Annotated[list[KernelConfig], Field(min_length=1)]


class StartConfig(Strict):
    """What runs once, before the first iteration."""

    kernels: list[KernelConfig] = []


class CheckpointConfig(Strict):
    """What runs after every `every` iterations."""

    every: PositiveInt = 100
    kernels: list[KernelConfig] = []


def _one_or_more(value: Any) -> str:
    return "<per rank>" if isinstance(value, list) else "<drawn>"


Imbalance = Annotated[
    Annotated[list[Positive], Field(min_length=1), Tag("<per rank>")] | Annotated[Distribution, Tag("<drawn>")],
    Discriminator(_one_or_more),
    Says(f"a list of factors, one per rank or one per rank of a node, or {DISTRIBUTION_TEXT}"),
]


class SimulationConfig(ComponentConfig):
    """A simulation: kernels per iteration and a snapshot staged every few iterations, until it is told to stop."""

    kernels: Annotated[list[KernelConfig], Says("a list of kernels")] = [KernelConfig(name="MatMulSimple2D")]
    """They run one after another in each iteration; none by default where there is a mix."""
    mix: list[Alternative] = []
    """After them, each iteration takes one of these, drawn by weight, the same one on all ranks."""
    start: StartConfig = StartConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    imbalance: Imbalance = 1.0
    """The factor that multiplies a rank's run times and counts: one for all, a list of them, or a distribution, from
    which each rank draws its own once."""
    barrier: bool = False
    """Whether all ranks wait for each other at the end of each iteration."""
    write_every: PositiveInt = 100
    """Iterations between two snapshots."""
    max_iterations: PositiveInt = 10_000_000
    """An end of its own, for the case that nobody tells it to stop."""

    @model_validator(mode="before")
    @classmethod
    def _mix_alone(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("mix") and "kernels" not in content:
            return {**content, "kernels": []}
        return content

    @model_validator(mode="after")
    def _does_something(self) -> "SimulationConfig":
        if not self.kernels and not self.mix:
            raise ValueError("kernels: [] leaves an iteration without work. Name a kernel, or give a mix")
        return self

    def all_kernels(self) -> list[KernelConfig]:
        """Return the kernels of all phases."""
        branches = [kernel for branch in self.mix for kernel in branch.kernels]
        return [*self.start.kernels, *self.kernels, *branches, *self.checkpoint.kernels]

    def wrong_for(self, ranks: int) -> str:
        """Return what cannot be divided among so many ranks, or ""."""
        problems = [f"simulation: kernel {text}" for kernel in self.all_kernels() if (text := undivided(kernel, ranks))]
        return "; ".join(dict.fromkeys([*problems, *filter(None, [self._wrong_imbalance(ranks)])]))

    def _wrong_imbalance(self, ranks: int) -> str:
        if not isinstance(self.imbalance, list) or ranks % len(self.imbalance) == 0:
            return ""
        return (
            f"simulation.imbalance has {len(self.imbalance)} factors, which do not divide the {ranks} ranks evenly. "
            "Give one factor for each rank, or for each rank of a node"
        )
