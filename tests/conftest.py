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

LONGEST = ("test_documentation", "test_faults_matrix")
"""Files that one process is busy with for minutes: they come first, so that the others have something to do."""


@pytest.hookimpl(tryfirst=True)  # xdist, which writes the groups into the names of the tests, is the last
def pytest_collection_modifyitems(items):
    """Keep what shares a server in one process (pytest -n 3 --dist loadgroup): a file, or a backend of it."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        variant = getattr(item, "callspec", None) and item.callspec.params.get("variant")
        apart = f" {variant.backend} {sorted(variant.options.items())}" if variant else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}{apart}"))


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
