"""Each compute kernel against plain numpy in double precision, on every device that is there."""

import numpy as np
import pytest
from kernel_making import DEVICES, DTYPES, kernel

from simai_rules.config.kernels import REAL_ONLY_UFUNCS, UFUNCS

pytestmark = pytest.mark.parametrize("device", DEVICES)


def wide(made, array):
    """Return an array of a kernel's device in double precision on the host."""
    values = made.device.to_host(array)
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def tolerance(made):
    single = made.dtype.itemsize == (8 if made.complex else 4)
    return {"rtol": 1e-5, "atol": 2e-5} if single else {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_simple(device, dtype):
    made = kernel("MatMulSimple2D", (7, 5), dtype, device=device)
    made()
    a, b = wide(made, made.a), wide(made, made.b)
    np.testing.assert_allclose(wide(made, made.c), np.einsum("ik,kj->ij", a, b), **tolerance(made))
    assert made.c.dtype == dtype
    assert made.flops() == (8 if made.complex else 2) * 7 * 5 * 7
    assert made.nbytes() == made.a.nbytes + made.b.nbytes + made.c.nbytes


def test_matmul_general_multiplies_every_pair_of_the_batch(device):
    made = kernel("MatMulGeneral", (3, 2, 7, 5), "float64", device=device)
    made()
    expected = np.einsum("abik,abkj->abij", wide(made, made.a), wide(made, made.b))
    np.testing.assert_allclose(wide(made, made.c), expected, **tolerance(made))
    assert made.flops() == 6 * 2 * 7 * 5 * 7
    assert made.nbytes() == made.a.nbytes + made.b.nbytes + made.c.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_fft(device, dtype):
    made = kernel("FFT", (8, 6, 4), dtype, device=device)
    made.result[...] = 0
    made()
    x = wide(made, made.x)
    expected = np.fft.fftn(x) if made.complex else np.fft.rfftn(x)
    np.testing.assert_allclose(wide(made, made.result), expected, rtol=1e-4, atol=1e-4)
    assert made.result.dtype == np.result_type(dtype, np.complex64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_axpy_adds_and_takes_away_without_drift(device, dtype):
    made = kernel("AXPY", (1000,), dtype, device=device)
    before = wide(made, made.y)
    made()
    np.testing.assert_allclose(wide(made, made.y), before + 0.5 * wide(made, made.x), **tolerance(made))
    made()
    after_a_pair = wide(made, made.y)
    for _ in range(200):
        made()
    np.testing.assert_array_equal(wide(made, made.y), after_a_pair)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inplace_compute_has_every_function_of_the_config(device, dtype):
    for ufunc in UFUNCS if dtype.startswith("complex") else UFUNCS + REAL_ONLY_UFUNCS:
        if not hasattr(kernel("AXPY", device=device).device.module, ufunc):
            continue  # numpy has them all; what another array module lacks is refused (test_kernels_registry.py)
        made = kernel("InplaceCompute", (100,), dtype, device=device, ufunc=ufunc)
        for _ in range(3):
            made()
        expected = getattr(np, ufunc)(made.device.to_host(made.x))  # spacing is that of the dtype
        assert made.y.dtype == expected.dtype
        np.testing.assert_allclose(wide(made, made.y), expected, rtol=1e-4, atol=1e-6, err_msg=ufunc)
        assert np.isfinite(wide(made, made.y)).all(), ufunc


@pytest.mark.parametrize("dtype", DTYPES)
def test_generated_numbers_are_uniform_and_new_at_every_call(device, dtype):
    made = kernel("GenerateRandomNumber", (100, 100), dtype, device=device)
    made()
    first = wide(made, made.y)
    made()
    second = wide(made, made.y)
    assert made.y.shape == (100, 100)
    assert made.y.dtype == dtype
    assert not np.array_equal(first, second)
    for part in (second.real, second.imag) if made.complex else (second,):
        assert part.min() >= 0
        assert part.max() < 1
        assert part.mean() == pytest.approx(0.5, abs=0.02)
        assert part.std() == pytest.approx(12**-0.5, rel=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_add_sums_into_repeated_places_and_returns_to_zero(device, dtype):
    made = kernel("ScatterAdd", (500,), dtype, device=device)
    index, values = made.device.to_host(made.index), wide(made, made.values)
    assert 250 < len(np.unique(index)) < 400
    made()
    expected = np.zeros(500, values.dtype)
    for place, value in zip(index, values, strict=True):
        expected[place] += value
    np.testing.assert_array_equal(wide(made, made.y), expected)
    assert expected.any()
    for _ in range(201):
        made()
    np.testing.assert_array_equal(wide(made, made.y), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stencil(device, dtype):
    made = kernel("Stencil", (5, 7, 6), dtype, device=device)
    made()
    made()
    x, y = wide(made, made.x), wide(made, made.y)
    for i in range(1, 4):
        for j in range(1, 6):
            for k in range(1, 5):
                around = x[i - 1, j, k] + x[i + 1, j, k] + x[i, j - 1, k] + x[i, j + 1, k]
                expected = around + x[i, j, k - 1] + x[i, j, k + 1] - 6 * x[i, j, k]
                assert y[i, j, k] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    y[1:-1, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(y, 0)
    assert made.flops() == (14 if made.complex else 7) * 3 * 5 * 4
    assert made.nbytes() == 20 * 3 * 5 * 4 * made.dtype.itemsize


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(50, 7), (20, 20), (9, 1)])
def test_sparse_matrix_vector_product(device, dtype, shape):
    made = kernel("SpMV", shape, dtype, device=device)
    made()
    made()
    rows, k = shape
    matrix = np.zeros((rows, rows), np.complex128)
    columns, values = made.device.to_host(made.columns), wide(made, made.values)
    np.add.at(matrix, (np.repeat(np.arange(rows), k), columns), values)
    np.testing.assert_allclose(wide(made, made.y), matrix @ wide(made, made.x), **tolerance(made))
    assert (np.diff(columns.reshape(shape)) > 0).all()
    assert made.flops() == (8 if made.complex else 2) * rows * k


@pytest.mark.parametrize("dtype", DTYPES)
def test_sort(device, dtype):
    made = kernel("Sort", (5, 40), dtype, device=device)
    made()
    made()
    x, y = wide(made, made.x), wide(made, made.y)
    np.testing.assert_array_equal(y, np.sort(x))
    assert not np.array_equal(x, y)
    assert made.flops() == pytest.approx(200 * np.log2(40))


def test_a_device_other_than_the_cpu_measures_by_its_own_events(device):
    made = kernel("MatMulSimple2D", (200, 200), device=device)
    made()
    first = made.device_ns
    made()
    assert (first == 0) == (device == "cpu")
    assert made.device_ns > first or device == "cpu"


def test_every_dtype_is_there_or_refused(device):
    made = kernel("AXPY", device=device)
    for dtype in DTYPES:
        assert isinstance(made.device.lacks(np.dtype(dtype)), str)
