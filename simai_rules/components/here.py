"""Whether the components of a point can be made on this machine, where it is the one that they will run on."""

import os
import sys

from simai_rules.config.experiment import Point
from simai_rules.errors import UserError
from simai_rules.kernels.check import check_kernels
from simai_rules.launch.allocation import allocation_of


def check_here(point: Point) -> None:
    """Raise UserError with what keeps the kernels or the user's own model of `point` from being made.

    Nothing is looked at where the ranks may run on other nodes: those may have devices and packages that are missing
    here. The ranks look themselves, before anything is exchanged.
    """
    system = point.system
    if system.scheduler != "none" or system.hostfile or allocation_of(system).name != "local":
        return
    problems = []
    simulation = point.simulation
    ranks = point.ranks_of("simulation")
    try:
        check_kernels(simulation.all_kernels(), ranks=ranks, ranks_per_node=ranks)
    except UserError as error:
        problems.append(str(error))
    if point.training.model.by_import_path:
        if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - the ranks are started by `python -m`, which adds it
            sys.path.append(here)
        try:
            from simai_rules.components.network import build

            build(point.training.model, point.seed)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
