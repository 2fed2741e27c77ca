"""The staged data: seeded, different at every step and position, and recognised where it is not what it should be."""

import zlib

import numpy as np
import pytest

from simai_rules.components.payload import SLACK_ROWS, Payload, check, digest

DTYPES = ["float32", "float64", "float16", "int32", "int64"]


def payload(elements=8000, dtype="float32", features=7, seed=0, repeat=0, rank=0):
    return Payload(elements=elements, dtype=dtype, features=features, seed=seed, repeat=repeat, rank=rank)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("elements", [8, 1000, 8003])
def test_shape_and_dtype(elements, dtype):
    data = payload(elements, dtype).data(5)
    assert data.shape == (elements,)
    assert data.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_differ_at_every_position(dtype):
    made = payload(dtype=dtype)
    for step in range(20):
        same = made.data(step) == made.data(step + 1)
        assert same.mean() < (0.01 if dtype == "float16" else 0.001)
    assert len({digest(made.data(step)) for step in range(SLACK_ROWS + 1)}) == SLACK_ROWS + 1
    assert digest(made.data(0)) == digest(made.data(SLACK_ROWS + 1))


def test_snapshots_share_memory():
    made = payload()
    assert np.shares_memory(made.snapshot(0)["data"], made.snapshot(1)["data"])


@pytest.mark.parametrize("other", [{"seed": 1}, {"repeat": 1}, {"rank": 1}])
def test_content_depends_on_seed_repeat_and_rank(other):
    assert digest(payload().data(3)) == digest(payload().data(3))
    assert digest(payload().data(3)) != digest(payload(**other).data(3))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_incompressible(dtype):
    data = payload(80_000, dtype).data(0).tobytes()
    assert len(zlib.compress(data, 6)) > 0.85 * len(data)


def test_the_target_is_one_function_of_the_inputs_for_all_ranks():
    # sin(w·x) with |w| = 1.5: find w from rank 0's data, where arcsin undoes sin, and try it on rank 1's.
    rows = payload(80_000, "float64").data(0).reshape(-1, 8)
    steep = np.abs(rows[:, :7]).sum(axis=1) < 2
    weights = np.linalg.lstsq(rows[steep, :7], np.arcsin(rows[steep, 7]), rcond=None)[0]
    other = payload(80_000, "float64", rank=1).data(7).reshape(-1, 8)
    np.testing.assert_allclose(np.sin(other[:, :7] @ weights), other[:, 7], atol=0.02)
    assert np.abs(other[:, :7]).max() <= 1
    assert other[:, :7].std() == pytest.approx(3**-0.5, rel=0.02)


def test_check():
    made = payload()
    snapshot = made.snapshot(4)
    assert check(snapshot, 0, 4) == "ok"
    assert check(snapshot, 1, 4) == "stale"
    assert check(snapshot, 0, 5) == "stale"
    changed = snapshot["data"].copy()
    changed[17] += 1
    assert check(snapshot | {"data": changed}, 0, 4) == "torn"
    assert check(snapshot | {"data": made.data(5)}, 0, 4) == "torn"
