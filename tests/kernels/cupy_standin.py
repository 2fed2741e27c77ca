"""CuPy and cupyx over numpy, as far as kernels use them: 4 GPUs of 8 GB, of which others have taken 3 GB each."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np

GB = 10**9
launched = []
"""Names of what was asked for beyond numpy's own functions."""


class Array(np.ndarray):
    """An array that is on no GPU."""

    def get(self, out=None):
        if out is None:
            return np.array(self)
        out[...] = self
        return out

    def set(self, values):
        assert values.dtype == self.dtype
        self[...] = values


class Gpu:
    current = 0

    def __init__(self, number):
        self.number, self.pci_bus_id, self.mem_info = number, f"0000:{number:02d}:00.0", (5 * GB, 8 * GB)

    def use(self):
        Gpu.current = self.number


class Event:
    def __init__(self):
        self.recorded = self.waited = 0

    def record(self):
        self.recorded += 1

    def synchronize(self):
        self.waited += 1


class Matrix:
    """A sparse matrix in CSR format; like cuSPARSE's, its numbers have 32 bits."""

    has_canonical_format = None

    def __init__(self, parts, shape):
        self.values, self.columns, self.starts = parts
        assert self.columns.dtype == self.starts.dtype == np.int32
        assert len(self.starts) == shape[0] + 1

    def __matmul__(self, x):
        assert self.has_canonical_format
        launched.append("spmv")
        return np.add.reduceat(self.values * x[self.columns], self.starts[:-1])


def scatter_add(array, index, values):
    assert array.dtype.kind == "f", "no atomic operations on complex numbers"
    launched.append("scatter_add")
    np.add.at(array, index, values)


def empty_pinned(shape, dtype):
    launched.append("empty_pinned")
    return np.empty(shape, dtype)


def install(setitem):
    """Make `import cupy` give a new stand-in, by `setitem(sys.modules, name, module)`; return it."""
    launched.clear()
    names = ("cupy", "cupyx", "cupyx.scipy", "cupyx.scipy.sparse")
    cupy, cupyx, scipy, sparse = (ModuleType(name) for name in names)
    vars(cupy).update({name: getattr(np, name) for name in np.__all__ if name not in ("ndarray", "array")})
    cupy.__version__ = "14.2.0"
    cupy.asarray = lambda values: np.array(values).view(Array)
    cupy.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Array)
    cupy.fft = SimpleNamespace(
        fftn=lambda values: np.fft.fftn(values).view(Array), rfftn=lambda values: np.fft.rfftn(values).view(Array)
    )
    cupy.random = SimpleNamespace(Generator=np.random.Generator, XORWOW=np.random.PCG64)
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: GB)
    cupy.cuda = SimpleNamespace(
        Device=Gpu,
        Event=Event,
        get_elapsed_time=lambda begin, end: 0.25,
        get_current_stream=lambda: SimpleNamespace(ptr=0, synchronize=lambda: None),
        runtime=SimpleNamespace(getDeviceCount=lambda: 4, CUDARuntimeError=RuntimeError, is_hip=False),
    )
    cupyx.scatter_add, cupyx.empty_pinned, cupyx.scipy = scatter_add, empty_pinned, scipy
    scipy.sparse, sparse.csr_matrix = sparse, Matrix
    for name, module in zip(names, (cupy, cupyx, scipy, sparse), strict=True):
        setitem(sys.modules, name, module)
    return cupy
