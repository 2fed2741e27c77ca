"""What all components have."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simai_rules.config.base import NaturalInt, PositiveInt, Strict
from simai_rules.config.nodes import Nodes
from simai_rules.config.ranges import CoreNumbers
from simai_rules.config.system import GpuIds

DataDtype = Literal["float32", "float64", "float16", "int32", "int64"]


class ComponentConfig(Strict):
    """What every component has: where its ranks go."""

    nodes: Nodes = "all"
    """Nodes that the component runs on: all of the point's, a number, a share, or a list of numbers (from 0) or names.
    With layout apart, all is what the other components leave."""
    ranks_per_node: PositiveInt = 1
    cores_per_rank: PositiveInt = 1
    """Cores that a rank is bound to; its BLAS and torch use as many threads and no more."""
    gpus_per_rank: NaturalInt = 0
    """GPUs that a rank sees, by the system's gpu_variable; with 0 the variable is left as it is."""
    cores: list[Annotated[CoreNumbers, Field(min_length=1)]] = []
    """The core numbers of each local rank, such as ["1-8", "9-16"]; without them, the planner chooses."""
    gpus: list[Annotated[GpuIds, Field(min_length=1)]] = []
    """The GPUs of each local rank, such as ["0.0", "0.1"]; without them, the planner chooses."""

    @model_validator(mode="after")
    def _one_list_per_rank(self) -> "ComponentConfig":
        problems = [
            f"{key} has {len(lists)} entries, but ranks_per_node is {self.ranks_per_node}: it takes one for each"
            for key, lists in (("cores", self.cores), ("gpus", self.gpus))
            if lists and len(lists) != self.ranks_per_node
        ]
        if self.gpus and self.gpus_per_rank and {len(ids) for ids in self.gpus} != {self.gpus_per_rank}:
            problems.append(f"gpus does not give each rank the {self.gpus_per_rank} of gpus_per_rank; leave that out")
        if problems:
            raise ValueError("; ".join(problems))
        return self
