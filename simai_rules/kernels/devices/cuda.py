"""GPUs of NVIDIA, and of AMD through a CuPy that was built for ROCm. Not run on real hardware."""

from collections.abc import Callable
from typing import Any

import numpy as np

from simai_rules.errors import MissingProgram, UserError
from simai_rules.kernels.devices.device import Device, HostArray, Work


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise MissingProgram(
            f"Device cuda needs CuPy, which cannot be loaded ({error}). For NVIDIA GPUs: pip install "
            "'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', after the CUDA version that nvidia-smi names; for AMD GPUs "
            "the module of your system or docs.cupy.dev/en/stable/install.html."
        ) from error
    return cupy


class Cuda(Device):
    """GPU `number` of those that this process may use (CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES).

    Without a number it is that of the rank among those of its node.
    """

    column_itemsize = 4  # cuSPARSE through CuPy

    def __init__(self, number: int | None, local_rank: int) -> None:
        self.name = "cuda" if number is None else f"cuda:{number}"
        self.module = cupy = _cupy()
        try:
            count = int(cupy.cuda.runtime.getDeviceCount())
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise UserError(
                f"Device {self.name}: CuPy finds no GPU here ({error}). Run this on a node that has one, with a "
                "driver that is new enough for the installed CuPy, or take device: cpu."
            ) from error
        number = local_rank % count if number is None else number
        self.name = f"cuda:{number}"
        if number >= count:
            raise UserError(
                f"Device {self.name}: this process may use {count} GPUs, counted from 0. Ask for another number, or "
                "look at CUDA_VISIBLE_DEVICES (ROCR_VISIBLE_DEVICES for AMD)."
            )
        self._device = cupy.cuda.Device(number)
        self.place = f"GPU {self._device.pci_bus_id}"
        self.select()
        self._begin, self._end = cupy.cuda.Event(), cupy.cuda.Event()

    def select(self) -> None:
        """Make it CuPy's current device."""
        self._device.use()

    def memory(self) -> int:
        """Return the bytes of the GPU's memory that are free, or that CuPy keeps for its next arrays."""
        free, _ = self._device.mem_info
        self.select()  # the pool has a part per GPU
        return int(free) + int(self.module.get_default_memory_pool().free_bytes())

    def lacks(self, dtype: np.dtype[Any]) -> str:
        """Return that CuPy before 14 has no bfloat16, nor one for AMD; all compute in double precision."""
        if dtype.name != "bfloat16":
            return ""
        if int(self.module.__version__.partition(".")[0]) < 14 or self.module.cuda.runtime.is_hip:
            return (
                f"CuPy {self.module.__version__} has no product of bfloat16 matrices here; CuPy 14 has one, on GPUs of "
                "NVIDIA. Take dtype float16"
            )
        return ""

    def array(self, values: HostArray) -> Any:
        """Return a copy of `values` on the GPU."""
        return self.module.asarray(values)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return zeros on the GPU."""
        return self.module.zeros(shape, dtype)

    def to_host(self, array: Any) -> HostArray:
        """Return a copy of `array` on the host."""
        values: HostArray = array.get()
        return values

    def synchronize(self) -> None:
        """Wait until all work of the current stream is done."""
        self.module.cuda.get_current_stream().synchronize()

    def timed(self, work: Work, meanwhile: Work) -> Callable[[], int]:
        """Do `work`, wait for it, and return the time between two CUDA events (they count in steps of 0.5 µs)."""
        self._device.use()  # another kernel of this process may have been on another GPU
        self._begin.record()
        work()
        self._end.record()
        meanwhile()
        self._end.synchronize()
        took = int(self.module.cuda.get_elapsed_time(self._begin, self._end) * 1e6)
        return lambda: took

    def pointer(self, array: Any) -> int:
        """Return the address of an array's first byte."""
        return int(array.data.ptr)

    def fft(self, x: Any, result: Any | None) -> Any:  # noqa: ARG002
        """Return the transform in a new array, which comes from CuPy's pool; the plan comes from its cache."""
        return (self.module.fft.fftn if x.dtype.kind == "c" else self.module.fft.rfftn)(x)

    def uniform(self, seed: int) -> Callable[[Any], Any]:
        """Return a function that makes a new array by cuRAND's XORWOW generator.

        CuPy takes an `out`, but makes a new array all the same, and copies it there: three times the bytes.
        """
        random = self.module.random
        generator = random.Generator(random.XORWOW(seed))
        return lambda array: generator.random(array.shape, dtype=array.dtype)

    def add_at(self, y: Any, index: Any, values: Any) -> Work:
        """Return work that adds by atomic operations."""
        from cupyx import scatter_add

        real = y.real.dtype
        if y.dtype.kind != "c":
            return lambda: scatter_add(y, index, values)
        # There are no atomic operations on complex numbers: the two parts one after the other.
        parts, sources = y.view(real).reshape(-1, 2), values.view(real).reshape(-1, 2)

        def add() -> None:
            scatter_add(parts[:, 0], index, sources[:, 0])
            scatter_add(parts[:, 1], index, sources[:, 1])

        return add

    def csr_product(self, values: Any, columns: Any, starts: HostArray, x: Any, y: Any) -> Work:
        """Return work that is cuSPARSE's product; the result goes into `y` by one copy."""
        from cupyx.scipy import sparse

        shape = (len(starts) - 1, len(x))
        narrow = self.module.asarray(starts.astype(np.int32))
        matrix = sparse.csr_matrix((values, columns.astype(np.int32), narrow), shape=shape)
        matrix.has_canonical_format = True  # the columns of a row are in order, each once: else CuPy sorts them first

        def multiply() -> None:
            y[...] = matrix @ x

        return multiply

    def host_memory(self, values: HostArray, *, pinned: bool) -> HostArray:
        """Return a copy of `values`, in page-locked memory if `pinned`."""
        if not pinned:
            return values.copy()
        from cupyx import empty_pinned

        copy: HostArray = empty_pinned(values.shape, values.dtype)
        copy[...] = values
        return copy

    def copy_in(self, array: Any, values: HostArray) -> None:
        """Copy to the GPU, on the current stream."""
        array.set(values)

    def copy_out(self, values: HostArray, array: Any) -> None:
        """Copy to the host, on the current stream."""
        array.get(out=values)
