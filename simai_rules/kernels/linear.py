"""Kernels of linear algebra: matrix products (bound by arithmetic) and AXPY (bound by memory)."""

import math

import numpy as np

from simai_rules.config.components import KernelConfig
from simai_rules.kernels.base import Kernel, filled


class MatMulSimple2D(Kernel):
    """C = A @ B by BLAS gemm into an existing C; `data_size` [m, n]: A is m x n, B is n x m, C is m x m.

    flops: 2·m·n·m (complex: 8·m·n·m); bytes: itemsize · (2·m·n + m·m).
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:  # noqa: ARG002
        m, n = self.shape
        self.a = filled((m, n), self.dtype, rng)
        self.b = filled((n, m), self.dtype, rng)
        self.c = np.zeros((m, m), self.dtype)

    def __call__(self) -> None:
        """Multiply once."""
        np.matmul(self.a, self.b, out=self.c)

    def flops(self) -> float:
        """2·m·n·m, or 8·m·n·m if complex."""
        m, n = self.shape
        return (8.0 if self.complex else 2.0) * m * n * m

    def nbytes(self) -> int:
        """Itemsize · (2·m·n + m·m)."""
        m, n = self.shape
        return self.dtype.itemsize * (2 * m * n + m * m)


class MatMulGeneral(Kernel):
    """A batch of matrix products; `data_size` [..., m, n]: A is (..., m, n), B is (..., n, m), C is (..., m, m).

    flops: batch · 2·m·n·m (complex: 8); bytes: batch · itemsize · (2·m·n + m·m); batch: product of the leading numbers.
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:  # noqa: ARG002
        *batch, m, n = self.shape
        self.a = filled((*batch, m, n), self.dtype, rng)
        self.b = filled((*batch, n, m), self.dtype, rng)
        self.c = np.zeros((*batch, m, m), self.dtype)

    def __call__(self) -> None:
        """Multiply the whole batch once."""
        np.matmul(self.a, self.b, out=self.c)

    def flops(self) -> float:
        """Batch · 2·m·n·m, or 8·m·n·m if complex."""
        *batch, m, n = self.shape
        return (8.0 if self.complex else 2.0) * math.prod(batch) * m * n * m

    def nbytes(self) -> int:
        """Batch · itemsize · (2·m·n + m·m)."""
        *batch, m, n = self.shape
        return math.prod(batch) * self.dtype.itemsize * (2 * m * n + m * m)


class AXPY(Kernel):
    """y += a·x over N = product of `data_size` elements, with a real a that changes its sign at every call.

    So y returns to where it was instead of growing: the same sums and differences repeat from the second pair of calls
    on ((y + z) - z + z - z = (y + z) - z in rounded arithmetic, Knuth, TAOCP 2, 4.2.2), for any number of calls.
    numpy makes two passes over memory, the product and the sum.

    flops: 2·N (complex: 4·N); bytes: 5·N·itemsize (product: read x, write t; sum: read y and t, write y).
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:  # noqa: ARG002
        self.x = filled(self.shape, self.dtype, rng)
        self.y = filled(self.shape, self.dtype, rng)
        self._product = np.zeros_like(self.x)
        # A numpy scalar of the arrays' own precision: a float64 one would have the product made in double.
        self.a = self.x.real.dtype.type(0.5)

    def __call__(self) -> None:
        """Add a·x to y, or take it away again."""
        np.multiply(self.x, self.a, out=self._product)
        np.add(self.y, self._product, out=self.y)
        self.a = -self.a

    def flops(self) -> float:
        """2·N, or 4·N if complex."""
        return (4.0 if self.complex else 2.0) * self.size

    def nbytes(self) -> int:
        """5·N·itemsize."""
        return 5 * self.size * self.dtype.itemsize
