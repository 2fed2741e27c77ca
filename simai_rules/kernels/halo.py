"""The exchange of halos, with which codes on a regular grid begin each step."""

import math
from typing import Any

from simai_rules.kernels.base import Setup, filled
from simai_rules.kernels.comm import CommKernel
from simai_rules.kernels.links import link


class Halo(CommKernel):
    """Each rank has a block of shape `data_size` with a layer around it, which gets the neighbours' outer values.

    The ranks form a periodic grid with as many axes as `data_size`, as even as MPI_Dims_create makes it; rank r's place
    counts the last axis fastest. Per axis a face is packed and sent down while the one from above is received, then the
    other way; with one rank along an axis, it exchanges with itself. Edges and corners are left out.

    flops: 0; bytes: 2·itemsize·(sum over the axes with more than one rank of the elements of a face).
    """

    def _prepare(self, setup: Setup) -> None:
        from mpi4py import MPI

        self.link = link(setup)
        self._comm = setup.comm
        self.grid: list[int] = MPI.Compute_dims(self.ranks, len(self.shape))
        self.block = self.device.zeros(tuple(length + 2 for length in self.shape), self.dtype)
        self.block[(slice(1, -1),) * len(self.shape)] = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self._steps: list[tuple[Any, Any, Any, Any, int, int]] = []
        for axis in range(len(self.shape)):
            below, above = self._neighbour(axis, -1), self._neighbour(axis, 1)
            sent = self.device.zeros(self._face(axis), self.dtype)
            received = self.device.zeros(self._face(axis), self.dtype)
            # The lowest layer goes down and the one that comes from above is the outer layer there; then the other way.
            self._steps.append((self._layer(axis, 1), sent, received, self._layer(axis, -1), below, above))
            self._steps.append((self._layer(axis, -2), sent, received, self._layer(axis, 0), above, below))

    def work(self) -> None:
        """Exchange all faces once."""
        exchange = self.link.exchange
        for outer, sent, received, halo, to, source in self._steps:
            sent[...] = outer
            exchange(sent, to, received, source)
            halo[...] = received

    def place(self, rank: int) -> list[int]:
        """Return where `rank` is in the grid of ranks."""
        found = []
        for ranks in reversed(self.grid):
            rank, here = divmod(rank, ranks)
            found.append(here)
        return found[::-1]

    def _neighbour(self, axis: int, step: int) -> int:
        place = self.place(self.rank)
        place[axis] = (place[axis] + step) % self.grid[axis]
        rank = 0
        for here, ranks in zip(place, self.grid, strict=True):
            rank = rank * ranks + here
        return rank

    def _face(self, axis: int) -> tuple[int, ...]:
        return (*self.shape[:axis], *self.shape[axis + 1 :]) or (1,)

    def _layer(self, axis: int, number: int) -> Any:
        """Return a view of one layer of the block across `axis`, without the layers around it."""
        place: list[Any] = [slice(1, -1)] * len(self.shape)
        # A number alone would make a value, not a view, of an array with one axis.
        place[axis] = number if len(place) > 1 else slice(number, number + 1 or None)
        return self.block[tuple(place)]

    def nbytes(self) -> int:
        """2·itemsize·(sum of the faces to other ranks)."""
        faces = (self.size // length for length, ranks in zip(self.shape, self.grid, strict=True) if ranks > 1)
        return 2 * self.dtype.itemsize * sum(faces)

    def memory(self) -> int:
        """The block, and two faces per axis."""
        block = math.prod(length + 2 for length in self.shape)
        return (block + 2 * sum(self.size // length for length in self.shape)) * self.dtype.itemsize
