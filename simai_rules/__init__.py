"""simai-rules: which data transport should couple a simulation and an AI model, answered by experiment.

The names below are imported on first use, so that `import simai_rules` stays fast: torch, mpi4py and numpy are only
loaded by what needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simai_rules.components.ai import AI
    from simai_rules.components.simulation import Simulation
    from simai_rules.staging.datastore import DataStore
    from simai_rules.staging.servers import ServerManager, server_registry

__version__ = "0.1.0"
__all__ = ["AI", "DataStore", "ServerManager", "Simulation", "__version__", "server_registry"]

_HOMES = {
    "AI": "simai_rules.components.ai",
    "DataStore": "simai_rules.staging.datastore",
    "ServerManager": "simai_rules.staging.servers",
    "Simulation": "simai_rules.components.simulation",
    "server_registry": "simai_rules.staging.servers",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module the first time that it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'simai_rules' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
