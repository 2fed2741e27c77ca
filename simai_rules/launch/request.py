"""What components ask of the nodes of a point, and whether the nodes have it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from simai_rules.config.ranges import ranges_text
from simai_rules.config.system import SystemConfig
from simai_rules.errors import UserError
from simai_rules.launch.node import first_threads, nameable_cores, usable_cores


class ImpossiblePlacement(UserError):
    """More nodes, cores or GPUs are asked for than there are, or others than those there are."""


@dataclass(frozen=True)
class Request:
    """What one component asks for."""

    component: str
    nodes: tuple[int, ...]
    """Its nodes, as numbers into the hosts."""
    ranks_per_node: int
    cores_per_rank: int
    gpus_per_rank: int = 0
    cores: tuple[tuple[int, ...], ...] = ()
    """Explicit cores per local rank, instead of a number."""
    gpus: tuple[tuple[str, ...], ...] = ()
    """Explicit GPUs per local rank, instead of a number."""
    optional: bool = False
    """Goes without cores where ranks have to share them, as a server may that was not given any by the user."""

    @property
    def wanted_cores(self) -> int:
        """Cores on each node."""
        return sum(map(len, self.cores)) if self.cores else self.ranks_per_node * self.cores_per_rank

    @property
    def wanted_gpus(self) -> int:
        """GPUs on each node."""
        return sum(map(len, self.gpus)) if self.gpus else self.ranks_per_node * self.gpus_per_rank


def meet(one: Request, other: Request) -> bool:
    """Whether two components have a node in common."""
    return not set(one.nodes).isdisjoint(other.nodes)


def check_lists(system: SystemConfig, requests: Sequence[Request], name: str) -> set[str]:
    """Check the explicit lists of cores and GPUs; return the components whose lists have something twice.

    Raises ImpossiblePlacement, with all that is wrong, where they name what is not there or is reserved, or have
    something twice on a system that does not let ranks share.
    """
    problems = [problem for request in requests for problem in _not_there(system, request)]
    overlapping: set[str] = set()
    for kind in ("cores", "gpus"):
        ranks = [(request, rank, set(own)) for request in requests for rank, own in enumerate(getattr(request, kind))]
        for (one, one_rank, mine), (other, other_rank, theirs) in combinations(ranks, 2):
            if meet(one, other) and mine & theirs:
                overlapping |= {one.component, other.component}
                both = f"{one.component}.{kind}[{one_rank}] and {other.component}.{kind}[{other_rank}]"
                problems += [] if system.oversubscribe else [f"{both} both have {_listing(mine & theirs)}"]
    if problems:
        raise ImpossiblePlacement(
            f"{name} asks for what cannot be had on system '{system.name}': {'; '.join(problems)}."
        )
    return overlapping


def find_crowded(system: SystemConfig, requests: Sequence[Request], name: str) -> set[str]:
    """Return the components that have to share cores, because some node has too few, directly or by way of others.

    Raises ImpossiblePlacement where GPUs are too few, or cores, and the system does not let ranks share them.
    """
    crowded: set[str] = set()
    usable = set(usable_cores(system))
    for node in sorted({node for request in requests for node in request.nodes}):
        here = [request for request in requests if node in request.nodes and not request.optional]
        listed = {core % first_threads(system) for request in here for own in request.cores for core in own}
        listed_gpus = {gpu for request in here for own in request.gpus for gpu in own}
        wanted = sum(request.ranks_per_node * request.cores_per_rank for request in here if not request.cores)
        wanted_gpus = sum(request.ranks_per_node * request.gpus_per_rank for request in here if not request.gpus)
        widest = max((request.cores_per_rank for request in here if not request.cores), default=0)
        if wanted_gpus > len(set(system.gpus) - listed_gpus):
            raise _too_many_gpus(system, here, name)
        if wanted > len(usable - listed):
            if not system.oversubscribe or widest > len(usable):
                raise too_much(system, requests, here[0], name)
            crowded |= {request.component for request in here}
    while True:
        more = {
            one.component for one in requests for other in requests if other.component in crowded and meet(one, other)
        }
        if more <= crowded:
            return crowded
        crowded |= more


def too_much(system: SystemConfig, requests: Sequence[Request], request: Request, name: str) -> ImpossiblePlacement:
    """Return the error for what `request` and those that share a node with it ask for, and cannot have."""
    here = [other for other in requests if meet(request, other) and other.wanted_cores]
    asked = ", ".join(f"{other.component} {_product(other)}" for other in here)
    return ImpossiblePlacement(
        f"{name} asks for {sum(other.wanted_cores for other in here)} cores per node ({asked}); system '{system.name}' "
        f"has {len(usable_cores(system))} for ranks. Lower ranks_per_node or cores_per_rank, put components on nodes "
        "of their own (layout: apart), or let ranks share cores (oversubscribe: true in system.yaml; times then "
        "include waiting for a core)."
    )


def _too_many_gpus(system: SystemConfig, here: Sequence[Request], name: str) -> ImpossiblePlacement:
    wanting = [request for request in here if request.wanted_gpus]
    asked = ", ".join(f"{request.component} {request.wanted_gpus}" for request in wanting)
    return ImpossiblePlacement(
        f"{name} asks for {sum(request.wanted_gpus for request in wanting)} GPUs per node ({asked}); system "
        f"'{system.name}' has {len(system.gpus)} ({', '.join(system.gpus) or 'none; gpus in system.yaml'}). Lower "
        "ranks_per_node or gpus_per_rank, or put components on nodes of their own (layout: apart)."
    )


def _not_there(system: SystemConfig, request: Request) -> Iterator[str]:
    cores = nameable_cores(system)
    for rank, own in enumerate(request.cores):
        key = f"{request.component}.cores[{rank}]"
        if reserved := set(own) & set(system.reserved_cores):
            yield f"{key} names core {ranges_text(reserved)}, which is reserved"
        if beyond := set(own) - cores - set(system.reserved_cores):
            yield f"{key} names core {ranges_text(beyond)}; there are {ranges_text(cores)}"
        if len(set(own)) < len(own):
            yield f"{key} names a core twice"
    for rank, ids in enumerate(request.gpus):
        if unknown := [gpu for gpu in ids if gpu not in system.gpus]:
            there = ", ".join(system.gpus) or "none (gpus in system.yaml)"
            yield f"{request.component}.gpus[{rank}] names {', '.join(unknown)}; there are {there}"


def _listing(things: set[int] | set[str]) -> str:
    return ", ".join(map(str, sorted(things, key=str)))


def _product(request: Request) -> str:
    return (
        f"{request.wanted_cores} by its list"
        if request.cores
        else f"{request.ranks_per_node} x {request.cores_per_rank}"
    )
