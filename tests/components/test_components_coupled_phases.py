"""A coupled run with start, mix, checkpoints, imbalance and a barrier, a training that infers with a cnn, and an
inference beside it."""

from collections import defaultdict
from itertools import pairwise

import pytest
from coupled_runs import CoupledRun, finish

from simai_rules.events.store import read_events

KERNEL = {"name": "AXPY", "data_size": [64]}
SIMULATION = {
    "kernels": [{**KERNEL, "run_time": 0.004}],
    "mix": [{"weight": 2, "kernels": [{**KERNEL, "run_count": 3}]}, {"kernels": [{"name": "FFT", "data_size": [64]}]}],
    "start": {"kernels": [{**KERNEL, "run_time": 0.05}]},
    "checkpoint": {"every": 7, "kernels": [KERNEL]},
    "imbalance": [1.0, 2.0],
    "barrier": True,
}
TRAINING = {
    "task": "infer",
    "data": "synthetic",
    "publish_every": 10,
    "model": {"name": "cnn", "features": 1, "shape": [4, 4], "hidden": [4], "batch_size": 16},
}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Events by (component, rank, operation), in the order of recording."""
    inference = {"ranks_per_node": 1, "take_every": 2, "run_time": 0.01, "batch_size": 4}
    coupled = CoupledRun(
        tmp_path_factory.mktemp("phases"), simulation=SIMULATION, training=TRAINING, inference=inference
    )
    ended = finish(coupled.start("simulation"), coupled.start("training"), coupled.start("inference", ranks=1))
    assert [code for code, _ in ended] == [0, 0, 0], "".join(output for _, output in ended)
    assert coupled.failures() == {}
    found = defaultdict(list)
    for component in ("simulation", "training", "inference"):
        for event in read_events(coupled.folder / f"{component}.parquet").to_pylist():
            found[component, event["rank"], event["operation"]].append(event)
    return found


def test_ranks_that_wait_for_each_other_end_with_the_same_iteration(events):
    first, second = (events["simulation", rank, "iteration"] for rank in (0, 1))
    assert len(first) == len(second) > 7
    assert len(events["simulation", 0, "barrier"]) == len(first)
    for rank, iterations in enumerate((first, second)):
        agreed = [event["iteration"] for event in events["simulation", rank, "agree"]]
        assert agreed == [event["iteration"] for event in iterations]


@pytest.mark.parametrize("rank", [0, 1])
def test_start_and_checkpoints(events, rank):
    [start] = events["simulation", rank, "start"]
    assert start["duration_ns"] >= (1 + rank) * 50_000_000
    checkpoints = [event["iteration"] for event in events["simulation", rank, "checkpoint"]]
    assert checkpoints == list(range(6, len(events["simulation", rank, "iteration"]), 7))


def test_both_ranks_took_the_same_branches_and_one_of_them_is_slower(events):
    def branches(rank):
        return [(event["iteration"], event["kernel"]) for event in events["simulation", rank, "compute"]]

    assert branches(0) == branches(1)
    assert {kernel for _, kernel in branches(0)} == {"AXPY", "FFT"}
    counts = {rank: {event["calls"] for event in events["simulation", rank, "compute"]} for rank in (0, 1)}
    assert {3} <= counts[0]
    assert {6} <= counts[1]  # run_count 3, and this rank has twice the work


def test_snapshots_are_read_though_others_are_inferred_with(events):
    for rank in (0, 1):
        assert {event["status"] for event in events["training", rank, "read"]} == {"ok"}
        assert len(events["training", rank, "infer"]) == 40
        assert events["training", rank, "train"] == []


def test_rank_0_published_its_weights(events):
    assert [event["iteration"] for event in events["training", 0, "publish"]] == [-1, 9, 19, 29, 39]
    assert [event["step"] for event in events["training", 0, "publish"]] == [1, 2, 3, 4, 5]
    assert events["training", 1, "publish"] == []


def test_the_inference_took_ever_newer_weights_and_ended_with_the_training(events):
    published = {event["step"]: event for event in events["training", 0, "publish"]}
    first, *later = events["inference", 0, "take"]
    assert (first["step"], first["iteration"], first["phase"]) == (1, -1, "warmup")
    assert later, "no newer weights were taken"
    for before, taken in pairwise([first, *later]):
        assert taken["step"] > before["step"]
        assert taken["nbytes"] == published[taken["step"]]["nbytes"] > 0
        assert taken["start_ns"] + taken["duration_ns"] > published[taken["step"]]["start_ns"]
    looked = {event["iteration"] for event in later} | {
        event["iteration"] for event in events["inference", 0, "poll"] if event["key"] == "model/version"
    }
    assert looked == set(range(1, len(events["inference", 0, "infer"]), 2))
    stop = [event for event in events["inference", 0, "poll"] if event["key"] == "stop/inference"]
    assert [event["found"] for event in stop] == [False] * (len(stop) - 1) + [True]
