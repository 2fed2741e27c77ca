"""Which node of an allocation this process is on."""

import os
import platform
import socket
from collections.abc import Sequence

from simai_rules.errors import UserError


def this_node(nodes: Sequence[str]) -> str:
    """Return the name among `nodes` of the node that this process runs on.

    It is what a launch or Slurm has said ($SIMAI_NODE, $SLURMD_NODENAME: several nodes may be one machine, in tests),
    else the host name, full or short, else the name that has an address of this machine. Raises UserError where none
    of `nodes` is this one.
    """
    told = [os.environ.get(name) for name in ("SIMAI_NODE", "SLURMD_NODENAME")]
    for node in told:
        if node in nodes:
            return str(node)
    here = platform.node()
    found = next((node for node in nodes if node == here), None)
    found = found or next((node for node in nodes if _short(node) == _short(here)), None)
    found = found or next((node for node in nodes if has_address_of_this_machine(node)), None)
    if found is None:
        raise UserError(
            f"This process runs on {here}, which is none of the nodes {', '.join(nodes)}, neither by name nor by "
            "address. Run it inside the job, on one of its nodes, or correct the host file (hostfile in system.yaml)."
        )
    return found


def is_here(node: str) -> bool:
    """Whether `node` is the machine that this process runs on, by any of its names."""
    try:
        return this_node([node]) == node
    except UserError:
        return False


def has_address_of_this_machine(node: str) -> bool:
    """Whether an address of the name `node` belongs to an interface of this machine: a socket can be bound to it."""
    try:
        found = socket.getaddrinfo(node, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
        except OSError:
            continue
    return False


def _short(node: str) -> str:
    """Return the name of a node without its domain; an address stays whole."""
    return node if node.replace(".", "").isdigit() else node.partition(".")[0]
