"""What a node offers and how ranks are launched on it: `profiles/<machine>/system.yaml`."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simai_rules.config.base import Positive, PositiveInt, Says, Strict
from simai_rules.config.ranges import CoreNumbers, ranges_text

Flavour = Literal["auto", "hydra", "openmpi", "pals", "srun"]
GpuVariable = Literal["ZE_AFFINITY_MASK", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]


def gpu_id(value: Any) -> Any:
    """Return a GPU's id as text; a float is refused, because YAML has made it of `0.0` and `0.10` becomes `0.1`."""
    if isinstance(value, float):
        raise ValueError(f"{value} is a number with a point; put the ids of GPUs in quotes, as in '0.0'")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


GpuId = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.:-]+$"), BeforeValidator(gpu_id), Says("the id of a GPU in quotes, such as '0.0'")
]


def gpu_ids(value: Any) -> Any:
    """Return the ids in `"0.0,0.1"`, in one id, or in a list of ids."""
    return value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]


GpuIds = Annotated[list[GpuId], BeforeValidator(gpu_ids), Says("ids of GPUs in quotes, such as '0.0' or '0.0,0.1'")]


class LauncherConfig(Strict):
    """The program that starts ranks."""

    flavour: Flavour = "auto"
    """auto asks the program itself (mpiexec --version)."""
    command: Annotated[str, Field(min_length=1)] = "mpiexec"
    """A name that is looked for beside Python first and then on the PATH, or an absolute path."""
    options: list[str] = []
    """Further arguments for every launch."""


class NumaDomain(Strict):
    """Cores and GPUs that are close to each other."""

    cores: Annotated[CoreNumbers, Field(min_length=1)]
    gpus: list[GpuId] = []


class QueueConfig(Strict):
    """What a queue (PBS) or partition or QOS (Slurm) takes; what is not given is not limited."""

    min_nodes: PositiveInt = 1
    max_nodes: PositiveInt | None = None
    min_minutes: PositiveInt = 1
    """Least walltime."""
    max_minutes: PositiveInt | None = None
    """Longest walltime."""
    max_jobs: PositiveInt | None = None
    """Jobs of a user that may be queued or running at the same time."""
    max_running: PositiveInt | None = None
    """Jobs of a user that run at the same time."""
    routes_to: list[str] = []
    """Queues that jobs are moved to, where this one only routes."""
    comment: Annotated[str, Field(min_length=1)] | None = None
    """What else there is to know, shown to the user."""

    @model_validator(mode="after")
    def _in_order(self) -> "QueueConfig":
        problems = [
            f"min_{unit} {least} is more than max_{unit} {most}"
            for unit, least, most in (
                ("nodes", self.min_nodes, self.max_nodes),
                ("minutes", self.min_minutes, self.max_minutes),
            )
            if most is not None and least > most
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


class SystemConfig(Strict):
    """One machine."""

    name: Annotated[str, Field(min_length=1)] = "local"
    cores: PositiveInt | None = None
    """Physical cores per node; without it, the cores that this process may use."""
    threads_per_core: PositiveInt = 1
    """Hardware threads of a core. Core i has the numbers i, i + cores, i + 2 × cores, …; ranks are placed on the first
    of them, on the others by explicit lists only."""
    reserved_cores: CoreNumbers = []
    """Core numbers that no rank is placed on."""
    numa: list[NumaDomain] = []
    """Which cores and GPUs are close to each other; without it, all are."""
    gpus: list[GpuId] = []
    """GPUs (or tiles) of a node, as the GPU variable names them."""
    gpu_variable: GpuVariable | None = None
    """The environment variable that shows a rank its GPUs and no others."""
    memory_gb: Positive | None = None
    """Memory per node in GB."""
    node_local: Annotated[str, Field(pattern="^/"), Says("an absolute path")] | None = None
    """A folder on a local disk or in the memory of each node."""
    hostfile: Annotated[str, Field(min_length=1)] | None = None
    """A file with the names of the nodes to use, one per line; without it, those of the job, or this machine alone."""
    oversubscribe: bool = False
    """Let ranks share cores where there are fewer cores than ranks need. Times then include waiting for a core."""
    launcher: LauncherConfig = LauncherConfig()
    setup: list[str] = []
    """Shell lines at the beginning of a job: modules to load, a virtual environment."""
    scheduler: Literal["none", "pbs", "slurm"] = "none"
    """The batch system that jobs are submitted to."""
    queues: dict[str, QueueConfig] = {}
    """Queues with their limits; checked before anything is submitted."""

    @model_validator(mode="after")
    def _fits_together(self) -> "SystemConfig":
        problems = [*self._wrong_cores(), *self._wrong_gpus()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_cores(self) -> Iterator[str]:
        lists = {"reserved_cores": self.reserved_cores}
        lists |= {f"numa[{number}].cores": domain.cores for number, domain in enumerate(self.numa)}
        if self.cores is None:
            if self.numa or self.threads_per_core > 1:
                yield "numa and threads_per_core need cores, the number of physical cores of a node"
        else:
            there = range(self.cores * self.threads_per_core)
            for key, numbers in lists.items():
                if beyond := set(numbers) - set(there):
                    yield (
                        f"{key}: there is no core {ranges_text(beyond)}; {self.cores} cores with "
                        f"{self.threads_per_core} hardware threads have the numbers 0 to {there[-1]}"
                    )
            if set(range(self.cores)) <= set(self.reserved_cores):
                yield "reserved_cores: all cores are reserved, none is left for ranks"
            in_domains = {core for domain in self.numa for core in domain.cores}
            if self.numa and (without := set(range(self.cores)) - in_domains):
                yield f"numa: core {ranges_text(without)} is in no domain"
        if twice := _twice(self.reserved_cores):
            yield f"reserved_cores: core {ranges_text(twice)} is named twice"
        if twice := _twice(core for domain in self.numa for core in domain.cores):
            yield f"numa: core {ranges_text(twice)} is named twice"

    def _wrong_gpus(self) -> Iterator[str]:
        in_domains = [gpu for domain in self.numa for gpu in domain.gpus]
        if twice := _twice(self.gpus):
            yield f"gpus: {', '.join(twice)} is named twice"
        if twice := _twice(in_domains):
            yield f"numa: the GPU {', '.join(twice)} is in two domains"
        if unknown := [gpu for gpu in in_domains if gpu not in self.gpus]:
            yield f"numa: the GPU {', '.join(unknown)} is none of gpus ({', '.join(self.gpus) or 'none'})"
        if in_domains and (without := [gpu for gpu in self.gpus if gpu not in in_domains]):
            yield f"numa: the GPU {', '.join(without)} is in no domain"
        if self.gpus and self.gpu_variable is None:
            yield "gpus: without gpu_variable no rank can be given one of them"


def _twice(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]
