"""write_rest against steps that take less than they are given."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from simai_rules.staging.backend import bytes_of
from simai_rules.staging.vectored import IOV_MAX, write_rest


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=30), st.data())
def test_every_byte_is_written_once_and_in_order(buffers, data):
    whole = b"".join(buffers)
    written = bytearray(whole[: data.draw(st.integers(0, len(whole)))])

    def step(part):
        joined = b"".join(part)
        count = data.draw(st.integers(min(1, len(joined)), len(joined)))
        written.extend(joined[:count])
        return count

    write_rest(step, buffers, len(written))
    assert bytes(written) == whole


def test_no_call_gets_more_than_the_kernel_takes():
    calls = []

    def step(part):
        calls.append(len(part))
        return sum(map(len, part))

    write_rest(step, [b"x"] * 3000, 0)
    assert sum(calls) == 3000
    assert max(calls) <= IOV_MAX


def test_memory_of_every_format_can_be_cut():
    for dtype in ("?", "f2", "c8", "c16", "u1"):
        for shape in ((), (0, 2), (2, 3)):
            array = np.ones(shape, dtype)
            assert bytes(bytes_of(array.data)) == array.tobytes()
