"""Waiting for files with and without inotify."""

import threading
import time
from time import perf_counter_ns

import pytest

from simai_rules.staging import waiting
from simai_rules.staging.inotify import FolderWatch
from simai_rules.staging.waiting import FolderWaiter


def in_seconds(seconds):
    return perf_counter_ns() + int(seconds * 1e9)


def put_later(folder, seconds):
    def put():
        (folder / ".tmp").touch()
        (folder / ".tmp").rename(folder / "there")

    threading.Timer(seconds, put).start()


@pytest.fixture(params=[True, False])
def without_inotify(request, monkeypatch):
    if request.param:

        def refuse(folder):
            raise OSError("too many")

        monkeypatch.setattr(waiting, "FolderWatch", refuse)


@pytest.mark.parametrize("trust_events", [True, False])
def test_a_file_ends_the_wait(tmp_path, without_inotify, trust_events):
    waiter = FolderWaiter(tmp_path, 0.001, trust_events)
    put_later(tmp_path, 0.1)
    assert waiter.wait((tmp_path / "there").exists, in_seconds(30))
    assert waiter.wait((tmp_path / "there").exists, in_seconds(0))
    waiter.close()
    waiter.close()


def test_the_deadline_ends_the_wait(tmp_path, without_inotify):
    waiter = FolderWaiter(tmp_path, 0.001, True)
    start = time.monotonic()
    assert not waiter.wait(lambda: False, in_seconds(0.2))
    assert 0.19 < time.monotonic() - start < 10
    waiter.close()


def test_events_wake_a_reader_that_looks_rarely(tmp_path):
    """With inotify the reader looks a few times, not a thousand."""
    looks = []

    def there():
        looks.append(1)
        return (tmp_path / "there").exists()

    waiter = FolderWaiter(tmp_path, 0.00025, True)
    put_later(tmp_path, 0.5)
    assert waiter.wait(there, in_seconds(30))
    assert len(looks) < 100
    waiter.close()


def test_a_reader_on_another_node_looks_by_itself(tmp_path):
    """Nothing is renamed here, as when the writer is on another node."""
    waiter = FolderWaiter(tmp_path, 0.002, False)
    ready = threading.Event()
    threading.Timer(0.1, ready.set).start()
    assert waiter.wait(ready.is_set, in_seconds(30))
    waiter.close()


def test_the_watch_of_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="inotify_add_watch"):
        FolderWatch(tmp_path / "absent")


def test_many_events_are_forgotten(tmp_path):
    watch = FolderWatch(tmp_path)
    (tmp_path / "a").touch()
    for number in range(2000):
        (tmp_path / ("a" if number % 2 == 0 else "b")).rename(tmp_path / ("b" if number % 2 == 0 else "a"))
    watch.drain()
    start = time.monotonic()
    watch.sleep(0.1)
    assert time.monotonic() - start > 0.09
    watch.close()
