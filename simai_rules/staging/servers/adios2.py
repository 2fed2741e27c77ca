"""The server half of adios2: the run's folder and the engine's parameters. SST needs no process of its own."""

from collections.abc import Sequence
from typing import Any

from simai_rules.config.backends import Adios2Config
from simai_rules.staging.backends.adios2 import bindings
from simai_rules.staging.interface import address_of
from simai_rules.staging.server import Run
from simai_rules.staging.servers.files import FileServer


def make_server(config: Adios2Config, run: Run, hosts: Sequence[str], needed: int) -> "Adios2Server":  # noqa: ARG001
    """Return the server that makes the run's folder; what lies unread is in the writers' memory, not there."""
    return Adios2Server(config, run, 0)


class Adios2Server(FileServer):
    """Makes the folder for contact files and values by key, and says how its streams are to be opened."""

    config: Adios2Config
    makes_parents = True

    def start(self) -> dict[str, Any]:
        """Make the folder; raises MissingProgram without the package, ServerFailed for an unknown interface."""
        bindings()
        address_of(self.config.interface, "backends.adios2.interface")
        return super().start() | {
            "streams": self.config.model_dump(include={"queue_limit", "queue_policy", "data_transport", "interface"})
        }
