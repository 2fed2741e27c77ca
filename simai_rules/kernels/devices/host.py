"""The CPU, with numpy."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from simai_rules.kernels.devices.device import Device, HostArray, Work
from simai_rules.kernels.devices.memory import available

# numpy 2 transforms single precision as such and takes an existing output.
NUMPY2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"
"""Whether FFTs keep single precision and take an `out`."""


class Host(Device):
    """The CPU of this node, with numpy."""

    name = "cpu"
    module = np

    @property
    def is_host(self) -> bool:
        """Yes."""
        return True

    def memory(self) -> int:
        """Return the bytes of memory that this node, or the control group of this process, has left."""
        return available()

    def lacks(self, dtype: np.dtype[Any]) -> str:  # noqa: ARG002
        """Return "": numpy has them all."""
        return ""

    def array(self, values: HostArray) -> HostArray:
        """Return `values`."""
        return values

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> HostArray:
        """Return an array of zeros whose pages are there: np.zeros leaves that to whoever touches them first."""
        values = np.empty(shape, dtype)
        values.fill(0)
        return values

    def to_host(self, array: HostArray) -> HostArray:
        """Return `array`."""
        return array

    def synchronize(self) -> None:
        """Return at once: work is done when a call returns."""

    def timed(self, work: Work, meanwhile: Work) -> Callable[[], int]:
        """Do `work` and return what tells how long that took by the clock: the CPU has no events."""
        start = time.perf_counter_ns()
        work()
        took = time.perf_counter_ns() - start
        meanwhile()
        return lambda: took

    def pointer(self, array: HostArray) -> int:
        """Return the address of an array's first byte."""
        return int(array.ctypes.data)

    def fft(self, x: HostArray, result: HostArray | None) -> HostArray:
        """Return the transform of `x`, in `result` if numpy is 2.0 or newer."""
        transform: Any = np.fft.fftn if x.dtype.kind == "c" else np.fft.rfftn
        if result is None or not NUMPY2:
            return transform(x)  # type: ignore[no-any-return]
        return transform(x, out=result)  # type: ignore[no-any-return]

    def uniform(self, seed: int) -> Callable[[HostArray], HostArray]:
        """Return a function that fills an array, by numpy's PCG64 generator."""
        random = np.random.default_rng(seed).random
        return lambda array: random(out=array, dtype=array.dtype.type)

    def add_at(self, y: HostArray, index: HostArray, values: HostArray) -> Work:
        """Return work that is np.add.at."""
        return lambda: np.add.at(y, index, values)

    def csr_product(self, values: HostArray, columns: HostArray, starts: HostArray, x: HostArray, y: HostArray) -> Work:
        """Return work in three passes: gather x, multiply by the values, sum each row."""
        products = np.zeros_like(values)
        begins = starts[:-1]

        def multiply() -> None:
            # "clip" lets numpy gather into `out` without a buffer of its own; the columns are all valid.
            np.take(x, columns, out=products, mode="clip")
            np.multiply(products, values, out=products)
            np.add.reduceat(products, begins, out=y)

        return multiply

    def host_memory(self, values: HostArray, *, pinned: bool) -> HostArray:  # noqa: ARG002
        """Return a copy of `values`; a CPU has nothing to pin memory for."""
        return values.copy()

    def copy_in(self, array: HostArray, values: HostArray) -> None:
        """Copy `values` into `array`."""
        np.copyto(array, values)

    def copy_out(self, values: HostArray, array: HostArray) -> None:
        """Copy `array` into `values`."""
        np.copyto(values, array)
