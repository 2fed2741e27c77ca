"""The ranks of a component that share this machine."""

from typing import Any

_local: dict[int, Any] = {}


def of_node(comm: Any | None) -> Any | None:
    """Return the communicator of those ranks of `comm` that share this machine's memory; None: one process alone.

    A collective call, the first time.
    """
    if comm is None or comm.Get_size() == 1:
        return None
    if comm.handle not in _local:
        from mpi4py import MPI

        _local[comm.handle] = comm.Split_type(MPI.COMM_TYPE_SHARED)
    return _local[comm.handle]


def local_rank(comm: Any | None) -> int:
    """Return the number of this rank among those of its machine; a collective call, the first time."""
    local = of_node(comm)
    return 0 if local is None else int(local.Get_rank())
