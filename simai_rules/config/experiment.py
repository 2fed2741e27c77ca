"""An experiment as its config.yaml says it, and a point: one combination of its sweep, fully resolved."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simai_rules.config.base import NaturalInt, Positive, PositiveInt, Says, Strict, as_number
from simai_rules.config.components import DataDtype
from simai_rules.config.registry import BackendConfig, BackendName, BackendOptions
from simai_rules.config.simulation import SimulationConfig
from simai_rules.config.system import SystemConfig
from simai_rules.config.training import TrainingConfig

POINT_FORMAT = 1


class StagingConfig(Strict):
    """How components wait for each other's data."""

    timeout: Positive = 120.0
    """Seconds that a read waits for its key."""
    start_timeout: Positive = 60.0
    """Seconds that a staging server has to become ready, and that components wait for it."""
    in_flight: PositiveInt = 3
    """Snapshots per rank that may be staged at the same time; the space for them is checked before the run."""


class SweepConfig(Strict):
    """The axes of a sweep: any key of the config (`simulation.write_every`) with the values it takes."""

    axes: dict[str, Annotated[list[Any], Field(min_length=1), Says("a list of the axis's values")]] = {}
    zip: list[Annotated[list[str], Field(min_length=2)]] = []
    """Groups of axes that advance together instead of being combined with each other."""
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = []
    """Combinations that are left out: every point that matches all the values of an entry."""


class PointSettings(Strict):
    """The keys of an experiment that each point has a value of; each of them can be an axis of the sweep."""

    seed: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(as_number)] = 0
    backend: BackendName = "filesystem"
    elements: PositiveInt = 1_000_000
    """Elements of one message, per rank and snapshot."""
    dtype: DataDtype = "float32"
    nodes: PositiveInt = 1
    """Nodes of a point, those of all components together."""
    layout: Literal["beside", "apart"] = "beside"
    """beside: each simulation rank shares its node with the training rank that it feeds. apart: the simulation has the
    first half of the nodes and the training the other."""
    warmup: NaturalInt = 1
    """Snapshots per rank that count as warm-up; they are recorded and kept out of the statistics."""
    staging: StagingConfig = StagingConfig()
    simulation: SimulationConfig = SimulationConfig()
    training: TrainingConfig = TrainingConfig()


class ExperimentConfig(PointSettings):
    """A whole config.yaml."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64),
        Says("at most 64 letters, digits, '_', '.' and '-', beginning with a letter or digit"),
    ]
    """Name of the experiment, and of the folder of its results."""
    results: Annotated[str, Field(min_length=1)] = "results"
    """Folder of the results, relative to the folder that snakemake runs in."""
    repeats: PositiveInt = 3
    """Each combination is run this many times."""
    system: Annotated[str, Field(min_length=1)] = "local"
    """A machine of `profiles/`, or a path to a system.yaml."""
    sweep: SweepConfig = SweepConfig()
    backends: BackendOptions = BackendOptions()


class Point(PointSettings):
    """One combination of the sweep with everything that a run of it needs: the content of `point.json`.

    It holds the options of its own backend only, so that a change of another backend's options does not touch it.
    """

    format: int = POINT_FORMAT
    experiment: str
    path: Annotated[str, Field(min_length=1)]
    """`backend~redis/elements~1000/nodes~1/repeat~0`: the point's folder below results/<experiment>/."""
    axes: dict[str, Any]
    """The swept keys of this point with their values, `repeat` included."""
    repeat: NaturalInt
    server: BackendConfig
    system: SystemConfig

    @property
    def nodes_per_component(self) -> int:
        """Nodes that each component runs on."""
        return self.nodes // 2 if self.layout == "apart" else self.nodes

    @model_validator(mode="after")
    def _can_be_shared(self) -> "Point":
        """Refuse a backend that is not described, or whose values do not reach the rank that is to read them."""
        if self.server.lacking:
            raise ValueError(self.server.lacking)
        if self.layout == "apart" and self.nodes % 2:
            raise ValueError(f"layout: apart gives each component half of the nodes, but nodes is {self.nodes}")
        if self.server.sharing == "process":
            raise ValueError(
                f"a value on the backend {self.backend} can be read by its own writer alone, and the simulation and "
                "the training are different processes. Choose another backend; "
                f"'python -m benchmarks.staging {self.backend}' measures this one"
            )
        if self.server.sharing == "node" and self.layout == "apart":
            raise ValueError(
                f"a value on the backend {self.backend} can be read on its writer's node alone, and layout: apart puts "
                "the training on other nodes. Choose layout: beside, or a backend that all nodes can read, such as "
                "filesystem or redis"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_pattern(self) -> "Point":
        if self.simulation.ranks_per_node != self.training.ranks_per_node:
            raise ValueError(
                "every simulation rank feeds the training rank beside it, so both need the same number: "
                f"simulation.ranks_per_node is {self.simulation.ranks_per_node}, "
                f"training.ranks_per_node is {self.training.ranks_per_node}"
            )
        if problem := self.simulation.wrong_for(self.nodes_per_component * self.simulation.ranks_per_node):
            raise ValueError(problem)
        model = self.training.model
        if self.elements < model.row:
            size = "training.model.features + 1" if model.name == "mlp" and model.outputs == 1 else f"its {model.name}"
            raise ValueError(
                f"the training cuts a message into rows of {size} = {model.row} elements, but elements is "
                f"{self.elements}"
            )
        return self
