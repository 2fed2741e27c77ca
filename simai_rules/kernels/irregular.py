"""Kernels whose cost is the way to the data: sums into repeated places, a sparse matrix, a sort."""

import math

import numpy as np

from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, Setup, filled

_INDEX = np.dtype(np.int64)


class ScatterAdd(Kernel):
    """y[i] += x with N random places i in an array of N, so that about a third of them repeat (np.add.at).

    x are whole numbers and change their sign at every call, so the sums are exact and y comes back to zero after every
    second call, for any number of calls.

    flops: N (complex: 2·N); bytes: N·(8 + 3·itemsize) (read i and x, read and write y).
    """

    def _prepare(self, setup: Setup) -> None:
        index = setup.rng.integers(0, self.size, self.size)
        plus = np.round(filled((self.size,), self.dtype, setup.rng, -8.0, 8.0))
        self.index = self.device.array(index)
        self.values, self._minus = self.device.array(plus), self.device.array(-plus)
        self.y = self.device.zeros((self.size,), self.dtype)
        self._now = self.device.add_at(self.y, self.index, self.values)
        self._next = self.device.add_at(self.y, self.index, self._minus)

    def work(self) -> None:
        """Add once."""
        self._now()
        self._now, self._next = self._next, self._now

    def flops(self) -> float:
        """N, or 2·N if complex."""
        return float(self.size * (2 if self.complex else 1))

    def nbytes(self) -> int:
        """N·(8 + 3·itemsize)."""
        return self.size * (_INDEX.itemsize + 3 * self.dtype.itemsize)

    def memory(self) -> int:
        """i, x, -x and y."""
        return self.nbytes()


class SpMV(Kernel):
    """y = A·x with a square sparse matrix in CSR format; `data_size` [rows, k]: k nonzeros in each row.

    A row's j-th nonzero is in a random column of the j-th of k equal parts, so x is read from all over its length.
    numpy and dpnp make three passes (gather, product, sum of each row), CuPy has cuSPARSE's product.

    flops: 2·nz with nz = rows·k (complex: 8·nz); bytes: nz·(8 + 2·itemsize) + rows·itemsize (read columns, values and
    gathered x, write y): the least, without the passes between. With CuPy a column takes 4 bytes, not 8.
    """

    def _check(self, setup: Setup) -> None:
        super()._check(setup)
        if self.device.column_itemsize == 4 and self.size >= 2**31:
            raise UserError(
                f"kernel SpMV: data_size {list(self.shape)} has {self.size} nonzeros, but CuPy's sparse matrices "
                f"number them with 32 bits. Give less than {2**31}."
            )

    def _prepare(self, setup: Setup) -> None:
        rows, k = self.shape
        parts = np.arange(k + 1) * rows // k
        columns = setup.rng.integers(parts[:-1], parts[1:], (rows, k))
        self.columns = self.device.array(columns.reshape(-1))
        self.values = self.device.array(filled((rows * k,), self.dtype, setup.rng))
        self.x = self.device.array(filled((rows,), self.dtype, setup.rng))
        self.y = self.device.zeros((rows,), self.dtype)
        starts = np.arange(0, rows * k + 1, k)
        self._multiply = self.device.csr_product(self.values, self.columns, starts, self.x, self.y)

    def work(self) -> None:
        """Multiply once."""
        self._multiply()

    def flops(self) -> float:
        """2·nz, or 8·nz if complex."""
        return (8.0 if self.complex else 2.0) * self.size

    def nbytes(self) -> int:
        """nz·(8 + 2·itemsize) + rows·itemsize; with CuPy 4 in place of 8."""
        each = self.device.column_itemsize + 2 * self.dtype.itemsize
        return self.size * each + self.shape[0] * self.dtype.itemsize

    def memory(self) -> int:
        """Columns, values, products, row starts, x and y."""
        rows = self.shape[0] * (_INDEX.itemsize + 2 * self.dtype.itemsize)
        return self.size * (_INDEX.itemsize + 2 * self.dtype.itemsize) + rows


class Sort(Kernel):
    """Copy N random numbers and sort the copy along its last axis (n numbers each); complex: by real part first.

    flops: N·log2(n) comparisons, each counted as one; bytes: 4·N·itemsize (copy and one pass of the sort: what it has
    to move at least).
    """

    def _prepare(self, setup: Setup) -> None:
        self.x = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self.y = self.device.zeros(self.shape, self.dtype)

    def work(self) -> None:
        """Copy and sort once."""
        self.y[...] = self.x
        self.y.sort()

    def flops(self) -> float:
        """N·log2(n)."""
        return self.size * math.log2(self.shape[-1])

    def nbytes(self) -> int:
        """4·N·itemsize."""
        return 4 * self.size * self.dtype.itemsize

    def memory(self) -> int:
        """Of x and y."""
        return 2 * self.size * self.dtype.itemsize
