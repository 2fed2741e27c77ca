"""Kernels that treat element by element: a ufunc, and random numbers."""

from typing import Any

from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, Setup, filled


class InplaceCompute(Kernel):
    """y = f(x) with a numpy function f of one argument (`ufunc`), written into an existing y; N elements each.

    x stays as it was filled, uniform in [0.5, 0.95) (for arccosh in [1, 1.9)), below 1 for the sake of arctanh. A
    function that is applied to its own result again and again would run into infinities (exp), denormals or a fixed
    point (sqrt, sin), whose cost is another one.

    y has the type that the function gives: real for abs of complex numbers.

    flops: N (one function counts as one operation); bytes: 2·N·itemsize (read x, write y).
    """

    def _check(self, setup: Setup) -> None:
        super()._check(setup)
        module, ufunc = self.device.module, setup.config.ufunc
        if not hasattr(module, ufunc):
            raise UserError(
                f"kernel InplaceCompute: {module.__name__} has no function {ufunc!r}, which numpy has. Take another "
                "ufunc, or device: cpu."
            )

    def _prepare(self, setup: Setup) -> None:
        self._function = getattr(self.device.module, setup.config.ufunc)
        low = 1.0 if setup.config.ufunc == "arccosh" else 0.5
        self.x = self.device.array(filled(self.shape, self.dtype, setup.rng, low, 1.9 * low))
        self.y = self.device.zeros(self.shape, self._function(self.x[..., :1]).dtype)

    def work(self) -> None:
        """Apply the function once."""
        self._function(self.x, out=self.y)

    def flops(self) -> float:
        """N."""
        return float(self.size)

    def nbytes(self) -> int:
        """2·N·itemsize, less where y is real and x is not."""
        return self.size * (self.dtype.itemsize + int(self.y.dtype.itemsize))

    def memory(self) -> int:
        """Of x and y."""
        return 2 * self.size * self.dtype.itemsize


class GenerateRandomNumber(Kernel):
    """Fill an array with random numbers, uniform in [0, 1): numpy's PCG64, CuPy's XORWOW, dpnp's MT19937; N elements.

    flops: N (the scaling of an integer to a fraction; complex: 2·N); bytes: N·itemsize.
    """

    def _prepare(self, setup: Setup) -> None:
        real = self.dtype.type(0).real.dtype
        last = self.shape[-1] * (2 if self.complex else 1)
        self._parts = self.device.zeros((*self.shape[:-1], last), real)
        self._fill = self.device.uniform(int(setup.rng.integers(2**31)))

    @property
    def y(self) -> Any:
        """The numbers."""
        return self._parts.view(self.dtype)

    def work(self) -> None:
        """Fill once."""
        self._parts = self._fill(self._parts)

    def flops(self) -> float:
        """N, or 2·N if complex."""
        return float(self.size * (2 if self.complex else 1))

    def nbytes(self) -> int:
        """N·itemsize."""
        return self.size * self.dtype.itemsize

    def memory(self) -> int:
        """The numbers; on a device they are made in a new array while the last one is there."""
        return (1 if self._host else 2) * self.size * self.dtype.itemsize
