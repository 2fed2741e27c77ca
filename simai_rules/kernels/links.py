"""How ranks exchange arrays: MPI, given memory of the host or of the device, or NCCL. One communicator per run.

Every method is called by all ranks. Arrays are contiguous, of one dtype, and `send` and `receive` are different ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import MissingProgram
from simai_rules.kernels.base import HostArray, Setup
from simai_rules.kernels.devices.device import Device


class Link(ABC):
    """Ranks 0 to size-1, of which this process is `rank`."""

    rank: int
    size: int

    @abstractmethod
    def all_reduce(self, send: Any, receive: Any) -> None:
        """Sum the ranks' `send` into everybody's `receive`, of the same size."""

    @abstractmethod
    def all_gather(self, send: Any, receive: Any) -> None:
        """Put the ranks' `send`, one after another, into everybody's `receive`."""

    @abstractmethod
    def bcast(self, array: Any) -> None:
        """Give rank 0's `array` to all."""

    @abstractmethod
    def reduce_scatter(self, send: Any, receive: Any) -> None:
        """Sum the ranks' `send` and give the r-th of its equal parts to rank r."""

    @abstractmethod
    def all_to_all(self, send: Any, receive: Any) -> None:
        """Give the s-th of the equal parts of rank r's `send` to rank s, as the r-th of its `receive`."""

    @abstractmethod
    def exchange(self, send: Any, to: int, receive: Any, source: int) -> None:
        """Send to one rank and receive from another; both may be this one."""


def link(setup: Setup) -> Link:
    """Return the link that a kernel's config asks for; the communicator below it is the same for all kernels.

    Raises UserError where NCCL cannot join the ranks.
    """
    comm = _own_communicator(setup.comm)
    if setup.config.library == "nccl":
        from simai_rules.kernels.nccl import NcclLink

        key = (comm.handle, setup.device.name)
        if key not in _nccl_links:
            _nccl_links[key] = NcclLink(comm, setup.device)
        return _nccl_links[key]
    mpi = MpiLink(comm, setup.device if setup.config.gpu_aware else None)
    return mpi if setup.device.is_host or setup.config.gpu_aware else ThroughHost(mpi, setup.device)


def check_link(config: KernelConfig) -> None:
    """Raise MissingProgram where the packages for the link of `config` cannot be loaded."""
    try:
        import mpi4py.MPI  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise MissingProgram(
            f"kernel {config.name}: mpi4py cannot be loaded ({error}). On a machine of your own: pip install "
            "'simai-rules[mpi]'. On a cluster load the modules of its MPI and its mpi4py."
        ) from error
    if config.library == "nccl":
        from cupy.cuda import nccl  # CuPy is there: it has opened the device

        if not nccl.available:
            raise MissingProgram(
                f"kernel {config.name}: library: nccl needs NCCL, which CuPy does not find: pip install "
                "nvidia-nccl-cu12 or nvidia-nccl-cu13, after your CUDA version. Or take library: mpi."
            )


_communicators: dict[int, Any] = {}
_nccl_links: dict[tuple[int, str], Link] = {}


def _own_communicator(comm: Any | None) -> Any:
    """Return a duplicate, whose messages cannot meet those of others on `comm`; None: of this process alone."""
    from mpi4py import MPI

    origin = MPI.COMM_SELF if comm is None else comm
    if origin.handle not in _communicators:
        _communicators[origin.handle] = origin.Dup()
    return _communicators[origin.handle]


class MpiLink(Link):
    """MPI on arrays of the host, or on those of `device` by their addresses: then MPI has to be GPU-aware."""

    def __init__(self, comm: Any, device: Device | None) -> None:
        from mpi4py import MPI

        self._mpi, self._comm, self._device = MPI, comm, device
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def _buffer(self, array: Any, blocks: int = 1) -> Any:
        """Return `array` as mpi4py takes it; of several equal blocks, MPI wants the size of one."""
        if self._device is None:
            return array
        self._device.synchronize()  # MPI knows nothing of the device's streams
        memory = self._mpi.memory.fromaddress(self._device.pointer(array), array.nbytes)
        return [memory, math.prod(array.shape) // blocks, self._mpi.Datatype.fromcode(array.dtype.char)]

    def all_reduce(self, send: Any, receive: Any) -> None:
        """Do MPI_Allreduce."""
        self._comm.Allreduce(self._buffer(send), self._buffer(receive))

    def all_gather(self, send: Any, receive: Any) -> None:
        """Do MPI_Allgather."""
        self._comm.Allgather(self._buffer(send), self._buffer(receive, self.size))

    def bcast(self, array: Any) -> None:
        """Do MPI_Bcast."""
        self._comm.Bcast(self._buffer(array))

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        """Do MPI_Reduce_scatter_block."""
        self._comm.Reduce_scatter_block(self._buffer(send, self.size), self._buffer(receive))

    def all_to_all(self, send: Any, receive: Any) -> None:
        """Do MPI_Alltoall."""
        self._comm.Alltoall(self._buffer(send, self.size), self._buffer(receive, self.size))

    def exchange(self, send: Any, to: int, receive: Any, source: int) -> None:
        """Do MPI_Sendrecv."""
        self._comm.Sendrecv(self._buffer(send), to, recvbuf=self._buffer(receive), source=source)


class ThroughHost(Link):
    """MPI for arrays of a device, which are copied to the host before and from it after; the copies are work too."""

    def __init__(self, mpi: MpiLink, device: Device) -> None:
        self._mpi, self._device = mpi, device
        self.rank, self.size = mpi.rank, mpi.size
        self._rooms: dict[tuple[Any, ...], HostArray] = {}

    def all_reduce(self, send: Any, receive: Any) -> None:
        """Through the host."""
        self._through(self._mpi.all_reduce, send, receive)

    def all_gather(self, send: Any, receive: Any) -> None:
        """Through the host."""
        self._through(self._mpi.all_gather, send, receive)

    def bcast(self, array: Any) -> None:
        """Through the host."""
        values = self._room("send", array)
        if self.rank == 0:
            self._device.copy_out(values, array)
        self._mpi.bcast(values)
        if self.rank > 0:
            self._device.copy_in(array, values)

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        """Through the host."""
        self._through(self._mpi.reduce_scatter, send, receive)

    def all_to_all(self, send: Any, receive: Any) -> None:
        """Through the host."""
        self._through(self._mpi.all_to_all, send, receive)

    def exchange(self, send: Any, to: int, receive: Any, source: int) -> None:
        """Through the host."""
        self._through(lambda sent, received: self._mpi.exchange(sent, to, received, source), send, receive)

    def _through(self, call: Callable[[HostArray, HostArray], None], send: Any, receive: Any) -> None:
        sent, received = self._room("send", send), self._room("receive", receive)
        self._device.copy_out(sent, send)
        call(sent, received)
        self._device.copy_in(receive, received)

    def _room(self, role: str, array: Any) -> HostArray:
        """Return memory of the host for `array`: the same at every call, since new pages would cost time."""
        key = (role, array.shape, array.dtype)
        if key not in self._rooms:
            self._rooms[key] = np.zeros(array.shape, array.dtype)
        return self._rooms[key]
