"""GPUs of Intel with dpnp; also the CPU as SYCL sees it, on which this was tried. Not run on a real GPU."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from simai_rules.errors import MissingProgram, UserError
from simai_rules.kernels.devices.device import Device, HostArray, Work
from simai_rules.kernels.devices.memory import available


def _packages() -> tuple[Any, Any]:
    try:
        import dpctl.memory
        import dpnp
    except ImportError as error:
        raise MissingProgram(
            f"Devices xpu and sycl-cpu need dpnp, which cannot be loaded ({error}). pip install dpnp, or load the "
            "module of your system (frameworks on Aurora)."
        ) from error
    return dpctl, dpnp


class Sycl(Device):
    """Device `number` of the kind "gpu" or "cpu" among those that SYCL offers this process (ZE_AFFINITY_MASK).

    name: as in a config, without a number; number: None for that of the rank.
    """

    def __init__(self, name: str, kind: str, number: int | None, local_rank: int) -> None:
        self.name = name if number is None else f"{name}:{number}"
        dpctl, self.module = _packages()
        found = dpctl.get_devices(device_type=kind)
        if number is None:
            number = local_rank % len(found) if found else 0
        if number >= len(found):
            advice = (
                "For a CPU device of the dpnp wheel set OCL_ICD_FILENAMES to lib/libintelocl.so of its environment."
                if kind == "cpu"
                else "Run this on a node that has one, look at ZE_AFFINITY_MASK and ONEAPI_DEVICE_SELECTOR, or take "
                "device: cpu."
            )
            raise UserError(f"Device {self.name}: SYCL finds {len(found)} devices of the kind {kind} here. {advice}")
        if kind == "gpu":
            self.name = f"{name}:{number}"
            # Not the number: of the GPUs that a rank sees, the first may be another one for each rank.
            self.place = f"GPU {os.environ.get('ZE_AFFINITY_MASK', '')}/{number}"
        self._device = found[number]
        self.no_room = (MemoryError, dpctl.memory.USMAllocationError)
        self.queue = dpctl.SyclQueue(self._device, property="enable_profiling")

    def memory(self) -> int:
        """Return the bytes of the device's memory: those left of the CPU's, and of a GPU's where the driver tells."""
        if self._device.is_cpu:
            return available()
        from dpctl.utils import intel_device_info

        left = intel_device_info(self._device).get("free_memory")  # needs ZES_ENABLE_SYSMAN=1
        return int(left or self._device.global_mem_size)

    def lacks(self, dtype: np.dtype[Any]) -> str:
        """Return that it does not compute in double precision, where that is so and asked for."""
        if np.finfo(dtype).dtype != np.float64 or self._device.has_aspect_fp64:
            return ""
        single = "complex64" if dtype.kind == "c" else "float32"
        return f"{self._device.name} does not compute in double precision; take dtype {single}"

    def array(self, values: HostArray) -> Any:
        """Return a copy of `values` on the device."""
        return self.module.asarray(values, sycl_queue=self.queue)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return zeros on the device."""
        return self.module.zeros(shape, dtype=dtype, sycl_queue=self.queue)

    def to_host(self, array: Any) -> HostArray:
        """Return a copy of `array` on the host."""
        values: HostArray = self.module.asnumpy(array)
        return values

    def synchronize(self) -> None:
        """Wait until all work of the queue is done."""
        self.queue.wait()

    def timed(self, work: Work, meanwhile: Work) -> Callable[[], int]:
        """Do `work`, wait for it, and return the time between two SYCL events."""
        # Barriers cost half of what empty tasks do (on the CPU device), and hold for copies as well. dpctl's SyclTimer
        # does the same, for some 50 us more.
        before = self.queue.submit_barrier()
        work()
        after = self.queue.submit_barrier()
        meanwhile()
        after.wait()
        return lambda: int(after.profiling_info_start - before.profiling_info_end)

    def pointer(self, array: Any) -> int:
        """Return the address of an array's first byte."""
        return int(array.get_array()._pointer)

    def fft(self, x: Any, result: Any | None) -> Any:
        """Return the transform of `x`, in `result` if one is given."""
        return (self.module.fft.fftn if x.dtype.kind == "c" else self.module.fft.rfftn)(x, out=result)

    def uniform(self, seed: int) -> Callable[[Any], Any]:
        """Return a function that makes a new array by oneMKL's MT19937 generator."""
        state = self.module.random.RandomState(seed, sycl_queue=self.queue)
        return lambda array: state.uniform(0.0, 1.0, array.shape, dtype=array.dtype)

    def add_at(self, y: Any, index: Any, values: Any) -> Work:
        """Return work that sums by a weighted histogram and adds it: dpnp has no ufunc.at."""
        dpnp = self.module
        if y.dtype.kind == "c":  # a histogram's weights are real: both parts, interleaved
            index = dpnp.stack([2 * index, 2 * index + 1], axis=1).reshape(-1)
            y, values = y.view(y.real.dtype), values.view(y.real.dtype)
        size = len(y)

        def add() -> None:
            sums = dpnp.bincount(index, weights=values, minlength=size)
            dpnp.add(y, sums, out=y)

        return add

    def csr_product(self, values: Any, columns: Any, starts: HostArray, x: Any, y: Any) -> Work:
        """Return work in three passes: gather x, multiply by the values, sum each row (they are equally long)."""
        dpnp = self.module
        rows = len(starts) - 1
        products = dpnp.zeros_like(values)
        table = products.reshape(rows, -1)

        def multiply() -> None:
            dpnp.take(x, columns, out=products)
            dpnp.multiply(products, values, out=products)
            dpnp.sum(table, axis=1, out=y)

        return multiply

    def host_memory(self, values: HostArray, *, pinned: bool) -> HostArray:
        """Return a copy of `values`, in USM host memory if `pinned`."""
        if not pinned:
            return values.copy()
        from dpctl.memory import MemoryUSMHost

        copy: HostArray = np.ndarray(values.shape, values.dtype, MemoryUSMHost(values.nbytes, queue=self.queue))
        copy[...] = values
        return copy

    def copy_in(self, array: Any, values: HostArray) -> None:
        """Copy to the device and wait."""
        self.queue.wait()  # such a copy is not ordered after what was begun before
        array.get_array().usm_data.copy_from_host(values.reshape(-1).view(np.uint8))

    def copy_out(self, values: HostArray, array: Any) -> None:
        """Copy to the host and wait."""
        self.queue.wait()
        array.get_array().usm_data.copy_to_host(values.reshape(-1).view(np.uint8))
