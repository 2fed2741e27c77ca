"""The server halves of the backends, one module each, imported when a run uses them."""

from collections.abc import Sequence
from importlib import import_module

from simai_rules.config.backends import BackendBase
from simai_rules.config.registry import third_party, third_party_module
from simai_rules.staging.server import Run, Server
from simai_rules.staging.servers.manager import ServerManager, parse_config, server_registry

__all__ = ["ServerManager", "make_server", "parse_config", "server_registry"]


def make_server(config: BackendBase, run: Run, hosts: Sequence[str], needed: int) -> Server:
    """Return the server of the backend that `config` is of; `needed` bytes may be staged at the same time."""
    if config.type in third_party():
        module = third_party_module(config.type)
    else:
        module = import_module(f"{__name__}.{config.type.replace('-', '_')}")
    server: Server = module.make_server(config, run, hosts, needed)
    return server
