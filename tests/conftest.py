"""Fixtures for all tests."""

import os
import signal

import pytest
from traces import Traces

# Before any test loads numpy: tests run beside each other's processes on few cores, and BLAS would take all of them.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# What a shell has put into the background ignores Ctrl-C, and so would all that the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = ("test_documentation", "test_faults_matrix", "test_staging_contract")
"""Files that one process is busy with for minutes: they come first, so that the others have something to do."""


def pytest_collection_modifyitems(items):
    """Begin with the longest files, of which one process each has the whole (pytest -n 3 --dist loadfile)."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


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
