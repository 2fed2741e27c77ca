"""null: what it keeps of a value, and what it refuses."""

import multiprocessing

import numpy as np
import pytest

from simai_rules.staging.backends import null
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import StagingError
from simai_rules.staging.info import ServerInfo

INFO = ServerInfo("null", "run of the null tests", "ready")


@pytest.fixture
def store():
    with DataStore("test", INFO, timeout=5) as store:
        yield store


def keys_of_another_process(info, key, answers):
    with DataStore("other", info, timeout=5) as store:
        answers.send(store.poll_staged_data(key))


def test_only_header_and_size_are_kept(store):
    data = np.ones(1_000_000)
    store.stage_write("key", data)
    [(header, nbytes)] = null._runs[INFO.run_id].values()
    assert nbytes > data.nbytes
    assert len(header) < 1000
    out = np.full(1_000_000, 7.0)
    assert store.stage_read("key", out=out) is out
    assert (out == 7).all()  # nothing was written to it
    store.clean_staged_data("key")


def test_what_stands_in_the_header_comes_back(store):
    store.stage_write("key", {"data": np.zeros((3, 4), "f4"), "step": 7, "names": ["u", "pickle"]})
    back = store.stage_read("key")
    assert (back["step"], back["names"]) == (7, ["u", "pickle"])
    assert (back["data"].shape, back["data"].dtype) == ((3, 4), np.dtype("f4"))


def test_runs_are_kept_apart(store):
    store.stage_write("key", 1)
    with DataStore("test", ServerInfo("null", "another run", "ready"), timeout=5) as other:
        assert other.poll_staged_data("key") is False


def test_another_process_has_none_of_it(store):
    store.stage_write("key", 1)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=keys_of_another_process, args=(INFO, "key", there))
    process.start()
    assert here.poll(60)
    assert here.recv() is False
    process.join(60)
    assert process.exitcode == 0


def test_a_pickle_is_refused_before_it_can_be_read_as_something_else():
    with DataStore("test", INFO, timeout=5, allow_pickle=True) as store:
        with pytest.raises(StagingError, match=r"null keeps no content.*pickle"):
            store.stage_write("pickled", {1, 2})
        assert store.poll_staged_data("pickled") is False
        store.stage_write("pickle", {"pickle": np.zeros(3)})  # the word alone is no pickle
        assert store.poll_staged_data("pickle") is True


def test_a_checksum_is_refused_before_it_reads_as_damage():
    with DataStore("test", INFO, timeout=5, checksum=True) as store:
        with pytest.raises(StagingError, match=r"null keeps no content.*has a checksum"):
            store.stage_write("checked", np.zeros(3))
        assert store.poll_staged_data("checked") is False
