"""The codec by itself: what comes back, what is refused, and the public reader."""

import numpy as np
import pytest
from hypothesis import given
from staging_values import VALUES, VIEWS, decoded, encoded, same

from simai_rules.staging import codec, safetensors
from simai_rules.staging.errors import CorruptValue, StagingError
from simai_rules.staging.safetensors import BFLOAT16


@given(VALUES)
def test_every_value_comes_back(value):
    assert same(value, decoded(encoded(value)))


@given(VIEWS)
def test_memory_order_is_kept(value):
    back = decoded(encoded(value))
    if value.flags.c_contiguous or value.flags.f_contiguous:
        assert back.flags.c_contiguous == value.flags.c_contiguous
        assert back.flags.f_contiguous == value.flags.f_contiguous


def test_contiguous_arrays_are_not_copied():
    array, fortran = np.zeros((30, 40)), np.zeros((30, 40), order="F")
    [_, first, second], _ = codec.encode({"a": array, "b": fortran})
    assert np.shares_memory(np.asarray(first), array)
    assert np.shares_memory(np.asarray(second), fortran)


def test_what_is_remembered_of_a_header_is_not_its_json_parts():
    for number in range(3):
        value = {"a": np.full(4, number), "step": number, "names": ["x"] * number}
        assert same(decoded(encoded(value)), value)
    data = encoded({"a": np.zeros(1), "step": 7})
    with pytest.raises(CorruptValue):
        decoded(data.replace(b'"[7]"', b'"[8 "'))
    with pytest.raises(CorruptValue):
        decoded(data.replace(b'"[7]"', b'"7  "'))


def test_equal_headers_of_unequal_arrays():
    """The same dtype and shape, but another order, byte order or meaning."""
    for array in (
        np.ones(3, "<u2"),
        np.ones(3, "u2").view(BFLOAT16),
        np.ones(3, ">f4"),
        np.ones(3, "f4"),
        np.ones((2, 2)),
    ):
        for _ in range(2):
            back = decoded(encoded(array))
            assert same(array, back)
            assert (back.dtype.metadata is None) == (array.dtype.metadata is None)
    assert b'"fortran' in encoded(np.ones((2, 2), order="F")[:, :])


def test_read_only_arrays_can_be_staged():
    array = np.arange(5)
    array.flags.writeable = False
    np.testing.assert_array_equal(decoded(encoded(array)), array)


def test_numpy_scalars_come_back_as_such():
    value = {"f": np.float32(1.5), "i": np.int8(-1), "b": np.bool_(True), "d": np.float64(0.1)}
    back = decoded(encoded(value))
    assert {key: type(item) for key, item in back.items()} == {key: type(item) for key, item in value.items()}
    assert back == value


def test_tuples_come_back_as_lists():
    assert decoded(encoded((1, (2, 3)))) == [1, [2, 3]]


def test_bytes_like_objects_come_back_as_bytes():
    for value in (bytearray(b"ab"), memoryview(b"ab"), memoryview(b"a-b-")[::2]):
        assert decoded(encoded(value)) == bytes(value)


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Odd(), "Odd"),
        ({1, 2}, "set"),
        ({"a": {"b": Odd()}}, r"\['a'\]\['b'\].*Odd"),
        ([1, [Odd()]], r"\[1\]\[0\].*Odd"),
        ({1: "a"}, "key of the type int"),
        ({"a": {1: "b"}}, "key of the type int"),
        ({"a": [np.zeros(3)]}, "ndarray"),
        (np.array([Odd()]), "object"),
        (np.zeros(3, "i4,f8"), "dtype"),
        (np.array(["a"]), "<U1"),
        (np.zeros(3, "M8[s]"), "datetime64"),
        (np.zeros(3, np.longdouble), "float128"),
        (np.ma.masked_array([1, 2], [True, False]), "masked"),
        (1j, "complex"),
    ],
)
def test_what_cannot_be_staged_is_named(value, words):
    with pytest.raises(TypeError, match=words):
        codec.encode(value)


def test_an_integer_of_more_digits_than_python_reads_back_is_refused():
    with pytest.raises(TypeError, match="JSON"):
        codec.encode(10**5000)


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(TypeError, match="deep"):
        codec.encode(value)


def test_pickle_is_marked_and_refused_unless_asked_for():
    data = encoded({"a": Odd}, allow_pickle=True)
    assert b"pickle" in data[:200]
    assert decoded(data, allow_pickle=True) == {"a": Odd}
    with pytest.raises(StagingError, match="allow_pickle"):
        decoded(data)
    assert b"pickle" not in encoded({"a": 1}, allow_pickle=True)


def test_a_damaged_pickle_is_corrupt():
    data = bytearray(encoded({1, 2}, allow_pickle=True))
    data[-3:] = b"\0\0\0"
    with pytest.raises(CorruptValue):
        decoded(bytes(data), allow_pickle=True)


def test_too_much_json_is_refused(monkeypatch):
    monkeypatch.setattr(safetensors, "HEADER_LIMIT", 1000)
    with pytest.raises(StagingError, match="as bytes"):
        codec.encode("x" * 1000)


def test_json_given_away_is_not_shared():
    data = encoded({"list": [1], "array": np.zeros(2)})
    decoded(data)["list"].append(2)
    assert decoded(data)["list"] == [1]


def test_reading_fortran_and_complex_arrays_into_out():
    for value in (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6).reshape(2, 3) * (1 + 2j)):
        out = np.zeros_like(value)
        assert decoded(encoded(value), out=out) is out
        np.testing.assert_array_equal(out, value)
        with pytest.raises(StagingError, match="contiguous"):
            decoded(encoded(value), out=np.zeros(value.shape, value.dtype, order="C" if value.flags.fnc else "F"))


def test_the_public_reader_reads_what_we_stage():
    public = pytest.importorskip("safetensors.numpy")
    value = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.array(True), "c": np.zeros((0, 3), "i8"), "n": 3}
    value |= {dtype: np.ones(3, dtype) for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f8", "c8")}
    back = public.load(encoded(value))
    assert back.keys() == value.keys() - {"n"}
    for name, array in back.items():
        np.testing.assert_array_equal(array, value[name])
        assert array.dtype == value[name].dtype
    np.testing.assert_array_equal(public.load(encoded(np.arange(3)))["data"], np.arange(3))
    pairs = public.load(encoded(np.array([1 + 2j])))["data"]
    np.testing.assert_array_equal(pairs, [[1.0, 2.0]])


def test_we_read_what_the_public_writer_writes():
    public = pytest.importorskip("safetensors.numpy")
    value = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.zeros((0, 3), "i8")}
    assert same(dict(sorted(value.items())), dict(sorted(decoded(public.save(value)).items())))


def test_bfloat16_without_torch_is_marked_bits():
    bits = np.array([0x3F80, 0x4000], "u2").view(BFLOAT16)
    data = encoded(bits)
    assert b'"BF16"' in data
    back = decoded(data)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, bits)
    assert encoded(back) == data
    assert b'"U16"' in encoded(np.array([1], "u2"))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    values = {
        "bf16": torch.arange(6, dtype=torch.float32).to(torch.bfloat16).reshape(2, 3).T,
        "f32": torch.arange(4, dtype=torch.float32, requires_grad=True),
        "bool": torch.tensor([True, False]),
        "c128": torch.tensor([1 + 2j], dtype=torch.complex128).conj(),
        "scalar": torch.tensor(3),
    }
    back = decoded(encoded(values))
    for name, tensor in values.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert b'"BF16"' in encoded(values)
    out = np.zeros(4, "f4")
    assert decoded(encoded(values["f32"]), out=out) is out
    np.testing.assert_array_equal(out, [0, 1, 2, 3])


def test_torch_tensors_that_are_elsewhere_or_odd():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="sparse"):
        codec.encode(torch.eye(2).to_sparse())
    with pytest.raises(TypeError, match="meta"):
        codec.encode(torch.zeros(2, device="meta"))
    with pytest.raises(TypeError, match="float8"):
        codec.encode({"a": torch.zeros(2).to(torch.float8_e4m3fn)})
