"""Kernels of input and output: HDF5 files, written and read by one rank, by each its own, or by all one together.

The options chunks, compression, collective, fsync and drop_cache say how (config/kernels.py). A call opens the file,
moves the data, and closes it; fsync and the dropping of pages are part of the call.
"""

import math

from simai_rules.kernels.base import Kernel, Setup, filled
from simai_rules.kernels.comm import agree
from simai_rules.kernels.hdf5 import Hdf5, check_hdf5


class _FileKernel(Kernel):
    """Common to all: data in the host's memory and a file.

    flops: 0; bytes: N·itemsize of those N elements that this rank writes or reads, before compression.
    """

    def _check(self, setup: Setup) -> None:
        super()._check(setup)
        check_hdf5(setup.config, parallel=self.collective)

    def _prepare(self, setup: Setup) -> None:
        self.values = filled(self._own_shape(), self.dtype, setup.rng)
        self.file = Hdf5(setup, parallel=self.collective)
        self._comm = setup.comm

    def _own_shape(self) -> tuple[int, ...]:
        """The shape of what this rank moves."""
        return self.shape

    def _part(self) -> slice | None:
        """The rows of the file that this rank moves; None for all."""
        return None

    def flops(self) -> float:
        """0."""
        return 0.0

    def nbytes(self) -> int:
        """N·itemsize of this rank."""
        return self.values.nbytes

    def memory(self) -> int:
        """What this rank moves."""
        return math.prod(self._own_shape()) * self.dtype.itemsize

    def close(self) -> None:
        """Remove the file."""
        self.file.close()


class _SharedFile(_FileKernel):
    """One file of shape `data_size`; rank r of p has the r-th of p equal parts of its rows."""

    collective = True

    def _own_shape(self) -> tuple[int, ...]:
        return (self.shape[0] // self.ranks, *self.shape[1:])

    def _part(self) -> slice | None:
        rows = self.shape[0] // self.ranks
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def agree(self, number: int) -> int:
        """Return the largest `number` of all ranks."""
        return agree(self._comm, number)

    def agree_least(self, number: int) -> int:
        """Return the smallest `number` of all ranks."""
        return -agree(self._comm, -number)


class WriteNonMPI(_FileKernel):
    """Each rank writes a file of its own of shape `data_size`, without MPI.

    flops: 0; bytes: N·itemsize, N = product of data_size.
    """

    def work(self) -> None:
        """Write once."""
        self.file.write(self.values)


class WriteSingleRank(WriteNonMPI):
    """Rank 0 writes a file of shape `data_size`; the others do nothing.

    flops: 0; bytes: N·itemsize on rank 0, N = product of data_size; else 0.
    """

    first_rank_only = True

    def _own_shape(self) -> tuple[int, ...]:
        return self.shape if self.rank == 0 else (0,)

    def work(self) -> None:
        """Write once, on rank 0."""
        if self.rank == 0:
            self.file.write(self.values)

    def nbytes(self) -> int:
        """N·itemsize on rank 0, else 0."""
        return self.values.nbytes


class WriteWithMPI(_SharedFile):
    """All ranks write one file of shape `data_size` by parallel HDF5, each an equal part of its rows.

    flops: 0; bytes: N/p·itemsize for p ranks.
    """

    def work(self) -> None:
        """Write once."""
        self.file.write(self.values, self._part())


class ReadNonMPI(_FileKernel):
    """Each rank reads a file of its own of shape `data_size`, without MPI; it is written when the kernel is made.

    flops: 0; bytes: N·itemsize, N = product of data_size.
    """

    def _prepare(self, setup: Setup) -> None:
        super()._prepare(setup)
        self.file.write(self.values, self._part())
        self.values.fill(0)

    def work(self) -> None:
        """Read once."""
        self.file.read(self.values, self._part())


class ReadWithMPI(_SharedFile, ReadNonMPI):
    """All ranks read one file of shape `data_size` by parallel HDF5, each an equal part of its rows.

    flops: 0; bytes: N/p·itemsize for p ranks.
    """
