"""How ranks choose a GPU and what is asked of CuPy, with a stand-in: a node with GPUs of 8 GB and no GPU needed."""

import sys

import cupy_standin
import numpy as np
import pytest
from kernel_making import COMPUTE, DTYPES, kernel, missing

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.base import Setup
from simai_rules.kernels.check import check_kernels
from simai_rules.kernels.devices import _opened, open_device
from simai_rules.kernels.registry import kernel_class

NO_GPU = missing("cuda")


@pytest.fixture
def cupy(monkeypatch):
    _opened.cache_clear()
    yield cupy_standin.install(monkeypatch.setitem)
    _opened.cache_clear()


def test_ranks_of_a_node_take_one_gpu_after_another(cupy):
    assert [open_device("cuda", rank).name for rank in (0, 1, 3, 4)] == ["cuda:0", "cuda:1", "cuda:3", "cuda:0"]
    assert open_device("cuda:2", 1).name == "cuda:2"
    assert open_device("cuda", 3).place == "GPU 0000:03:00.0"
    with pytest.raises(UserError, match="Device cuda:4: this process may use 4 GPUs, counted from 0"):
        open_device("cuda:4")


def test_what_is_left_of_its_memory_is_what_counts(cupy):
    assert open_device("cuda").memory() == 6 * cupy_standin.GB  # what is free, and what CuPy keeps
    fits = KernelConfig(name="AXPY", data_size=[4 * 10**8], device="cuda")
    check_kernels([fits], ranks=4, ranks_per_node=4)  # each may have a GPU of its own
    with pytest.raises(UserError, match=r"AXPY of one rank take 9\.6 GB together, but GPU 0000:00:00\.0 has 6 GB of"):
        check_kernels([fits, fits])
    with pytest.raises(UserError, match=r"take 7\.2 GB, but GPU 0000:00:00\.0 has 6 GB of memory left"):
        check_kernels([KernelConfig(name="AXPY", data_size=[6 * 10**8], device="cuda")])


def test_nonzeros_are_numbered_with_32_bits(cupy, monkeypatch):
    device = open_device("cuda")
    monkeypatch.setattr(device, "memory", lambda: 10**12)
    config = KernelConfig(name="SpMV", data_size=[2**28, 8], device="cuda")
    with pytest.raises(UserError, match=r"has 2147483648 nonzeros, .* Give less than 2147483648\."):
        kernel_class(config)(Setup(config, np.random.default_rng(0), device), prepare=False)


@pytest.mark.parametrize("version", ["13.6.0", "14.2.0"])
def test_bfloat16_needs_ml_dtypes_and_a_cupy_that_has_it(cupy, monkeypatch, version):
    config = KernelConfig(name="MatMulSimple2D", data_size=[64, 64], dtype="bfloat16", device="cuda")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UserError, match=r"needs the package ml_dtypes, .*: pip install ml_dtypes\."):
        check_kernels([config])
    monkeypatch.delitem(sys.modules, "ml_dtypes")
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: pip install ml_dtypes")
    cupy.__version__ = version
    if version < "14":
        with pytest.raises(UserError, match=r"CuPy 13\.6\.0 has no product of bfloat16 .* Take dtype float16"):
            check_kernels([config])
    else:
        check_kernels([config])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*COMPUTE, "CopyHostToDevice", "CopyDeviceToHost"])
def test_what_cupy_is_asked_for_gives_what_numpy_does(cupy, name, dtype):
    pinned = {"pinned": True} if name.startswith("Copy") else {}
    made = kernel(name, dtype=dtype, device="cuda:1", **pinned)
    cupy_standin.Gpu.current = 0
    made()
    assert cupy_standin.Gpu.current == 1  # another kernel may have been on another GPU
    assert made.device_ns == 250_000
    assert made.device._begin.recorded == made.device._end.recorded == made.device._end.waited == 1
    asked = {"ScatterAdd": "scatter_add", "SpMV": "spmv"} | dict.fromkeys(
        ("CopyHostToDevice", "CopyDeviceToHost"), "empty_pinned"
    )
    assert set(cupy_standin.launched) == ({asked[name]} if name in asked else set())
    if name in ("GenerateRandomNumber", "CopyHostToDevice", "CopyDeviceToHost"):
        ours = made.y if name == "GenerateRandomNumber" else made.array
        assert ours.dtype == dtype
        assert ours.any()
        return
    host = kernel(name, dtype=dtype)
    host()
    result = {"FFT": "result", "MatMulSimple2D": "c", "MatMulGeneral": "c"}.get(name, "y")
    np.testing.assert_allclose(made.device.to_host(getattr(made, result)), getattr(host, result), rtol=1e-5, atol=1e-6)
    assert made.flops() == host.flops()
    assert made.nbytes() == host.nbytes() - (4 * 96 if name == "SpMV" else 0)


@pytest.mark.gpu
@pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_of_16_bits_on_a_gpu(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: pip install ml_dtypes")
    made = kernel("MatMulSimple2D", (64, 48), dtype, device="cuda")
    made()
    a, b, c = (made.device.to_host(array).astype(np.float64) for array in (made.a, made.b, made.c))
    np.testing.assert_allclose(c, a @ b, atol=0.05)
    assert made.c.dtype == np.dtype(dtype)
    assert made.nbytes() == 2 * (2 * 64 * 48 + 64 * 64)
