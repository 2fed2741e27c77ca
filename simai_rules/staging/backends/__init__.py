"""The client halves of the backends, one module each, imported when a run uses them."""

from importlib import import_module

from simai_rules.staging.backend import Backend
from simai_rules.staging.errors import StagingError
from simai_rules.staging.info import ServerInfo

NAMES = ("filesystem", "node-local", "redis")


def connect(info: ServerInfo, deadline_ns: int) -> Backend:
    """Connect to the server that `info` describes.

    Raises StagingError for an unknown backend or an address that lacks something, ServerLost where the server is not
    there or is not the one of this run.
    """
    if info.backend not in NAMES:
        raise StagingError(f"There is no staging backend {info.backend!r}. Known: {', '.join(NAMES)}.")
    module = import_module(f"{__name__}.{info.backend.replace('-', '_')}")
    try:
        backend: Backend = module.connect(info, deadline_ns)
    except KeyError as missing:
        raise StagingError(
            f"The address of the {info.backend} server lacks {missing}: {sorted(info.address)}. It is written by the "
            "server into server.json; start the server again."
        ) from None
    return backend
