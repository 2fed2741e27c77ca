"""The server half of node-local."""

from collections.abc import Sequence

from simai_rules.config.backends import NodeLocalConfig
from simai_rules.staging.server import Run
from simai_rules.staging.servers.files import FileServer


def make_server(config: NodeLocalConfig, run: Run, hosts: Sequence[str], needed: int) -> FileServer:  # noqa: ARG001
    """Return the server that makes the run's folder in the node's memory or on its disk."""
    return FileServer(config, run, needed)
