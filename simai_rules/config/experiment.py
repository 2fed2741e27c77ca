"""An experiment as its config.yaml says it, and a point: one combination of its sweep, fully resolved."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simai_rules.config.base import NaturalInt, Positive, PositiveInt, Says, Strict, as_number
from simai_rules.config.components import ComponentConfig, DataDtype
from simai_rules.config.inference import InferenceConfig
from simai_rules.config.nodes import Layout, numbered, select_nodes
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
    server_nodes: Literal["simulation", "training", "own"] = "simulation"
    """Where a staging server that is one process runs: the first node of the simulation or of the training, or a node
    of the point that no component uses."""
    server_cores: NaturalInt | None = None
    """Cores on each of its nodes that the server has to itself; without it, as many as its processes keep busy."""


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
    layout: Layout = "beside"
    """beside: each simulation rank shares its node with the training rank that it feeds. apart: the simulation has the
    first nodes and the training others; half of them each, if their own `nodes` do not say otherwise."""
    minutes: PositiveInt | None = None
    """Walltime of a point at most, as it is asked of a batch system; without it, worked out from the run times."""
    warmup: NaturalInt = 1
    """Snapshots per rank that count as warm-up; they are recorded and kept out of the statistics."""
    staging: StagingConfig = StagingConfig()
    simulation: SimulationConfig = SimulationConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()


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
    def components(self) -> dict[str, ComponentConfig]:
        """The components by name; the inference only where it has ranks."""
        two: dict[str, ComponentConfig] = {"simulation": self.simulation, "training": self.training}
        return two | ({"inference": self.inference} if self.inference.ranks_per_node else {})

    def selection(self, hosts: Sequence[str] = ()) -> dict[str, tuple[int | str, ...]]:
        """Return the nodes of each component, as numbers into the point's nodes; of those listed by name, the names.

        With `hosts`, the names of the point's nodes, all are numbers. "server" is there if it has a node of its own.
        Raises ValueError where the nodes that are asked for are not there.
        """
        wishes = {name: numbered(name, config.nodes, hosts) for name, config in self.components.items()}
        return select_nodes(self.nodes, self.layout, wishes, own=self.staging.server_nodes == "own")

    def ranks_of(self, component: str) -> int:
        """Return the number of ranks of `component` on all its nodes."""
        return len(self.selection()[component]) * self.components[component].ranks_per_node

    @model_validator(mode="after")
    def _can_be_shared(self) -> "Point":
        """Refuse a backend that is not described, or whose values do not reach the rank that is to read them."""
        if self.server.lacking:
            raise ValueError(self.server.lacking)
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
        if self.server.everywhere and self.server.sharing == "node" and self.staging.server_nodes == "own":
            raise ValueError(
                "staging.server_nodes: own gives the server a node that no component uses, but the servers of the "
                f"backend {self.backend}, as it is configured, are each for the ranks of their own node. Leave "
                "server_nodes out"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_pattern(self) -> "Point":
        selected = self.selection()
        beside = self.layout == "beside"
        if beside and self.simulation.ranks_per_node != self.training.ranks_per_node:
            raise ValueError(
                "every simulation rank feeds the training rank beside it, so both need the same number: "
                f"simulation.ranks_per_node is {self.simulation.ranks_per_node}, "
                f"training.ranks_per_node is {self.training.ranks_per_node}"
            )
        if beside and selected["simulation"] != selected["training"]:
            raise ValueError(
                "layout: beside puts every simulation rank on the node of the training rank that it feeds, so both "
                f"need the same nodes: simulation.nodes is {self.simulation.nodes}, training.nodes is "
                f"{self.training.nodes}. Choose layout: apart, or the same nodes"
            )
        ranks = {name: self.ranks_of(name) for name in ("simulation", "training")}
        if ranks["simulation"] != ranks["training"]:
            raise ValueError(
                "every simulation rank feeds one training rank, so both need as many: "
                + ", ".join(
                    f"{name} has {count} ({len(selected[name])} nodes × {self.components[name].ranks_per_node} ranks)"
                    for name, count in ranks.items()
                )
            )
        if problem := self._wrong_with_inference(selected):
            raise ValueError(problem)
        if problem := self.simulation.wrong_for(ranks["simulation"]):
            raise ValueError(problem)
        model = self.training.model
        if self.elements < model.row:
            size = "training.model.features + 1" if model.name == "mlp" and model.outputs == 1 else f"its {model.name}"
            raise ValueError(
                f"the training cuts a message into rows of {size} = {model.row} elements, but elements is "
                f"{self.elements}"
            )
        return self

    def _wrong_with_inference(self, selected: Mapping[str, tuple[int | str, ...]]) -> str:
        if "inference" not in selected:
            return ""
        if not self.training.publish_every:
            return (
                "the inference takes the weights that the training publishes, but training.publish_every is 0: give "
                "the number of iterations after which it publishes, or leave inference.ranks_per_node out"
            )
        if self.server.sharing == "node" and selected["inference"] != selected["training"][:1]:
            return (
                f"the weights that the training's first rank puts on the backend {self.backend} can be read on its "
                f"node alone, the first of the training. Give inference.nodes: {list(selected['training'][:1])}, or a "
                "backend that all nodes can read, such as filesystem or redis"
            )
        return ""
