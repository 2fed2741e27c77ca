"""Machines for the tests of placement and launchers."""

from simai_rules.config.system import SystemConfig
from simai_rules.config.system_files import load_system
from simai_rules.launch.placement import Request
from simai_rules.resources import shipped

AURORA: SystemConfig = load_system("aurora", shipped("profiles").parent)

# What the components ask for on Aurora: one-to-one beside each other on two nodes, many-to-one on four and one.
ONE_TO_ONE = [Request("simulation", (0, 1), 6, 8, 1), Request("training", (0, 1), 6, 8, 1)]
MANY_TO_ONE = [Request("simulation", (0, 1, 2, 3), 12, 8, 1), Request("training", (4,), 12, 8, 1)]
