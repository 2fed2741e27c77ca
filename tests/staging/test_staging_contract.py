"""What every backend does the same way."""

import time

import numpy as np
import pytest

from simai_rules.staging.errors import StagingError, StagingTimeout

ODD_KEYS = [
    "a/b/c",
    "..",
    "../../etc/passwd",
    "/absolute",
    ".",
    ".tmp.1.x",
    " blanks  and\ttabs ",
    "new\nline",
    "nul\0inside",
    "emoji 🚀",
    "%2F",
    "lone \ud800 surrogate",
    "k" * 10_000,
    "k" * 9_999 + "l",
    "ü" * 300,
    "a*b?c[d]",
    "*3\r\n$3\r\nDEL\r\n",
]


def test_a_value_is_read_back(store, key):
    data = np.random.default_rng(1).random((3, 1000)).astype("f4")
    store.stage_write(key, data)
    back = store.stage_read(key)
    np.testing.assert_array_equal(back, data)
    assert back.dtype == data.dtype


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "", "text ü", [], {}, [1, ["a", None]], {"a": {"b": 1}}, b"", b"\0x"]
)
def test_small_values_come_back_as_they_were(store, key, value):
    store.stage_write(key, value)
    back = store.stage_read(key)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5, 7)])
@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", "f8", "c8", "c16", ">f4", ">c16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_kind(store, key, shape, dtype, order):
    data = np.asarray(np.random.default_rng(2).random(shape) * 100, dtype=dtype, order=order)
    store.stage_write(key, data)
    back = store.stage_read(key)
    np.testing.assert_array_equal(back, data)
    assert back.dtype == data.dtype.newbyteorder("=")
    assert back.shape == shape
    assert back.flags.f_contiguous == data.flags.f_contiguous


def test_a_dict_of_arrays_and_numbers(store, key):
    value = {"data": np.arange(6.0), "rank": 3, "digest": 2**64 - 1, "names": ["u", "v"], "empty": np.zeros((0, 4))}
    store.stage_write(key, value)
    back = store.stage_read(key)
    assert list(back) == list(value)
    np.testing.assert_array_equal(back["data"], value["data"])
    assert (back["rank"], back["digest"], back["names"]) == (3, 2**64 - 1, ["u", "v"])
    assert back["empty"].shape == (0, 4)


@pytest.mark.parametrize("elements", [0, 1, 100, 3000, 100_000, 3_000_000])
def test_all_sizes(store, key, elements):
    data = np.random.default_rng(3).random(elements)
    store.stage_write(key, data)
    np.testing.assert_array_equal(store.stage_read(key), data)


def test_a_dict_of_more_arrays_than_one_call_takes(store, key):
    value = {f"array {number}": np.full(number % 7, number) for number in range(3000)}
    store.stage_write(key, value)
    back = store.stage_read(key)
    assert list(back) == list(value)
    assert all(np.array_equal(back[name], value[name]) for name in value)


def test_overwriting(store, key):
    store.stage_write(key, np.zeros(10))
    assert store.last.replaced is False
    store.stage_write(key, "now a text")
    assert store.last.replaced is True
    assert store.stage_read(key) == "now a text"


def test_reading_into_a_given_array(store, key):
    data = np.arange(12.0).reshape(3, 4)
    store.stage_write(key, data)
    out = np.empty((3, 4))
    assert store.stage_read(key, out=out) is out
    np.testing.assert_array_equal(out, data)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((4, 3)),
        np.zeros((3, 4), "f4"),
        np.zeros((3, 4), order="F"),
        np.zeros((3, 8))[:, ::2],
        np.zeros(12),
        np.broadcast_to(np.zeros(()), (3, 4)),
    ],
)
def test_an_array_that_does_not_fit_is_refused_and_nothing_is_lost(store, key, out):
    data = np.arange(1.0, 13).reshape(3, 4)
    store.stage_write(key, data)
    with pytest.raises(StagingError, match="out="):
        store.stage_read(key, out=out)
    assert not out.any()
    np.testing.assert_array_equal(store.stage_read(key), data)


def test_out_takes_no_dict(store, key):
    store.stage_write(key, {"data": np.zeros(3)})
    with pytest.raises(StagingError, match="is a dict or JSON"):
        store.stage_read(key, out=np.zeros(3))
    assert store.poll_staged_data(key)


def test_the_reader_owns_what_it_reads(store, key):
    store.stage_write(key, np.zeros(1000))
    first = store.stage_read(key)
    first += 1
    second = store.stage_read(key)
    assert first.flags.owndata
    assert first.flags.writeable
    assert not second.any()


def test_the_writer_may_change_its_array_afterwards(store, key):
    data = np.zeros(1_000_000)
    store.stage_write(key, data)
    data += 1
    assert not store.stage_read(key).any()


def test_a_missing_key_is_a_timeout_that_names_everything(store, key, info):
    start = time.monotonic()
    with pytest.raises(StagingTimeout) as caught:
        store.stage_read(key, timeout=0.3)
    assert 0.25 < time.monotonic() - start < 5
    assert caught.value.key == key
    assert caught.value.seconds == 0.3
    for word in (info.backend, "0.3 s", key[:20]):
        assert word in str(caught.value)
    with pytest.raises(StagingTimeout):
        store.stage_read(key, timeout=0)


def test_polling(store, key):
    assert store.poll_staged_data(key) is False
    assert store.last.found is False
    assert store.poll_staged_data(key, timeout=0.05) is False
    store.stage_write(key, 1)
    assert store.poll_staged_data(key) is True
    assert store.poll_staged_data(key, timeout=5) is True
    assert store.last.found is True


def test_deleting(store, key):
    assert store.clean_staged_data(key) is False
    store.stage_write(key, 1)
    assert store.clean_staged_data(key) is True
    assert store.poll_staged_data(key) is False
    assert store.clean_staged_data(key) is False


def test_odd_keys_are_kept_apart(store, key):
    keys = [f"{odd}{key}" for odd in ODD_KEYS] + [f"{key}{odd}" for odd in ODD_KEYS] + ODD_KEYS
    for number, odd in enumerate(keys):
        store.stage_write(odd, number)
    assert [store.stage_read(odd) for odd in keys] == list(range(len(keys)))
    assert all(store.clean_staged_data(odd) for odd in keys)


@pytest.mark.parametrize(("wrong", "error"), [("", ValueError), (3, TypeError), (None, TypeError), (b"k", TypeError)])
def test_what_is_not_a_key(store, wrong, error):
    for verb in (lambda k: store.stage_write(k, 1), store.stage_read, store.poll_staged_data, store.clean_staged_data):
        with pytest.raises(error, match="staging key"):
            verb(wrong)


def test_a_thousand_keys(store, key):
    for number in range(1000):
        store.stage_write(f"{key}/{number}", number)
    assert all(store.stage_read(f"{key}/{number}") == number for number in range(1000))
    assert all(store.clean_staged_data(f"{key}/{number}") for number in range(1000))


def test_what_cannot_be_staged_leaves_the_store_usable(store, key):
    with pytest.raises(TypeError, match="set"):
        store.stage_write(key, {"a": {1, 2}})
    assert store.poll_staged_data(key) is False
    store.stage_write(key, 1)
    assert store.stage_read(key) == 1


def test_pickle_only_where_both_sides_ask_for_it(store, key, info, connect):
    trusting = connect(info, allow_pickle=True)
    trusting.stage_write(key, {1, 2})
    with pytest.raises(StagingError, match="allow_pickle"):
        store.stage_read(key)
    assert trusting.stage_read(key) == {1, 2}
    assert store.poll_staged_data(key)


def test_clients_of_one_server_see_each_other(info, connect, key):
    first, second = connect(info), connect(info)
    first.stage_write(key, [1])
    assert second.stage_read(key) == [1]
    second.clean_staged_data(key)
    assert first.poll_staged_data(key) is False


def test_another_process(store, info, key, start_peer):
    start_peer("answer", info, f"{key}/question", f"{key}/reply")
    data = np.random.default_rng(4).random(50_000)
    store.stage_write(f"{key}/question", data)
    np.testing.assert_array_equal(store.stage_read(f"{key}/reply"), data)


def test_a_waiting_reader_is_woken_by_another_process(store, info, key, start_peer):
    start_peer("write_late", info, key, 0.2)
    np.testing.assert_array_equal(store.stage_read(key), np.arange(10.0))
    assert store.last.wait_ns > 0


def test_waiting_for_a_key_while_others_come_and_go(store, info, connect, key, start_peer):
    other = connect(info)
    start_peer("write_late", info, key, 0.3)
    for number in range(100):
        other.stage_write(f"{key}/other {number}", number)
    assert store.poll_staged_data(key, timeout=30)
    assert store.poll_staged_data(f"{key}/never", timeout=0.05) is False
    store.clean_staged_data(key)
    assert store.poll_staged_data(key, timeout=0.05) is False


def test_no_reader_ever_sees_half_a_value(store, info, key, start_peer):
    elements = 500_000
    writers = [start_peer("overwrite", info, key, writer, elements, 100) for writer in (1, 2)]
    seen = set()
    while any(writer.is_alive() for writer in writers):
        back = store.stage_read(key)
        assert back.shape == (elements,)
        assert (back == back[0]).all()
        seen.add(back[0])
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(seen) > 1


def test_operations_are_timed_and_split(store, key):
    data = np.zeros(100_000)
    before = time.perf_counter_ns()
    store.stage_write(key, data)
    written = store.last
    assert (written.verb, written.key) == ("write", key)
    assert before <= written.start_ns <= time.perf_counter_ns()
    assert written.nbytes > data.nbytes
    assert written.duration_ns == written.serialize_ns + written.transport_ns
    store.stage_read(key)
    read = store.last
    assert (read.verb, read.nbytes, read.wait_ns) == ("read", written.nbytes, 0)
    assert read.duration_ns == read.transport_ns + read.deserialize_ns
    assert read.transport_ns > 0
    assert read.deserialize_ns > 0
    store.poll_staged_data(f"{key}/never", timeout=0.1)
    assert store.last.wait_ns > 50_000_000
    store.clean_staged_data(key)
    assert (store.last.verb, store.last.found, store.last.replaced) == ("delete", None, None)


def test_closing_twice_and_using_after(info, connect, key):
    store = connect(info)
    store.stage_write(key, 1)
    store.close()
    store.close()
    for verb in (lambda: store.stage_read(key), lambda: store.poll_staged_data(key), lambda: store.stage_write(key, 1)):
        with pytest.raises(StagingError, match="closed"):
            verb()


def test_a_context_manager_closes(info, connect, key):
    with connect(info) as store:
        store.stage_write(key, 1)
    with pytest.raises(StagingError, match="closed"):
        store.clean_staged_data(key)
