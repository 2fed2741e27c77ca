"""The client halves of the backends, one module each, imported when a run uses them."""

from importlib import import_module
from types import ModuleType

from simai_rules.staging.backend import Backend
from simai_rules.staging.errors import StagingError
from simai_rules.staging.info import ServerInfo

BUILT_IN = (
    "filesystem",
    "node-local",
    "redis",
    "redis-cluster",
    "dragon",
    "daos-posix",
    "daos-kv",
    "adios2",
    "null",
)


def connect(info: ServerInfo, deadline_ns: int) -> Backend:
    """Connect to the server that `info` describes.

    Raises StagingError for an unknown backend or an address that lacks something, ServerLost where the server is not
    there or is not the one of this run.
    """
    try:
        backend: Backend = _module(info.backend).connect(info, deadline_ns)
    except KeyError as missing:
        raise StagingError(
            f"The address of the {info.backend} server lacks {missing}: {sorted(info.address)}. It is written by the "
            "server into server.json; start the server again."
        ) from None
    except (TypeError, ValueError) as error:
        raise StagingError(
            f"The address of the {info.backend} server is none ({error}). It is written by the server into "
            "server.json; start the server again."
        ) from None
    return backend


def _module(name: str) -> ModuleType:
    if name in BUILT_IN:
        return import_module(f"{__name__}.{name.replace('-', '_')}")
    # The registry takes pydantic, which a client of our own backends does without.
    from simai_rules.config.registry import broken, third_party, third_party_module

    if name in third_party() and name not in broken():
        return third_party_module(name)
    known = ", ".join([*BUILT_IN, *third_party()])
    raise StagingError(broken().get(name) or f"There is no staging backend {name!r}. Known: {known}.")
