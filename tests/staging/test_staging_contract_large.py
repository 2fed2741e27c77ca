"""Values beyond 32 bits: `make test-large`, or pytest -m large tests/staging."""

import shutil

import numpy as np
import pytest
from staging_servers import sizes_in

from simai_rules.staging.errors import StagingFull

GIB = 1024**3
pytestmark = [pytest.mark.large, pytest.mark.timeout(900)]


def test_4_gib(request, connect, key, variant, tmp_path):
    elements = 4 * GIB // 8 + 1
    nbytes = elements * 8
    if variant.largest is not None and variant.largest < nbytes:
        pytest.skip(f"{variant.backend} takes values of at most {variant.largest} bytes")
    # What is written, what is staged, and what is read; the staged one may lie on a disk, which a tmpfs is not.
    if (free := sizes_in("/proc/meminfo")["MemAvailable"]) < 3.2 * nbytes:
        pytest.skip(f"{free / GIB:.1f} GiB of memory are free, and {3.2 * nbytes / GIB:.1f} are needed")
    if (free := shutil.disk_usage(tmp_path).free) < 1.2 * nbytes:
        pytest.skip(f"{tmp_path} has {free / GIB:.1f} GiB free, and {1.2 * nbytes / GIB:.1f} are needed")
    store = connect(request.getfixturevalue("info"), timeout=300)  # a server is started only now
    data = np.arange(elements)
    try:
        store.stage_write(key, data)
    except StagingFull as full:
        pytest.skip(str(full))
    assert store.last.nbytes > 4 * GIB
    out = np.zeros(elements, "i8")
    assert store.stage_read(key, out=out) is out
    if variant.keeps_content:
        step = 64 * 1024**2
        assert all(np.array_equal(out[at : at + step], data[at : at + step]) for at in range(0, elements, step))
    assert store.clean_staged_data(key)
    assert store.poll_staged_data(key) is False
