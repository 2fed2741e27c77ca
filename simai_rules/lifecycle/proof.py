"""The proof of a staging server: from every node that will use it, a put and a get as a client there would do them."""

import time
from collections.abc import Callable, Sequence

from simai_rules.config.backends import Sharing
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import ServerFailed

_LOOK_EVERY_S = 0.02


def provers(sharing: Sharing, index: int, clients: Sequence[int]) -> list[int]:
    """Return the nodes whose values node `index` has to get in the proof: those that will use the server, `clients`.

    Where values reach all nodes, the first one takes part in any case. [] where this node has nothing to prove.
    """
    if sharing == "job":
        nodes = sorted({0, *clients})
        return nodes if index in nodes else []
    return [index] if index in clients else []


def prove(info: ServerInfo, index: int, sources: Sequence[int], timeout: float, proceed: Callable[[], None]) -> None:
    """Put a value from node `index` and get it back, and those that others in `sources` have put.

    The first node gets those of all. The others get the first one's and that of the node before them: if each of n
    nodes got all, a parallel file system would be asked for n² files.

    Raises ServerFailed where a value does not come within `timeout` seconds or is not what was put, StagingError where
    the server cannot be used, and what `proceed` raises.
    """
    host = _name(info, index)
    with DataStore(f"the proof on {host}", info, timeout=timeout) as store:
        store.stage_write(_key(index), _value(info, index))
        deadline = time.monotonic() + timeout
        for source in gotten(index, sources):
            while not store.poll_staged_data(_key(source)):
                if time.monotonic() > deadline or source == index:
                    raise ServerFailed(f"what was put on {_name(info, source)} could not be got on {host}")
                proceed()
                time.sleep(_LOOK_EVERY_S)
            answer = store.stage_read(_key(source))
            if answer != _value(info, source):
                raise ServerFailed(
                    f"the {info.backend} server gave {answer!r} on {host} for {_value(info, source)!r}, which was put "
                    f"on {_name(info, source)}"
                )


def gotten(index: int, sources: Sequence[int]) -> list[int]:
    """Return the nodes in `sources` whose values node `index`, which is one of them, has to get."""
    if index == sources[0]:
        return list(sources)
    return sorted({sources[0], sources[sources.index(index) - 1], index})


def remove_proof(info: ServerInfo, sources: Sequence[int], timeout: float) -> None:
    """Remove what the nodes in `sources` have put; call it when every node has had it."""
    with DataStore("the proof", info, timeout=timeout) as store:
        for source in sources:
            store.clean_staged_data(_key(source))


def _key(index: int) -> str:
    return f"serve/proof/{index}"


def _value(info: ServerInfo, index: int) -> str:
    return f"{info.run_id} {index}"


def _name(info: ServerInfo, index: int) -> str:
    return info.hosts[index] if info.hosts else "this node"
