"""The kernels compute what they say, for any number of calls, and refuse what they cannot."""

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from simai_rules.config.components import REAL_ONLY_UFUNCS, UFUNCS, KernelConfig, KernelDtype, KernelName
from simai_rules.errors import UserError
from simai_rules.kernels.elementwise import GenerateRandomNumber, InplaceCompute, ScatterAdd
from simai_rules.kernels.fft import FFT
from simai_rules.kernels.linear import AXPY, MatMulGeneral, MatMulSimple2D
from simai_rules.kernels.registry import KERNELS, make

DTYPES = get_args(KernelDtype)


def kernel(name, data_size=(12, 8), dtype="float32", seed=1, **options):
    config = KernelConfig(name=name, data_size=list(data_size), dtype=dtype, **options)
    return make(config, np.random.default_rng(seed))


def test_every_name_of_the_config_has_a_kernel():
    assert set(KERNELS) == set(get_args(KernelName))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", get_args(KernelName))
def test_results_keep_the_dtype_and_stay_finite(name, dtype):
    made = kernel(name, dtype=dtype)
    for _ in range(1001):
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


@pytest.mark.parametrize("name", get_args(KernelName))
def test_operands_depend_on_the_seed_alone(name):
    def content(seed):
        made = kernel(name, seed=seed)
        made()
        return b"".join(value.tobytes() for value in vars(made).values() if isinstance(value, np.ndarray))

    assert content(1) == content(1) != content(2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_simple(dtype):
    made = kernel("MatMulSimple2D", (7, 5), dtype)
    made()
    assert isinstance(made, MatMulSimple2D)
    assert made.c.shape == (7, 7)
    np.testing.assert_allclose(made.c, np.einsum("ik,kj->ij", made.a, made.b), rtol=1e-4, atol=1e-5)
    assert made.flops() == (8 if made.complex else 2) * 7 * 5 * 7
    assert made.nbytes() == made.a.nbytes + made.b.nbytes + made.c.nbytes


def test_matmul_general_multiplies_every_pair_of_the_batch():
    made = kernel("MatMulGeneral", (3, 2, 7, 5), "float64")
    made()
    assert isinstance(made, MatMulGeneral)
    np.testing.assert_allclose(made.c, np.einsum("abik,abkj->abij", made.a, made.b))
    assert made.flops() == 6 * 2 * 7 * 5 * 7
    assert made.nbytes() == made.a.nbytes + made.b.nbytes + made.c.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_fft_is_undone_by_its_inverse(dtype):
    made = kernel("FFT", (8, 6, 4), dtype)
    made.result[...] = 0
    made()
    assert isinstance(made, FFT)
    back = np.fft.ifftn(made.result) if made.complex else np.fft.irfftn(made.result, made.shape, axes=(0, 1, 2))
    np.testing.assert_allclose(back, made.x, atol=1e-5)


def test_axpy_adds_and_takes_away_without_drift():
    made = kernel("AXPY", (1000,))
    assert isinstance(made, AXPY)
    before = made.y.copy()
    made()
    np.testing.assert_allclose(made.y, before + np.float32(0.5) * made.x)
    made()
    after_a_pair = made.y.copy()
    for _ in range(2000):
        made()
    np.testing.assert_array_equal(made.y, after_a_pair)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inplace_compute_is_finite_for_every_function_of_the_config(dtype):
    for ufunc in UFUNCS if dtype.startswith("complex") else UFUNCS + REAL_ONLY_UFUNCS:
        made = kernel("InplaceCompute", (100,), dtype, ufunc=ufunc)
        assert isinstance(made, InplaceCompute)
        for _ in range(50):
            made()
        np.testing.assert_array_equal(made.y, getattr(np, ufunc)(made.x), strict=ufunc not in ("abs", "absolute"))
        assert np.isfinite(made.y).all(), ufunc


def test_generated_numbers_are_uniform_and_new_at_every_call():
    made = kernel("GenerateRandomNumber", (100, 100), "complex64")
    assert isinstance(made, GenerateRandomNumber)
    made()
    first = made.y.copy()
    made()
    assert not np.array_equal(first, made.y)
    assert made.y.real.min() >= 0
    assert made.y.real.max() < 1
    assert made.y.real.mean() == pytest.approx(0.5, abs=0.02)
    assert made.y.imag.mean() == pytest.approx(0.5, abs=0.02)


def test_scatter_add_sums_into_repeated_places_and_returns_to_zero():
    made = kernel("ScatterAdd", (500,))
    assert isinstance(made, ScatterAdd)
    assert len(np.unique(made.index)) < 500
    made()
    np.testing.assert_array_equal(made.y, np.bincount(made.index, made._values[0], 500))
    assert made.y.any()
    for _ in range(2001):
        made()
    np.testing.assert_array_equal(made.y, 0)


@pytest.mark.parametrize(("name", "data_size"), [("AXPY", [10**6, 10**6]), ("MatMulSimple2D", [10**9, 1])])
def test_a_size_beyond_the_memory(name, data_size):
    with pytest.raises(UserError, match=f"kernel {name}.*of memory"):
        kernel(name, data_size)


def test_unknown_dtype_is_a_config_error():
    with pytest.raises(ValidationError, match="dtype"):
        KernelConfig(name="FFT", dtype="int8")
