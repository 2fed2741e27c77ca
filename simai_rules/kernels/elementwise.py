"""Kernels that treat element by element: a ufunc, random numbers, and sums into repeated places."""

import numpy as np

from simai_rules.config.components import KernelConfig
from simai_rules.kernels.base import Kernel, filled, real_parts


class InplaceCompute(Kernel):
    """y = f(x) with a numpy function f of one argument (`ufunc`), written into an existing y; N elements each.

    x stays as it was filled, uniform in [0.5, 1) (for arccosh in [1, 2)). A function that is applied to its own result
    again and again would run into infinities (exp), denormals or a fixed point (sqrt, sin), whose cost is another one.

    flops: N (one function counts as one operation); bytes: 2·N·itemsize.
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:
        self._function: np.ufunc = getattr(np, config.ufunc)
        low = 1.0 if config.ufunc == "arccosh" else 0.5
        self.x = filled(self.shape, self.dtype, rng, low, 2 * low)
        self.y = np.zeros_like(self.x)

    def __call__(self) -> None:
        """Apply the function once."""
        self._function(self.x, out=self.y)

    def flops(self) -> float:
        """N."""
        return float(self.size)

    def nbytes(self) -> int:
        """2·N·itemsize."""
        return 2 * self.size * self.dtype.itemsize


class GenerateRandomNumber(Kernel):
    """Fill an existing array with random numbers, uniform in [0, 1), by numpy's PCG64 generator; N elements.

    flops: N (the scaling of an integer to a fraction; complex: 2·N); bytes: N·itemsize.
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:  # noqa: ARG002
        self.y = np.zeros(self.shape, self.dtype)
        self._parts = real_parts(self.y)
        self._rng = rng
        self._type = self._parts.dtype.type

    def __call__(self) -> None:
        """Fill once."""
        self._rng.random(out=self._parts, dtype=self._type)

    def flops(self) -> float:
        """N, or 2·N if complex."""
        return float(self.size * (2 if self.complex else 1))

    def nbytes(self) -> int:
        """N·itemsize."""
        return self.size * self.dtype.itemsize


class ScatterAdd(Kernel):
    """y[i] += x with N random places i in an array of N, so that about a third of them repeat (np.add.at).

    x are whole numbers and change their sign at every call, so the sums are exact and y comes back to zero after every
    second call, for any number of calls.

    flops: N (complex: 2·N); bytes: N·(8 + 3·itemsize) (read i and x, read and write y).
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:  # noqa: ARG002
        self.index = rng.integers(0, self.size, self.size)
        plus = np.round(filled((self.size,), self.dtype, rng, -8.0, 8.0))
        self._values = (plus, -plus)
        self.y = np.zeros(self.size, self.dtype)
        self._sign = 0

    def __call__(self) -> None:
        """Add once."""
        np.add.at(self.y, self.index, self._values[self._sign])
        self._sign = 1 - self._sign

    def flops(self) -> float:
        """N, or 2·N if complex."""
        return float(self.size * (2 if self.complex else 1))

    def nbytes(self) -> int:
        """N·(8 + 3·itemsize)."""
        return self.size * (8 + 3 * self.dtype.itemsize)
