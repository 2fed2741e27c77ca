"""Placement: which cores the ranks of each component get on every node of a point."""

import os
from dataclasses import dataclass

from simai_rules.config.components import ComponentConfig
from simai_rules.config.experiment import Point
from simai_rules.config.system import SystemConfig
from simai_rules.errors import UserError


class ImpossiblePlacement(UserError):
    """More cores are asked for than the nodes have."""


@dataclass(frozen=True)
class Placement:
    """Where one component runs."""

    component: str
    hosts: tuple[str, ...]
    cores: tuple[tuple[int, ...], ...]
    """Core numbers per local rank, the same on every node."""
    shared: bool
    """Whether ranks share cores because there are too few: times then include waiting for a core."""

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each node."""
        return len(self.cores)

    @property
    def ranks(self) -> int:
        """Ranks on all nodes."""
        return len(self.cores) * len(self.hosts)


def usable_cores(system: SystemConfig) -> list[int]:
    """Return the core numbers that ranks may be placed on: what the system says, else this process's own cores."""
    present = range(system.cores) if system.cores else sorted(os.sched_getaffinity(0))
    return [core for core in present if core not in system.reserved_cores]


def place(point: Point, hosts: tuple[str, ...]) -> dict[str, Placement]:
    """Return the placement of each component of `point` on `hosts`; every node looks the same.

    With layout apart, the simulation gets the first half of the hosts and the training the other. Components that share
    a node get disjoint cores, rank by rank in core order. Where cores are too few, they are dealt
    out in turn if the system allows ranks to share them; else ImpossiblePlacement is raised.
    """
    components: dict[str, ComponentConfig] = {"simulation": point.simulation, "training": point.training}
    cores = usable_cores(point.system)
    apart = point.layout == "apart"
    half = len(hosts) // 2
    nodes = {"simulation": hosts[:half], "training": hosts[half:]} if apart else dict.fromkeys(components, hosts)
    of_each = [config.ranks_per_node * config.cores_per_rank for config in components.values()]
    needed = max(of_each) if apart else sum(of_each)
    shared = needed > len(cores)
    widest = max(config.cores_per_rank for config in components.values())
    if not cores or widest > len(cores) or (shared and not point.system.oversubscribe):
        asked = ", ".join(f"{n} {c.ranks_per_node} x {c.cores_per_rank}" for n, c in components.items())
        raise ImpossiblePlacement(
            f"Point {point.path} asks for {needed} cores per node ({asked}); system '{point.system.name}' has "
            f"{len(cores)} for ranks. Lower ranks_per_node or cores_per_rank, or let ranks share cores "
            "(oversubscribe: true in system.yaml; times then include waiting for a core)."
        )
    placements = {}
    position = 0
    for name, config in components.items():
        # Where cores are shared, each component starts at the first core again: rank r of one component is then beside
        # rank r of the other, as in the pattern one-to-one.
        position = 0 if shared or apart else position
        per_rank = []
        for _ in range(config.ranks_per_node):
            per_rank.append(tuple(cores[(position + i) % len(cores)] for i in range(config.cores_per_rank)))
            position += config.cores_per_rank
        placements[name] = Placement(name, nodes[name], tuple(per_rank), shared)
    return placements
