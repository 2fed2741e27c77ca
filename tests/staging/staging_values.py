"""Values that can be staged, and the codec over bytes instead of a backend."""

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra import numpy as hnp

from simai_rules.staging import codec, safetensors
from simai_rules.staging.backend import bytes_of
from simai_rules.staging.errors import CorruptValue


class Bytes:
    """An Incoming over bytes."""

    def __init__(self, data):
        self.data, self.nbytes, self.source = data, len(data), "memory"

    def read(self, count):
        if count > len(self.data):
            raise CorruptValue("too short")
        text, self.data = self.data[:count], self.data[count:]
        return text

    header = None

    def read_header(self):
        return self.read(safetensors.header_length(self.read(min(8, self.nbytes)), self.nbytes))

    def readinto(self, view):
        bytes_of(view)[:] = self.read(view.nbytes)


def encoded(value, **options):
    buffers, nbytes = codec.encode(value, **options)
    data = b"".join(buffers)
    assert len(data) == nbytes
    return data


def decoded(data, **options):
    return codec.decode(Bytes(data), **options)[0]


def same(left, right):
    """Whether two values are equal in type, bits and order."""
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype.newbyteorder("=") == right.dtype
            and left.shape == right.shape
            and left.astype(left.dtype.newbyteorder("=")).tobytes() == right.tobytes()
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and (left == right or (left != left and right != right))


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
VIEWS = st.builds(
    lambda array, transposed, step: (array.T if transposed else array)[(slice(None, None, step),) * array.ndim],
    ARRAYS,
    st.booleans(),
    st.sampled_from([1, 1, 2, -1]),
)
TEXT = st.text(st.characters())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
NAMES = TEXT | st.sampled_from(["__metadata__", "__metadata___", "data", ""])
VALUES = VIEWS | JSON | st.binary() | st.dictionaries(NAMES, VIEWS | JSON | st.binary(max_size=20), max_size=5)
