"""What is not a staged value is refused as such, whatever it is."""

import contextlib
import gc
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from staging_values import VALUES, decoded, encoded

from simai_rules.staging.errors import CorruptValue
from simai_rules.staging.safetensors import DTYPES


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


PLAIN = '{"format":1,"root":{"tensor":"data"}}'
HOSTILE = [
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
    hostile(b"{}" + bytes(100)),
    (99_999_999).to_bytes(8, "little") + b"{}",
    (100_000_001).to_bytes(8, "little") + b"{}",
    hostile({"a": entry([2**63], 0, 8)}, bytes(8)),
    hostile({"a": entry([2**63 - 1], 0, 2**63 - 1, "U8")}),
    hostile({"a": entry([2**64 + 1], 0, 4)}, bytes(4)),
    hostile({"a": entry([2**62] * 200_000, 0, 4)}, bytes(4)),
    hostile({"a": entry([0, *[2**62] * 200_000], 0, 0)}),
    hostile({"a": entry([1] * 66, 0, 4)}, bytes(4)),
    hostile({"a": entry([float("nan")], 0, 4)}, bytes(4)),
    hostile({"a": entry([float("inf")], 0, 4)}, bytes(4)),
    hostile({"a": entry([1], float("nan"), 4)}, bytes(4)),
    hostile({"a": entry([1], 0, 2**63)}, bytes(4)),
    hostile({"a": entry([1], True, 5)}, bytes(4)),
    hostile({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(4)),
    hostile({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}, bytes(4)),
    hostile({"a": float("nan")}),
    hostile(b'{"a":{"dtype":' + b"[" * 900 + b"]" * 900 + b',"shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    hostile({"__metadata__": {"simai": '{"format":' + "[" * 900 + "]" * 900 + ',"root":{"json":0}}', "json": "[1]"}}),
    hostile({"__metadata__": {"simai": '{"format":NaN,"root":{"json":0}}', "json": "[1]"}}),
    hostile({"__metadata__": {"simai": '{"format":' + "9" * 5000 + ',"root":{"json":0}}', "json": "[1]"}}),
    hostile({"__metadata__": {"simai": '{"format":1,"root":{"json":0}}', "json": "[1]", "odd": ""}}),
    hostile({"__metadata__": {"simai": '{"format":1,"root":{"json":0}}', "json": "[1]", "json ": "[1]"}}),
    hostile({"__metadata__": {"json": "[1]", "simai": PLAIN}, "data": entry([1], 0, 4)}, bytes(4)),
    hostile({"__metadata__": {"json": "nothing", "simai": PLAIN}, "data": entry([1], 0, 4)}, bytes(4)),
    hostile({"__metadata__": {"json": "[]", "xxh3": "0" * 16, "simai": PLAIN}, "data": entry([1], 0, 4)}, bytes(4)),
    hostile({"__metadata__": {"xxh3": "0" * 16}, "a": entry([1], 0, 4)}, bytes(4)),
    hostile({str(number): entry([0], 0, 0) for number in range(2000)}, bytes(1)),
    hostile({str(number): entry([2**40], 0, 2**42) for number in range(2000)}),
]


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_headers_are_refused(data):
    """Each time: what is remembered of a header does not make it a good one."""
    for _ in range(2):
        with pytest.raises(CorruptValue) as caught:
            decoded(data)
        assert len(str(caught.value)) < 500
        str(caught.value).encode()


@pytest.mark.parametrize("blank", ["\x1c", "\x0b", "\x0c", "\x85", "\xa0", "\u2003"])
def test_what_json_does_not_take_for_blank_is_refused_after_a_good_header_too(blank):
    written = json.dumps({"format": 1, "root": {"json": 0}})
    good = json.dumps({"__metadata__": {"json": "[1]", "simai": written}}, separators=(",", ":"))
    with pytest.raises(CorruptValue):
        decoded(hostile(f"{good}{blank}".encode()))
    assert decoded(hostile(f"{good} \t\r\n".encode())) == 1
    with pytest.raises(CorruptValue):
        decoded(hostile(f"{good}{blank}".encode()))


def test_hostile_headers_are_refused_without_memory_for_what_they_claim():
    for data in HOSTILE:
        gc.collect()
        tracemalloc.start()
        with pytest.raises(CorruptValue):
            decoded(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Parsing what is there takes some dozen times its size.
        assert peak < 100 * len(data) + 100_000, data[:200]


CHILD = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_staging_plan import HOSTILE
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import CorruptValue, StagingError
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.keys import file_name

folder = Path(sys.argv[2])
store = DataStore("reader", ServerInfo("filesystem", "run", "ready", address={"folder": str(folder)}))
used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
for data in HOSTILE:
    (folder / file_name("hostile")).write_bytes(data)
    try:
        store.stage_read("hostile")
    except CorruptValue:
        continue
    raise AssertionError(data[:200])
# A file that is as large as it says, but holds nothing: memory is asked for, refused, and that is said.
text = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
with (folder / file_name("huge")).open("wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    file.truncate(8 + len(text) + 4 * 10**12)
try:
    store.stage_read("huge")
except StagingError as error:
    print(error)
"""


def test_hostile_files_are_refused_by_a_reader_with_little_memory(tmp_path):
    """The whole way, by a process whose address space has 300 MB left."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "does not fit into this process' memory" in done.stdout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["torch", "scalar", "bytes"])
def test_every_kind_of_every_dtype_is_read_or_refused(kind, dtype):
    """Torch has not all of the layout's dtypes in each of its versions."""
    size = DTYPES[dtype].itemsize
    described = json.dumps({"format": 1, "root": {"tensor": "data", "kind": kind}})
    for shape in ([], [1], [1, 1]):
        content = {"__metadata__": {"json": "[]", "simai": described}, "data": entry(shape, 0, size, dtype)}
        with contextlib.suppress(CorruptValue):
            decoded(hostile(content, bytes(size)))
