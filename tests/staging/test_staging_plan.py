"""What is not a staged value is refused as such, whatever it is."""

import contextlib
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from staging_values import VALUES, decoded, encoded

from simai_rules.staging.errors import CorruptValue


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(data):
    with contextlib.suppress(CorruptValue):
        decoded(data)


HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["F32", "U8", "array", "data", 2**63, -1, 8, 0, 1.5]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "__metadata__",
                    "simai",
                    "tensor",
                    "kind",
                    "data",
                    "dtype",
                    "shape",
                    "data_offsets",
                    "format",
                    "root",
                    "json",
                    "items",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(HEADERS, st.binary(max_size=64))
def test_any_json_header_is_read_or_refused(content, data):
    text = json.dumps(content).encode()
    with contextlib.suppress(CorruptValue):
        decoded(len(text).to_bytes(8, "little") + text + data)


@given(HEADERS, st.binary(max_size=16))
def test_any_description_of_the_value_is_read_or_refused(content, data):
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    described = json.dumps({"format": 1, "root": content})
    text = json.dumps({"__metadata__": {"json": "[1]", "simai": described}, "data": tensor}).encode()
    with contextlib.suppress(CorruptValue):
        decoded(len(text).to_bytes(8, "little") + text + data)


@settings(max_examples=300)
@given(VALUES, st.data())
def test_a_damaged_value_is_read_or_refused(value, data):
    whole = bytearray(encoded(value))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptValue):
        decoded(bytes(whole))


@given(VALUES, st.data())
def test_a_value_cut_short_is_refused(value, data):
    whole = encoded(value)
    with pytest.raises(CorruptValue):
        decoded(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(VALUES, st.binary(min_size=1))
def test_a_value_with_more_at_its_end_is_refused(value, more):
    with pytest.raises(CorruptValue):
        decoded(encoded(value) + more)


def hostile(content, data=b""):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        (2**63).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little"),
        hostile(b"[" * 100_000),
        hostile(b'{"a":' * 100_000),
        hostile(b"\xff\xfe"),
        hostile([]),
        hostile({"a": entry([2**40], 0, 2**42)}),
        hostile({"a": entry([2**62], 0, 8)}, bytes(8)),
        hostile({"a": entry([0, 2**62, 2**62], 0, 0)}),
        hostile({"a": entry([1] * 100, 0, 4)}, bytes(4)),
        hostile({"a": entry([-1, -1], 0, 4)}, bytes(4)),
        hostile({"a": entry([True], 0, 4)}, bytes(4)),
        hostile({"a": entry([1.0], 0, 4)}, bytes(4)),
        hostile({"a": entry([1], -4, 0)}),
        hostile({"a": entry([1], 4, 0)}, bytes(4)),
        hostile({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)),
        hostile({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, bytes(6)),
        hostile({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
        hostile({"a": entry([1], 4, 8)}, bytes(8)),
        hostile({"a": entry([1], 0, 4)}, bytes(8)),
        hostile({"a": entry([1], 0, 4, "F4")}, bytes(4)),
        hostile({"a": entry([1], 0, 4, ["F32"])}, bytes(4)),
        hostile({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
        hostile({"a": entry([1], 0, 4) | {"more": 1}}, bytes(4)),
        hostile(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', bytes(1)),
        hostile({"__metadata__": {"simai": 1}}),
        hostile({"__metadata__": {"simai": "[" * 10_000}}),
        hostile({"__metadata__": {"simai": '{"format":2,"root":{"json":0}}', "json": "[1]"}}),
        hostile({"__metadata__": {"simai": '{"format":1,"root":{"json":0}}', "json": "[]"}}),
        hostile({"__metadata__": {"simai": '{"format":1,"root":{"json":0}}', "json": "[1,2]"}}),
        hostile({"__metadata__": {"simai": '{"format":1,"root":{"json":0}}', "json": "{}"}}),
        hostile({"__metadata__": {"simai": '{"format":1,"root":{"json":1}}', "json": "[1]"}}),
        hostile({"__metadata__": {"json": "[1]"}}),
        hostile({"__metadata__": {"json": 5}}),
        hostile(b'{"__metadata__":{"json":"[1]"'),
        hostile(b'{"__metadata__":{"json":"[1'),
        hostile({"__metadata__": {"simai": '{"format":1,"root":{"tensor":"absent"}}'}}),
        hostile({"__metadata__": {"simai": '{"format":1,"root":{"items":[["a",{"json":1}],["a",{"json":2}]]}}'}}),
    ],
)
def test_hostile_headers_are_refused(data):
    with pytest.raises(CorruptValue):
        decoded(data)
