"""The cores and GPUs of a node while ranks are placed on it, near each other by NUMA."""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

from simai_rules.config.ranges import HIGHEST_CORE
from simai_rules.config.system import SystemConfig

Cores = tuple[int, ...]
Gpus = tuple[str, ...]
_T = TypeVar("_T")


def usable_cores(system: SystemConfig) -> list[int]:
    """Return the core numbers that the planner may choose: what the system says, else this process's own cores.

    Of a core with several hardware threads it is the first one.
    """
    present = range(system.cores) if system.cores else sorted(os.sched_getaffinity(0))
    return [core for core in present if core not in system.reserved_cores]


def nameable_cores(system: SystemConfig) -> set[int]:
    """Return the core numbers that explicit lists may name: the further hardware threads too, but no reserved ones."""
    present = range(system.cores * system.threads_per_core) if system.cores else os.sched_getaffinity(0)
    return set(present) - set(system.reserved_cores)


def first_threads(system: SystemConfig) -> int:
    """Return by what the numbers of a core's hardware threads differ; more than all numbers if it has one."""
    return system.cores if system.cores and system.threads_per_core > 1 else HIGHEST_CORE + 1


class Node:
    """What is free on a node. All nodes of a component are the same to the planner."""

    def __init__(self, system: SystemConfig) -> None:
        self._system = system
        self._free = usable_cores(system)
        self._gpus = list(system.gpus)
        self._domains = [(set(domain.cores), set(domain.gpus)) for domain in system.numa] or [
            (set(self._free), set(self._gpus))
        ]

    def take(self, cores: Iterable[Cores], gpus: Iterable[Gpus]) -> None:
        """Make what some ranks have no longer free; a core is taken with all its hardware threads."""
        taken = {core % first_threads(self._system) for own in cores for core in own}
        self._free = [core for core in self._free if core not in taken]
        self._gpus = [gpu for gpu in self._gpus if not any(gpu in own for own in gpus)]

    def choose(
        self, ranks: int, cores: int, gpus: int, has_cores: Sequence[Cores] = (), has_gpus: Sequence[Gpus] = ()
    ) -> tuple[tuple[Cores, ...], tuple[Gpus, ...]]:
        """Take `cores` cores and `gpus` GPUs for each of `ranks` ranks and return them, per rank.

        Where ranks have their cores or GPUs already, `has_…` names them per rank, and only the others are chosen, near
        them. Raises LookupError where fewer are free than are wanted.
        """
        chosen = []
        for rank in range(ranks):
            own_cores = has_cores[rank] if has_cores else ()
            own_gpus = has_gpus[rank] if has_gpus else ()
            more = self._one(0 if has_cores else cores, 0 if has_gpus else gpus, own_cores, own_gpus)
            chosen.append((own_cores or more[0], own_gpus or more[1]))
        return tuple(own for own, _ in chosen), tuple(own for _, own in chosen)

    def deal(self, ranks: int, cores: int) -> tuple[Cores, ...]:
        """Return `cores` cores for each of `ranks` ranks in turn, beginning again where there are no more."""
        count = len(self._free)
        return tuple(
            tuple(self._free[(rank * cores + number) % count] for number in range(cores)) for rank in range(ranks)
        )

    def _one(self, cores: int, gpus: int, has_cores: Cores, has_gpus: Gpus) -> tuple[Cores, Gpus]:
        """Take what one rank gets: from the first domain with enough of both, else each from the first with enough.

        The domains of what the rank has already come before the others.
        """
        domains = [
            ([core for core in self._free if core in own], [gpu for gpu in self._gpus if gpu in near])
            for own, near in sorted(
                self._domains, key=lambda domain: domain[0].isdisjoint(has_cores) and domain[1].isdisjoint(has_gpus)
            )
        ]
        enough = next((both for both in domains if len(both[0]) >= cores and len(both[1]) >= gpus), None)
        near_cores, near_gpus = enough or (
            _first([own for own, _ in domains], cores, self._free),
            _first([own for _, own in domains], gpus, self._gpus),
        )
        if len(near_cores) < cores or len(near_gpus) < gpus:
            raise LookupError
        chosen = tuple(near_cores[:cores]), tuple(near_gpus[:gpus])
        self._free = [core for core in self._free if core not in chosen[0]]
        self._gpus = [gpu for gpu in self._gpus if gpu not in chosen[1]]
        return chosen


def _first(lists: Sequence[list[_T]], count: int, otherwise: list[_T]) -> list[_T]:
    return next((each for each in lists if len(each) >= count), otherwise)
