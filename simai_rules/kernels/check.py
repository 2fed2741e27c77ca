"""Whether all kernels of a component can be made, before any of them is: one message with every problem."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, Setup
from simai_rules.kernels.devices.device import Device
from simai_rules.kernels.node import of_node
from simai_rules.kernels.registry import kernel_class, open_on


class _Need(NamedTuple):
    """What kernels need of one memory (this node's, or a GPU's), and what it has left, in bytes."""

    names: tuple[str, ...]
    total: int
    left: int


def check_kernels(
    configs: Sequence[KernelConfig], comm: Any | None = None, *, ranks: int = 1, ranks_per_node: int = 1
) -> None:
    """Raise one UserError with all that keeps these kernels from being made here.

    That is: a device or a package that is not there, a dtype that the device lacks, operands that are larger than the
    memory that is left (each kernel's, or those of all kernels of all ranks that share the memory), ranks that do not
    divide the data, a folder that is not there, an import path that leads nowhere. Nothing is allocated.

    comm: the mpi4py communicator of the ranks that will run them, all of which have to call this. Without it, this
    process stands for `ranks` ranks, of which `ranks_per_node` share this node's memory. Packages are loaded and
    devices opened.
    """
    concerned: dict[str, list[str]] = {}
    made: list[Kernel] = []
    for config in configs:
        try:
            expected = ranks if comm is None else comm.Get_size()
            setup = Setup(config, np.random.default_rng(0), open_on(config, comm), comm, expected=expected)
            made.append(kernel_class(config)(setup, prepare=False))
        except UserError as error:
            concerned.setdefault(str(error), []).append(config.name)
    # Which GPUs other ranks would have, this process cannot know.
    others = _needs([kernel for kernel in made if not kernel.first_rank_only and kernel.device.place == Device.place])
    together = _together(_needs(made), others, comm, ranks_per_node)  # collective, so also where there are problems
    problems = [_of_kernels(text, names) for text, names in concerned.items()] or together
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        raise UserError(f"{len(problems)} problems with kernels:" + "".join(f"\n  {text}" for text in problems))


def _of_kernels(problem: str, names: list[str]) -> str:
    """Return the problem with the kernels that have it, where it does not name them itself: that of a device."""
    if problem.startswith("kernel "):
        return problem
    distinct = list(dict.fromkeys(names))
    return f"kernel{'s' if len(distinct) > 1 else ''} {', '.join(distinct)}: {problem}"


def _needs(kernels: list[Kernel]) -> dict[str, _Need]:
    """Return what these kernels of one rank need, by the memory's name."""
    needs = {}
    for place in dict.fromkeys(kernel.device.place for kernel in kernels):
        there = [kernel for kernel in kernels if kernel.device.place == place]
        names = tuple(dict.fromkeys(kernel.name for kernel in there))
        needs[place] = _Need(names, sum(kernel.memory() for kernel in there), there[0].device.memory())
    return needs


def _together(mine: dict[str, _Need], others: dict[str, _Need], comm: Any | None, ranks_per_node: int) -> list[str]:
    """Return where the needs of the ranks of this node exceed what is left.

    mine: of this rank; others: of each other one, as far as this process stands for them.
    """
    local = of_node(comm)
    of_ranks = [mine] if local is None else local.allgather(mine)
    if comm is None:
        of_ranks += [others] * (ranks_per_node - 1)
    problems = []
    for place in dict.fromkeys(place for needs in of_ranks for place in needs):
        there = [needs[place] for needs in of_ranks if place in needs]
        total, left = sum(need.total for need in there), min(need.left for need in there)
        if total > left:
            names = ", ".join(dict.fromkeys(name for need in there for name in need.names))
            who = f"{len(there)} ranks" if len(there) > 1 else "one rank"
            fewer = ", or put fewer ranks there" if len(there) > 1 else ""
            problems.append(
                f"The operands of the kernels {names} of {who} take {total / 1e9:.3g} GB together, but {place} has "
                f"{left / 1e9:.3g} GB of memory left. Give smaller data_sizes{fewer}."
            )
    return problems
