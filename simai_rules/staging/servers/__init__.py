"""The server halves of the backends, one module each, imported when a run uses them."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from simai_rules.config.backends import BackendBase
from simai_rules.config.registry import third_party, third_party_module
from simai_rules.staging.server import Run, Server
from simai_rules.staging.servers.manager import ServerManager, parse_config, server_registry

__all__ = ["ServerManager", "make_part", "make_server", "parse_config", "server_registry"]


def make_server(config: BackendBase, run: Run, hosts: Sequence[str], needed: int) -> Server:
    """Return the server of the backend that `config` is of; `needed` bytes may be staged at the same time."""
    server: Server = _module(config).make_server(config, run, hosts, needed)
    return server


def make_part(config: BackendBase, run: Run, hosts: Sequence[str], needed: int, order: dict[str, Any]) -> Server:
    """Return the part of the server on a node that is not the first; see OnNodes."""
    server: Server = _module(config).make_part(config, run, hosts, needed, order)
    return server


def _module(config: BackendBase) -> ModuleType:
    if config.type in third_party():
        return third_party_module(config.type)
    return import_module(f"{__name__}.{config.type.replace('-', '_')}")
