"""What the components of a coupled run do: the kernels of a simulation, the model and the pace of a training."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simai_rules.config.base import NaturalInt, Positive, PositiveInt, Strict
from simai_rules.config.distributions import Distribution
from simai_rules.config.nodes import Nodes
from simai_rules.config.ranges import CoreNumbers
from simai_rules.config.system import GpuIds

KernelName = Literal[
    "MatMulSimple2D",
    "MatMulGeneral",
    "FFT",
    "AXPY",
    "InplaceCompute",
    "GenerateRandomNumber",
    "ScatterAdd",
]
KernelDtype = Literal["float32", "float64", "complex64", "complex128"]
DataDtype = Literal["float32", "float64", "float16", "int32", "int64"]

# How many dimensions `data_size` has; kernels that are not named here take 1 to 4.
DIMENSIONS = {"MatMulSimple2D": (2, 2), "MatMulGeneral": (2, 4)}
# numpy functions of one array that can overwrite it, for real operands; frozen here so that a config is checked without
# numpy. The second tuple is what numpy also has for complex operands.
REAL_ONLY_UFUNCS = ("cbrt", "ceil", "deg2rad", "degrees", "fabs", "floor", "rad2deg", "radians", "spacing", "trunc")
UFUNCS = (
    *("abs", "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "conj", "conjugate", "cos"),
    *("cosh", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "negative", "positive", "reciprocal", "rint"),
    *("sign", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
)


class KernelConfig(Strict):
    """One kernel of an iteration: run for a time (seconds) or a number of calls, once of them by default."""

    name: KernelName
    run_time: Distribution | None = None
    """Seconds per iteration."""
    run_count: Distribution | None = None
    """Calls per iteration, rounded to a whole number."""
    data_size: Annotated[list[PositiveInt], Field(min_length=1, max_length=4)] = [256, 256]
    """Shape of the operands."""
    dtype: KernelDtype = "float32"
    ufunc: str = "sin"
    """InplaceCompute only: the numpy function that is applied in place."""

    @model_validator(mode="after")
    def _fits_together(self) -> "KernelConfig":
        problems = [problem for problem in (self._wrong_length(), self._wrong_shape(), self._wrong_ufunc()) if problem]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_length(self) -> str:
        both = self.run_time is not None and self.run_count is not None
        return "give run_time or run_count, not both" if both else ""

    def _wrong_shape(self) -> str:
        least, most = DIMENSIONS.get(self.name, (1, 4))
        if least <= len(self.data_size) <= most:
            return ""
        allowed = str(least) if least == most else f"{least} to {most}"
        return (
            f"data_size {self.data_size}: its length is {len(self.data_size)}; {self.name} takes {allowed} dimensions"
        )

    def _wrong_ufunc(self) -> str:
        allowed = UFUNCS if self.dtype.startswith("complex") else tuple(sorted(UFUNCS + REAL_ONLY_UFUNCS))
        if self.name != "InplaceCompute" or self.ufunc in allowed:
            return ""
        near = get_close_matches(self.ufunc, allowed, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        return (
            f"ufunc {self.ufunc!r} is no numpy function of one {self.dtype} array.{guess} Allowed: {', '.join(allowed)}"
        )


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


class SimulationConfig(ComponentConfig):
    """A simulation: kernels per iteration and a snapshot staged every few iterations, until it is told to stop."""

    kernels: Annotated[list[KernelConfig], Field(min_length=1)] = [KernelConfig(name="MatMulSimple2D")]
    write_every: PositiveInt = 100
    """Iterations between two snapshots."""
    max_iterations: PositiveInt = 10_000_000
    """An end of its own, for the case that nobody tells it to stop."""


class ModelConfig(Strict):
    """A feed-forward net. A staged array is cut into rows of `features` inputs and one target."""

    features: PositiveInt = 7
    hidden: Annotated[list[PositiveInt], Field(max_length=64)] = [64, 64]
    batch_size: PositiveInt = 256
    learning_rate: Positive = 1e-3
    max_samples: PositiveInt = 100_000
    """Rows kept as the data set; the newest are kept."""


class TrainingConfig(ComponentConfig):
    """A training that reads what the simulation staged, and tells it to stop after its own last iteration."""

    iterations: PositiveInt = 500
    run_time: Distribution | None = None
    """Seconds per iteration; without it, an iteration is one optimizer step."""
    read_every: PositiveInt = 10
    """Iterations between two looks for new snapshots."""
    model: ModelConfig = ModelConfig()
