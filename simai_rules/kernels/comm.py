"""Kernels of communication between the ranks of the component.

`data_size` is the shape of what each rank has before the call, N elements; p is the number of ranks. The bytes are what
a rank has to send at least, after the bus bandwidth of nccl-tests (doc/PERFORMANCE.md there), so that the rates of
different kernels and numbers of ranks can be compared; for one rank they are 0. Each element of a sum counts one
operation (complex: two). The results are overwritten at every call and never become the next call's operands.
"""

from typing import Any

from simai_rules.kernels.base import Kernel, Setup, filled
from simai_rules.kernels.links import check_link, link


def agree(comm: Any | None, number: int) -> int:
    """Return the largest `number` of all ranks of `comm`; a collective call."""
    if comm is None:
        return number
    from mpi4py import MPI

    return int(comm.allreduce(number, op=MPI.MAX))


class CommKernel(Kernel):
    """Common to all: what is sent and what is received, on the device, and the link between the ranks.

    flops: 0, if nothing is summed; bytes: N·itemsize·(p-1)/p.
    """

    collective = True

    def _check(self, setup: Setup) -> None:
        super()._check(setup)
        check_link(setup.config)

    def _prepare(self, setup: Setup) -> None:
        self.link = link(setup)
        self._comm = setup.comm
        self.send = self.device.array(filled((self.size,), self.dtype, setup.rng))
        self.receive = self.device.zeros((self._received(),), self.dtype)

    def _received(self) -> int:
        """Elements that a rank receives."""
        return self.size

    def _others(self, elements: int) -> int:
        """Bytes of `elements` without the own one of p equal parts."""
        return elements * self.dtype.itemsize * (self.ranks - 1) // self.ranks

    def agree(self, number: int) -> int:
        """Return the largest `number` of all ranks."""
        return agree(self._comm, number)

    def agree_least(self, number: int) -> int:
        """Return the smallest `number` of all ranks."""
        return -agree(self._comm, -number)

    def flops(self) -> float:
        """0."""
        return 0.0

    def nbytes(self) -> int:
        """N·itemsize·(p-1)/p."""
        return self._others(self.size)

    def memory(self) -> int:
        """What is sent and what is received."""
        return (self.size + self._received()) * self.dtype.itemsize

    def _sums(self) -> float:
        return self.size * (self.ranks - 1) / self.ranks * (2 if self.complex else 1)


class AllReduce(CommKernel):
    """The sum of all ranks' arrays, on all ranks.

    flops: N·(p-1)/p (each rank sums its part); bytes: 2·N·itemsize·(p-1)/p.
    """

    def work(self) -> None:
        """Sum once."""
        self.link.all_reduce(self.send, self.receive)

    def flops(self) -> float:
        """N·(p-1)/p."""
        return self._sums()

    def nbytes(self) -> int:
        """2·N·itemsize·(p-1)/p."""
        return 2 * self._others(self.size)


class AllGather(CommKernel):
    """All ranks' arrays, one after another, on all ranks.

    flops: 0; bytes: N·itemsize·(p-1).
    """

    def _received(self) -> int:
        return self.size * self.ranks

    def work(self) -> None:
        """Gather once."""
        self.link.all_gather(self.send, self.receive)

    def nbytes(self) -> int:
        """N·itemsize·(p-1)."""
        return self._others(self.size * self.ranks)


class Bcast(CommKernel):
    """Rank 0's array, on all ranks.

    flops: 0; bytes: N·itemsize, for p > 1.
    """

    def _prepare(self, setup: Setup) -> None:
        super()._prepare(setup)
        self.receive = self.send  # there is one array, which rank 0 sends and the others receive

    def work(self) -> None:
        """Broadcast once."""
        self.link.bcast(self.send)

    def nbytes(self) -> int:
        """N·itemsize, or 0 for one rank."""
        return self.size * self.dtype.itemsize if self.ranks > 1 else 0


class ReduceScatter(CommKernel):
    """The sum of all ranks' arrays, of which rank r gets the r-th of p equal parts.

    flops: N·(p-1)/p; bytes: N·itemsize·(p-1)/p.
    """

    def _received(self) -> int:
        return self.size // self.ranks

    def work(self) -> None:
        """Sum once."""
        self.link.reduce_scatter(self.send, self.receive)

    def flops(self) -> float:
        """N·(p-1)/p."""
        return self._sums()


class AllToAll(CommKernel):
    """The s-th of p equal parts of rank r's array becomes the r-th part of rank s's.

    flops: 0; bytes: N·itemsize·(p-1)/p.
    """

    def work(self) -> None:
        """Exchange once."""
        self.link.all_to_all(self.send, self.receive)


class Ring(CommKernel):
    """Each rank sends its array to the next rank and receives that of the one before; the last one's next is the first.

    flops: 0; bytes: N·itemsize, for p > 1.
    """

    def work(self) -> None:
        """Send and receive once."""
        self.link.exchange(self.send, (self.rank + 1) % self.ranks, self.receive, (self.rank - 1) % self.ranks)

    def nbytes(self) -> int:
        """N·itemsize, or 0 for one rank."""
        return self.size * self.dtype.itemsize if self.ranks > 1 else 0
