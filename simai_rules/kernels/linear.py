"""Kernels of linear algebra: matrix products (bound by arithmetic) and AXPY (bound by memory)."""

import math

from simai_rules.kernels.base import Kernel, Setup, filled


class MatMulGeneral(Kernel):
    """A batch of matrix products; `data_size` [..., m, n]: A is (..., m, n), B is (..., n, m), C is (..., m, m).

    flops: batch · 2·m·n·m (complex: 8); bytes: batch · itemsize · (2·m·n + m·m); batch: product of the leading numbers.
    """

    def _prepare(self, setup: Setup) -> None:
        *batch, m, n = self.shape
        self.a = self.device.array(filled((*batch, m, n), self.dtype, setup.rng))
        self.b = self.device.array(filled((*batch, n, m), self.dtype, setup.rng))
        self.c = self.device.zeros((*batch, m, m), self.dtype)
        self._matmul = self.device.module.matmul

    def work(self) -> None:
        """Multiply the whole batch once."""
        self._matmul(self.a, self.b, out=self.c)

    def flops(self) -> float:
        """Batch · 2·m·n·m, or 8·m·n·m if complex."""
        *batch, m, n = self.shape
        return (8.0 if self.complex else 2.0) * math.prod(batch) * m * n * m

    def nbytes(self) -> int:
        """Batch · itemsize · (2·m·n + m·m)."""
        *batch, m, n = self.shape
        return math.prod(batch) * self.dtype.itemsize * (2 * m * n + m * m)

    def memory(self) -> int:
        """A, B and C."""
        return self.nbytes()


class MatMulSimple2D(MatMulGeneral):
    """C = A @ B by BLAS gemm into an existing C; `data_size` [m, n]: A is m x n, B is n x m, C is m x m.

    flops: 2·m·n·m (complex: 8·m·n·m); bytes: itemsize · (2·m·n + m·m).
    """


class AXPY(Kernel):
    """y += a·x over N = product of `data_size` elements, with a real a that changes its sign at every call.

    So y returns to where it was instead of growing: the same sums and differences repeat from the second pair of calls
    on ((y + z) - z + z - z = (y + z) - z in rounded arithmetic, Knuth, TAOCP 2, 4.2.2), for any number of calls.
    Array modules make two passes over memory, the product and the sum.

    flops: 2·N (complex: 4·N); bytes: 5·N·itemsize (product: read x, write t; sum: read y and t, write y).
    """

    def _prepare(self, setup: Setup) -> None:
        self.x = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self.y = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self._product = self.device.zeros(self.shape, self.dtype)
        # A numpy scalar of the arrays' own precision: a float64 one would have the product made in double.
        real = self.dtype.type(0).real.dtype.type
        self.a, self._minus_a = real(0.5), real(-0.5)
        self._multiply, self._add = self.device.module.multiply, self.device.module.add

    def work(self) -> None:
        """Add a·x to y, or take it away again."""
        self._multiply(self.x, self.a, out=self._product)
        self._add(self.y, self._product, out=self.y)
        self.a, self._minus_a = self._minus_a, self.a

    def flops(self) -> float:
        """2·N, or 4·N if complex."""
        return (4.0 if self.complex else 2.0) * self.size

    def nbytes(self) -> int:
        """5·N·itemsize."""
        return 5 * self.size * self.dtype.itemsize

    def memory(self) -> int:
        """x, y and a·x."""
        return 3 * self.size * self.dtype.itemsize
