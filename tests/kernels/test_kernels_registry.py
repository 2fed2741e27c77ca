"""What holds for all kernels: names, operands, rates; and what cannot be made is refused with one message."""

from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
from kernel_making import COMPUTE, DTYPES, SHAPES, WANTED, kernel, missing

from simai_rules.config.kernels import KernelName
from simai_rules.errors import UserError
from simai_rules.kernels.devices import open_device
from simai_rules.kernels.devices.host import Host
from simai_rules.kernels.registry import KERNELS


def test_every_name_of_the_config_has_a_kernel():
    assert list(KERNELS) == list(get_args(KernelName))


@pytest.mark.parametrize("device", WANTED)
def test_kernels_are_tried_on(device):
    if reason := missing(device):
        pytest.skip(f"no kernel is tried on {device}: {reason}")


def test_every_docstring_has_its_formulas():
    for name, made in KERNELS.items():
        assert "flops:" in made.__doc__, name
        assert "bytes:" in made.__doc__, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPUTE)
def test_results_keep_the_dtype_and_stay_finite(name, dtype):
    made = kernel(name, dtype=dtype)
    for _ in range(301):
        made()
    results = [value for value in vars(made).values() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"]
    assert results
    expected = {np.dtype(dtype), np.result_type(dtype, np.complex64)} if name == "FFT" else {np.dtype(dtype)}
    for value in results:
        assert np.isfinite(value).all()
        if value.dtype.kind == np.dtype(dtype).kind or name == "FFT":
            assert value.dtype in expected
    assert made.flops() > 0
    assert made.nbytes() > 0
    assert made.device_ns == 0


@pytest.mark.parametrize("name", COMPUTE)
def test_operands_depend_on_the_seed_alone(name):
    def content(seed):
        made = kernel(name, seed=seed)
        made()
        return b"".join(value.tobytes() for value in vars(made).values() if isinstance(value, np.ndarray))

    assert content(1) == content(1) != content(2)


@pytest.mark.parametrize("name", COMPUTE)
def test_the_memory_that_is_checked_is_what_the_operands_take(name):
    shape = [12 * length for length in SHAPES.get(name, (12, 8))]
    made = kernel(name, shape, "float64")
    made()
    arrays = [value for value in vars(made).values() if isinstance(value, np.ndarray)]
    roots = {id(root): root for root in (array if array.base is None else array.base for array in arrays)}
    held = sum(root.nbytes for root in roots.values())
    assert 0.5 * made.memory() <= held <= 1.2 * made.memory()


@pytest.mark.parametrize(
    ("name", "data_size"),
    [("AXPY", [10**6, 10**6]), ("MatMulSimple2D", [10**9, 1]), ("Halo", [10**6, 10**6]), ("AllReduce", [10**13])],
)
def test_a_size_beyond_the_memory(name, data_size):
    with pytest.raises(UserError, match=f"kernel {name}: its operands .* take .* GB, but this node has .* GB of me"):
        kernel(name, data_size)


def test_memory_that_is_used_up(monkeypatch):
    def no_room(*_):
        raise MemoryError("Unable to allocate 7 GiB")

    monkeypatch.setattr(Host, "zeros", no_room)
    with pytest.raises(UserError, match=r"kernel AXPY: the memory of this node is used up \(Unable to allocate 7 GiB"):
        kernel("AXPY")


def test_memory_that_is_used_up_by_the_work_area_of_a_call():
    made = kernel("Sort")

    def no_room():
        raise MemoryError("Unable to allocate 7 GiB")

    made.work = no_room
    with pytest.raises(UserError, match=r"^kernel Sort: the memory of this node is used up \(Unable to allocate 7 GiB"):
        made()


def test_a_dtype_that_the_device_lacks(monkeypatch):
    monkeypatch.setattr(Host, "lacks", lambda self, dtype: "this chip computes in single precision; take float32")
    with pytest.raises(UserError, match=r"kernel FFT: this chip .* take float32\."):
        kernel("FFT", dtype="float64")


def test_a_function_that_the_array_module_lacks(monkeypatch):
    monkeypatch.setattr(Host, "module", ModuleType("smallpy"))
    with pytest.raises(UserError, match=r"smallpy has no function 'cbrt', which numpy has. Take another ufunc"):
        kernel("InplaceCompute", ufunc="cbrt")


@pytest.mark.parametrize(
    ("device", "package"), [("cuda", "CuPy"), ("cuda:7", "CuPy"), ("xpu", "dpnp|SYCL"), ("xpu:99", "dpnp|SYCL")]
)
def test_a_device_that_is_not_there(device, package):
    try:
        open_device(device)
    except UserError as error:
        text = str(error)
    else:
        pytest.skip(f"{device} is there")
    with pytest.raises(UserError, match=package):
        kernel("AXPY", device=device)
    assert "pip install" in text or "take device: cpu" in text or "Ask for another" in text


def test_importing_the_kernels_loads_no_heavy_package():
    from subprocess import run
    from sys import executable

    code = (
        "import sys, simai_rules.kernels.registry as r; "
        "sys.exit(', '.join({'cupy', 'dpnp', 'dpctl', 'h5py', 'mpi4py', 'torch'} & set(sys.modules)) or 0)"
    )
    done = run([executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    assert done.returncode == 0, done.stderr
