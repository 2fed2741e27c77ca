"""The seven-point Laplacian, the inner loop of many codes on a regular grid."""

from typing import Any

from simai_rules.kernels.base import Kernel, Setup, filled


class Stencil(Kernel):
    """y = the sum of the six neighbours minus 6·x at the M inner points of a grid of shape `data_size` [nx, ny, nz].

    Array modules make seven passes: five sums, a product and a difference.

    flops: 7·M (complex: 14·M), M = (nx-2)·(ny-2)·(nz-2); bytes: 20·M·itemsize (a sum or difference reads two values
    and writes one, the product reads and writes one).
    """

    def _prepare(self, setup: Setup) -> None:
        self.x = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self.y = self.device.zeros(self.shape, self.dtype)
        inner = slice(1, -1)
        self._centre = self.x[inner, inner, inner]
        self._result = self.y[inner, inner, inner]
        self._neighbours: list[Any] = []
        for axis in range(3):
            for side in (slice(None, -2), slice(2, None)):
                place = [inner] * 3
                place[axis] = side
                self._neighbours.append(self.x[tuple(place)])
        self._product = self.device.zeros(self._centre.shape, self.dtype)
        self._six = self.dtype.type(0).real.dtype.type(6)
        module = self.device.module
        self._add, self._multiply, self._subtract = module.add, module.multiply, module.subtract

    def work(self) -> None:
        """Apply it once."""
        result, add = self._result, self._add
        first, second, *others = self._neighbours
        add(first, second, out=result)
        for neighbour in others:
            add(result, neighbour, out=result)
        self._multiply(self._centre, self._six, out=self._product)
        self._subtract(result, self._product, out=result)

    def _inner(self) -> int:
        nx, ny, nz = self.shape
        return (nx - 2) * (ny - 2) * (nz - 2)

    def flops(self) -> float:
        """7·M, or 14·M if complex."""
        return (14.0 if self.complex else 7.0) * self._inner()

    def nbytes(self) -> int:
        """20·M·itemsize."""
        return 20 * self._inner() * self.dtype.itemsize

    def memory(self) -> int:
        """x, y and 6·x."""
        return (2 * self.size + self._inner()) * self.dtype.itemsize
