"""A byte that changed after a value was staged: with a checksum it is found, without one it never breaks the reader."""

import contextlib
import random
from time import perf_counter_ns

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from staging_values import VALUES, decoded, encoded, same

from simai_rules.staging.backends import connect as connect_backend
from simai_rules.staging.errors import CorruptValue, StagingError

SAMPLES = [
    np.linspace(0, 1, 7),
    np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
    np.array([1 + 2j, 3j]),
    np.float32(1.5),
    b"raw bytes",
    "a text with \u00fcmlauts",
    7,
    [],
    {"step": 7, "a": np.arange(3, dtype="u1"), "names": ["x", None], "b": np.zeros((0, 2))},
]


@given(VALUES)
def test_values_with_a_checksum_come_back(value):
    assert same(value, decoded(encoded(value, checksum=True)))


@pytest.mark.parametrize("value", SAMPLES, ids=lambda value: type(value).__name__)
def test_no_byte_of_a_value_can_change_unseen(value):
    """Every byte, by one bit and by all of them."""
    data = encoded(value, checksum=True)
    for place in range(len(data)):
        for flip in (1 << place % 8, 255):
            damaged = bytearray(data)
            damaged[place] ^= flip
            with pytest.raises(CorruptValue):
                decoded(bytes(damaged))


def test_a_changed_byte_is_seen_whatever_was_read_before():
    """What is remembered of headers must not let one pass."""
    value = np.arange(4.0)
    for _ in range(3):
        first, second = encoded(value, checksum=True), encoded(value)
        assert same(decoded(first), value)
        assert same(decoded(second), value)
        for place in (-1, -30):
            damaged = bytearray(first)
            damaged[place] ^= 4
            with pytest.raises(CorruptValue):
                decoded(bytes(damaged))


def test_the_message_says_that_bytes_have_changed():
    damaged = bytearray(encoded(np.ones(4), checksum=True))
    damaged[-1] ^= 1
    with pytest.raises(CorruptValue, match="bytes have changed since it was written"):
        decoded(bytes(damaged))


def test_pickles_are_checked_before_they_are_loaded():
    data = encoded({1, 2}, allow_pickle=True, checksum=True)
    assert decoded(data, allow_pickle=True) == {1, 2}
    damaged = bytearray(data)
    damaged[-2] ^= 1
    with pytest.raises(CorruptValue, match="bytes have changed"):
        decoded(bytes(damaged), allow_pickle=True)


def test_out_is_checked():
    data = bytearray(encoded(np.arange(4.0), checksum=True))
    out = np.zeros(4)
    assert decoded(bytes(data), out=out) is out
    data[-1] ^= 1
    with pytest.raises(CorruptValue, match="bytes have changed"):
        decoded(bytes(data), out=out)


def test_only_who_asks_for_a_checksum_gets_one():
    for value in SAMPLES:
        assert b'"xxh3"' not in encoded(value)
        assert encoded(value, checksum=True).count(b'"xxh3"') == 1


def test_a_checksum_that_is_moved_or_malformed_is_refused():
    data = encoded(5, checksum=True)
    start = data.index(b'"xxh3":"') + 8
    for digits in (b"X" * 16, b"A" * 16, b'"' * 16, b" " * 16):
        with pytest.raises(CorruptValue, match=r"checksum|JSON"):
            decoded(data[:start] + digits + data[start + 16 :])
    text = data[8:].replace(b'{"json"', b'{ "json"').rstrip(b" ").ljust(len(data) - 8)
    with pytest.raises(CorruptValue, match="does not stand where it belongs"):
        decoded(len(text).to_bytes(8, "little") + text)


def test_the_public_reader_reads_values_with_a_checksum():
    public = pytest.importorskip("safetensors.numpy")
    value = {"a": np.arange(6, dtype="f4").reshape(2, 3), "n": 3, "b": np.zeros((0, 3), "i8")}
    back = public.load(encoded(value, checksum=True))
    assert back.keys() == {"a", "b"}
    np.testing.assert_array_equal(back["a"], value["a"])


class Raw:
    """The bytes of a staged value, by the client half of whatever backend holds it."""

    def __init__(self, info):
        self._backend = connect_backend(info, self.deadline())

    @staticmethod
    def deadline():
        return perf_counter_ns() + 30 * 10**9

    def get(self, key):
        incoming = self._backend.open(key, self.deadline())
        header = incoming.header if incoming.header is not None else incoming.read_header()
        rest = np.empty(incoming.nbytes - 8 - len(header), np.uint8)
        incoming.readinto(rest.data)
        incoming.close()
        return len(header).to_bytes(8, "little") + header + rest.tobytes()

    def put(self, key, data):
        self._backend.put(key, [bytes(data)], len(data), self.deadline())

    def close(self):
        self._backend.close()


@pytest.fixture
def raw(info, variant):
    if not getattr(variant, "keeps_content", True):
        pytest.skip(f"{info.backend} does not keep what is written")
    bytes_of_keys = Raw(info)
    yield bytes_of_keys
    bytes_of_keys.close()


def damages(data, count):
    """Yield copies of `data` with one bit changed: in the length, the header, and the array."""
    random_places = random.Random(len(data))
    header = 8 + int.from_bytes(data[:8], "little")
    for number in range(count):
        first, last = [(0, 8), (8, header), (header, len(data))][number % 3]
        place = random_places.randrange(first, max(last, first + 1)) % len(data)
        damaged = bytearray(data)
        damaged[place] ^= 1 << random_places.randrange(8)
        yield place, damaged


@pytest.mark.parametrize(
    "value", [np.arange(5000.0), {"a": np.ones(9), "step": 3}, "text"], ids=["array", "dict", "text"]
)
def test_a_flipped_bit_is_never_returned_as_good_data(info, connect, key, raw, value):
    with_checksum, without = connect(info, checksum=True), connect(info)
    with_checksum.stage_write(key, value)
    assert same(without.stage_read(key), value)
    for place, damaged in damages(raw.get(key), 30):
        raw.put(key, damaged)
        for store in (with_checksum, without):
            with pytest.raises(CorruptValue) as caught:
                store.stage_read(key)
            assert repr(key)[1:40] in str(caught.value), place
            assert info.backend in str(caught.value)


@pytest.mark.parametrize(
    "value", [np.arange(500.0), {"a": np.ones(9), "step": 3}, "text"], ids=["array", "dict", "text"]
)
def test_without_a_checksum_a_flipped_bit_breaks_nothing(info, connect, key, raw, value):
    store = connect(info)
    store.stage_write(key, value)
    good = raw.get(key)
    for _, damaged in damages(good, 60):
        raw.put(key, damaged)
        with contextlib.suppress(StagingError):
            store.stage_read(key)
    raw.put(key, good)
    assert same(store.stage_read(key), value)


@settings(max_examples=200)
@given(VALUES, st.data())
def test_any_changed_byte_of_any_value_is_seen(value, data):
    damaged = bytearray(encoded(value, checksum=True))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptValue):
        decoded(bytes(damaged))
