"""The server half of filesystem."""

from collections.abc import Sequence

from simai_rules.config.backends import FilesystemConfig
from simai_rules.staging.server import Run
from simai_rules.staging.servers.files import FileServer


def make_server(config: FilesystemConfig, run: Run, hosts: Sequence[str], needed: int) -> FileServer:  # noqa: ARG001
    """Return the server that makes the run's folder on the file system."""
    return FileServer(config, run, needed)
