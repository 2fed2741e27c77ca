"""NCCL as a link between ranks, through CuPy; RCCL on AMD GPUs. Not run on real GPUs."""

import math
from typing import Any

from simai_rules.errors import UserError
from simai_rules.kernels.base import real_parts
from simai_rules.kernels.devices.device import Device
from simai_rules.kernels.links import Link


class NcclLink(Link):
    """Ranks with a GPU each. Work goes to the current stream; complex numbers travel as pairs of real ones."""

    def __init__(self, comm: Any, device: Device) -> None:
        from cupy.cuda import nccl

        self._nccl, self._stream = nccl, device.module.cuda.get_current_stream
        self._device = device
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        # One rank makes the id: with ids of their own, ranks would wait for each other for ever.
        number = comm.bcast(nccl.get_unique_id() if self.rank == 0 else None)
        try:
            self._comm = nccl.NcclCommunicator(self.size, number, self.rank)
        except nccl.NcclError as error:
            raise UserError(
                f"NCCL cannot join {self.size} ranks ({error}). Each needs a GPU of its own: look at gpus_per_rank and "
                "the system's GPUs; NCCL_DEBUG=WARN says more."
            ) from error

    def _as_real(self, array: Any) -> tuple[int, int, int]:
        """Return the address of `array`, how many real numbers it has, and NCCL's name for their type."""
        parts = real_parts(array)
        kind = self._nccl.NCCL_FLOAT32 if parts.dtype.itemsize == 4 else self._nccl.NCCL_FLOAT64
        return self._device.pointer(parts), math.prod(parts.shape), kind

    def all_reduce(self, send: Any, receive: Any) -> None:
        """Do ncclAllReduce."""
        sent, count, kind = self._as_real(send)
        received = self._device.pointer(receive)
        self._comm.allReduce(sent, received, count, kind, self._nccl.NCCL_SUM, self._stream().ptr)

    def all_gather(self, send: Any, receive: Any) -> None:
        """Do ncclAllGather."""
        sent, count, kind = self._as_real(send)
        self._comm.allGather(sent, self._device.pointer(receive), count, kind, self._stream().ptr)

    def bcast(self, array: Any) -> None:
        """Do ncclBcast."""
        place, count, kind = self._as_real(array)
        self._comm.bcast(place, count, kind, 0, self._stream().ptr)

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        """Do ncclReduceScatter."""
        received, count, kind = self._as_real(receive)
        sent = self._device.pointer(send)
        self._comm.reduceScatter(sent, received, count, kind, self._nccl.NCCL_SUM, self._stream().ptr)

    def all_to_all(self, send: Any, receive: Any) -> None:
        """A send to and a receive from each rank, in one group."""
        sent, count, kind = self._as_real(send)
        received, part = self._device.pointer(receive), count // self.size
        stride, stream = part * (4 if kind == self._nccl.NCCL_FLOAT32 else 8), self._stream().ptr
        self._nccl.groupStart()
        for peer in range(self.size):
            self._comm.send(sent + peer * stride, part, kind, peer, stream)
            self._comm.recv(received + peer * stride, part, kind, peer, stream)
        self._nccl.groupEnd()

    def exchange(self, send: Any, to: int, receive: Any, source: int) -> None:
        """A send and a receive in one group."""
        sent, count, kind = self._as_real(send)
        stream = self._stream().ptr
        self._nccl.groupStart()
        self._comm.send(sent, count, kind, to, stream)
        self._comm.recv(self._device.pointer(receive), count, kind, source, stream)
        self._nccl.groupEnd()
