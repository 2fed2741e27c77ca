"""Fixtures for all tests."""

import os

import pytest
from traces import Traces

# Before any test loads numpy: tests run beside each other's processes on few cores, and BLAS would take all of them.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.fixture
def traces(tmp_path):
    """A view on what runs leave behind; nothing may be left when the test has ended."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    view = Traces(folder)
    yield view
    left = view.left_after(10)
    view.end()
    assert left == []
