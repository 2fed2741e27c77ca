"""The optional ability to lock, on every backend that offers it."""

import os
import signal
import time

import pytest

from simai_rules.staging.backend import Locking
from simai_rules.staging.errors import StagingError, StagingTimeout
from simai_rules.staging.info import ServerInfo

ODD_KEYS = ["a/b", "../up", ".", "a b", "ключ", "\ud800", "k" * 1000, ".lock.x", "x.lock", "%2F"]


@pytest.fixture
def store(info, connect):
    """A client of a backend that offers locks."""
    store = connect(info)
    if not isinstance(store._backend, Locking):
        pytest.skip(f"{info.backend} offers no lock")
    return store


def is_free(store, key):
    try:
        with store.lock(key, timeout=0):
            return True
    except StagingTimeout:
        return False


def test_one_process_at_a_time_is_inside(store, info, key, start_peer, answer_of):
    peers = [start_peer("take_turns", info, key, 25) for _ in range(3)]
    assert [answer_of(peer) for peer in peers] == [0, 0, 0]
    assert is_free(store, key)


def test_no_update_of_a_counter_is_lost(store, info, key, start_peer, answer_of):
    store.stage_write(key, 0)
    peers = [start_peer("count_up", info, key, 30) for _ in range(3)]
    for peer in peers:
        answer_of(peer)
    assert store.stage_read(key) == 90


def test_a_killed_holder_blocks_nobody(store, info, key, start_peer):
    holder = start_peer("hold_lock", info, key)
    assert store.stage_read(f"{key}/held", timeout=60) == holder.pid
    assert not is_free(store, key)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with store.lock(key, timeout=60):
        assert not is_free(store, key)


def test_who_waits_gets_it_when_it_is_free(store, connect, info, key, start_peer, answer_of):
    store.stage_write(key, 0)
    with store.lock(key):
        waiting = start_peer("count_up", info, key, 1)
        assert not waiting.answers.poll(1)
        store.stage_write(key, 10)
    answer_of(waiting)
    assert store.stage_read(key) == 11


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_the_deadline_is_kept_and_told(store, connect, info, key, seconds):
    with connect(info).lock(key):
        start = time.monotonic()
        with pytest.raises(StagingTimeout, match="lock") as caught, store.lock(key, timeout=seconds):
            pytest.fail("two clients hold the same lock")
        assert seconds <= time.monotonic() - start < 10
    assert (caught.value.key, caught.value.seconds) == (key, seconds)
    for word in (info.backend, f"{seconds:g} s", key[:20], "reentrant"):
        assert word in str(caught.value)
    assert is_free(store, key)


def test_without_a_timeout_the_datastores_holds(connect, info, key, store):
    with store.lock(key), pytest.raises(StagingTimeout, match=r"0\.2 s"), connect(info, timeout=0.2).lock(key):
        pytest.fail("two clients hold the same lock")


def test_it_is_not_reentrant(store, key):
    with store.lock(key), pytest.raises(StagingTimeout), store.lock(key, timeout=0.1):
        pytest.fail("the lock was taken twice")


def test_an_exception_inside_frees_it_and_passes(store, key):
    with pytest.raises(TimeoutError, match="my own"), store.lock(key):
        raise TimeoutError("my own")
    assert is_free(store, key)


def test_a_lock_that_is_not_entered_locks_nothing(store, key):
    store.lock(key)
    assert is_free(store, key)


def test_locks_of_different_keys_are_apart(store, connect, info, key):
    other = connect(info)
    with store.lock(key):
        for odd in ODD_KEYS:
            with other.lock(odd, timeout=10), other.lock(f"{odd}{key}", timeout=10):
                assert not is_free(store, odd)
        assert not is_free(other, key)


def test_a_lock_is_no_value_and_locks_none(store, connect, info, key):
    other = connect(info)
    with store.lock(key):
        assert other.poll_staged_data(key) is False
        other.stage_write(key, 1)
        assert other.stage_read(key) == 1
        assert other.clean_staged_data(key)
    assert store.poll_staged_data(key) is False


def test_what_is_no_key_and_what_is_closed(store, key):
    with pytest.raises(ValueError, match="staging key"):
        store.lock("")
    store.close()
    with pytest.raises(StagingError, match="closed"):
        store.lock(key)


class NoLocks:
    """A backend without the ability."""

    name, where = "plain", "here"

    def close(self):
        pass


def test_a_backend_without_locks_says_so(connect, tmp_path):
    store = connect(ServerInfo("filesystem", "run", "ready", address={"folder": str(tmp_path)}))
    store._backend.close()
    store._backend = NoLocks()
    with pytest.raises(StagingError, match="plain offers no lock"):
        store.lock("key")
