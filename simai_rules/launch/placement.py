"""Placement: which nodes, cores and GPUs the ranks of each component of a point get, and its staging server."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from simai_rules.config.components import ComponentConfig
from simai_rules.config.experiment import Point
from simai_rules.config.system import SystemConfig
from simai_rules.launch.node import Node
from simai_rules.launch.request import ImpossiblePlacement, Request, check_lists, find_crowded, meet, too_much

__all__ = ["ImpossiblePlacement", "Placement", "Request", "check_placements", "made_up_hosts", "place", "plan"]


@dataclass(frozen=True)
class Placement:
    """Where one component runs. Rank r is on hosts[r // ranks_per_node], where it is local rank r % ranks_per_node."""

    component: str
    hosts: tuple[str, ...]
    """In the order of the allocation."""
    cores: tuple[tuple[int, ...], ...]
    """Core numbers per local rank, the same on every node; a rank without any is not bound."""
    shared: bool
    """Whether ranks share cores because there are too few: times then include waiting for a core."""
    gpus: tuple[tuple[str, ...], ...] = ()
    """GPUs per local rank, the same on every node; () where no rank gets any."""
    gpu_variable: str = ""
    """The environment variable that shows a rank its GPUs."""
    alone: bool = True
    """Whether the run has no other nodes than its own."""

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each node."""
        return len(self.cores)

    @property
    def ranks(self) -> int:
        """Ranks on all nodes."""
        return len(self.cores) * len(self.hosts)


def place(point: Point, hosts: Sequence[str]) -> dict[str, Placement]:
    """Return the placement of "simulation", "training" and "server" for `point` on its nodes `hosts`.

    The server's has one entry per node, with the cores of all its processes there. Raises ImpossiblePlacement.
    """
    if len(hosts) != point.nodes:
        raise ImpossiblePlacement(
            f"Point {point.path} is for {point.nodes} nodes, but {len(hosts)} are there: {', '.join(hosts)}."
        )
    try:
        selected = point.selection(hosts)
    except ValueError as error:
        raise ImpossiblePlacement(f"Point {point.path}: {error}.") from None
    requests = [
        Request(
            name,
            tuple(int(node) for node in selected[name]),
            config.ranks_per_node,
            config.cores_per_rank,
            config.gpus_per_rank,
            tuple(map(tuple, config.cores)),
            tuple(map(tuple, config.gpus)),
        )
        for name, config in point.components.items()
    ]
    requests.append(_server(point, {name: tuple(map(int, nodes)) for name, nodes in selected.items()}))
    return plan(point.system, hosts, requests, f"Point {point.path}")


def check_placements(points: Iterable[Point]) -> None:
    """Raise ImpossiblePlacement, before anything runs, where points cannot be placed; each cause is told once.

    Points whose nodes are listed by name are left to `place`, as are machines with a batch system whose cores are not
    described: this process may be on a login node.
    """
    causes: dict[str, list[str]] = {}
    seen: dict[Any, str] = {}
    for point in points:
        components = point.components.values()
        named = any(isinstance(node, str) for each in components if isinstance(each.nodes, list) for node in each.nodes)
        if named or (point.system.cores is None and point.system.scheduler != "none"):
            continue
        shape = [each.model_dump_json(include=set(ComponentConfig.model_fields)) for each in components]
        key = (point.nodes, point.layout, *shape, point.staging.server_nodes, point.staging.server_cores)
        key += (point.server.everywhere, point.server.busy_cores(point.nodes), id(point.system))
        if key not in seen:
            try:
                place(point, made_up_hosts(point))
                seen[key] = ""
            except ImpossiblePlacement as error:
                seen[key] = str(error)
        if seen[key]:
            causes.setdefault(seen[key], []).append(point.path)
    if causes:
        texts = [
            text + (f" (and {len(paths) - 1} more points)" if len(paths) > 1 else "") for text, paths in causes.items()
        ]
        raise ImpossiblePlacement("\n  ".join(texts))


def made_up_hosts(point: Point) -> tuple[str, ...]:
    """Return names for the nodes of `point` before it has any: node0, node1 and so on."""
    return tuple(f"node{number}" for number in range(point.nodes))


def plan(
    system: SystemConfig, hosts: Sequence[str], requests: Sequence[Request], name: str = "The run"
) -> dict[str, Placement]:
    """Return a placement for each of `requests` on `hosts`, by component; what asks for no core is not bound.

    Requests with a common node get disjoint cores and GPUs: explicit lists first, then what wants GPUs, then the
    others, each in the order given. The cores and GPUs of a rank come from one NUMA domain where one has enough. Where
    cores are too few and the system lets ranks share them, each component begins at the first core again and its ranks
    are dealt out in turn. Raises ImpossiblePlacement with what is asked (by `name`) and what there is.
    """
    overlapping = check_lists(system, requests, name)
    crowded = find_crowded(system, requests, name)
    found: dict[str, Placement] = {}
    for request in sorted(requests, key=_turn):
        node = Node(system)
        for other in requests:
            if other.component in found and meet(request, other):
                beside = found[other.component]
                node.take(() if other.component in crowded else beside.cores, beside.gpus)
        shared = request.component in crowded | overlapping
        has_cores = request.cores
        if request.component in crowded and not has_cores:
            width = 0 if request.optional else request.cores_per_rank
            has_cores = Node(system).deal(request.ranks_per_node, width)
        try:
            cores, gpus = node.choose(
                request.ranks_per_node, request.cores_per_rank, request.gpus_per_rank, has_cores, request.gpus
            )
        except LookupError:
            if not (request.optional and system.oversubscribe):
                raise too_much(system, requests, request, name) from None
            cores, gpus, shared = ((),) * request.ranks_per_node, (), True
        found[request.component] = Placement(
            request.component,
            tuple(hosts[node] for node in sorted(request.nodes)),
            cores,
            shared,
            gpus if any(gpus) else (),
            (system.gpu_variable or "") if any(gpus) else "",
            alone=len(request.nodes) == len(hosts),
        )
    return {request.component: found[request.component] for request in requests}


def _turn(request: Request) -> tuple[bool, bool, bool, int]:
    """Return the key of the order in which requests are served; of equal ones, that with more nodes comes first."""
    return request.optional, not (request.cores or request.gpus), not request.gpus_per_rank, -len(request.nodes)


def _server(point: Point, selected: dict[str, tuple[int, ...]]) -> Request:
    """Return what the staging server asks for."""
    everywhere = sorted({node for nodes in selected.values() for node in nodes})
    where = point.staging.server_nodes
    nodes = selected["server"] if where == "own" else everywhere if point.server.everywhere else selected[where][:1]
    busy = point.server.busy_cores(len(nodes))
    given = point.staging.server_cores
    return Request("server", tuple(nodes), 1, busy if given is None else given, optional=given is None and busy > 0)
