"""Two and two ranks, coupled over the filesystem backend: what they leave says that everything went where it should."""

import json
from collections import defaultdict
from statistics import mean

import pytest
from coupled_runs import CoupledRun, core_lists, finish

from simai_rules.events.store import read_events


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    coupled = CoupledRun(tmp_path_factory.mktemp("coupled"))
    temporary = {"TMPDIR": str(coupled.folder / "tmp")}
    (coupled.folder / "tmp").mkdir()
    ended = finish(coupled.start("simulation", **temporary), coupled.start("training", **temporary))
    assert [code for code, _ in ended] == [0, 0], "".join(output for _, output in ended)
    return coupled


@pytest.fixture(scope="module")
def events(run):
    """Events by (component, rank, operation), in the order of recording."""
    found = defaultdict(list)
    for component in ("simulation", "training"):
        for event in read_events(run.folder / f"{component}.parquet").to_pylist():
            found[component, event["rank"], event["operation"]].append(event)
    return found


RANKS = pytest.mark.parametrize("rank", [0, 1])


@RANKS
def test_every_snapshot_is_read_once_in_order_and_whole(events, rank):
    written = [event["step"] for event in events["simulation", rank, "write"]]
    reads = events["training", rank, "read"]
    assert written == list(range(len(written)))
    assert [event["step"] for event in reads] == list(range(len(reads)))
    assert 3 < len(reads) <= len(written)
    assert {event["status"] for event in reads} == {"ok"}
    assert {event["nbytes"] for event in reads} == {event["nbytes"] for event in events["simulation", rank, "write"]}
    assert reads[0]["nbytes"] > 4 * 20_003
    assert [event["step"] for event in events["training", rank, "delete"]] == [event["step"] for event in reads]


@RANKS
def test_a_read_comes_after_its_write_on_the_common_clock(events, rank):
    writes, reads = events["simulation", rank, "write"], events["training", rank, "read"]
    for write, read in zip(writes, reads, strict=False):
        assert write["start_ns"] < read["start_ns"] + read["duration_ns"]


@RANKS
def test_the_first_snapshot_is_warm_up_and_nothing_after_it(events, rank):
    for component, operation in [("simulation", "write"), ("training", "read")]:
        phases = [event["phase"] for event in events[component, rank, operation]]
        assert phases == ["warmup"] + ["measured"] * (len(phases) - 1)
    computed = events["simulation", rank, "compute"]
    assert [event["phase"] for event in computed[:6]] == ["warmup"] * 5 + ["measured"]
    assert {event["phase"] for event in events["training", rank, "train"]} == {"measured"}


@RANKS
def test_the_training_learns_from_what_was_staged(events, rank):
    training = events["training", rank, "train"]
    assert [event["iteration"] for event in training] == list(range(40))
    assert all(event["loss"] is not None for event in training)
    assert min(event["duration_ns"] for event in training) >= 30_000_000
    losses = [event["loss"] for event in training]  # of a batch each: one alone says little
    assert mean(losses[-10:]) < mean(losses[:4]) / 2


@RANKS
def test_the_training_stops_the_simulation(run, events, rank):
    polls = [event for event in events["simulation", rank, "poll"] if event["key"] == f"stop/{rank}"]
    assert [event["found"] for event in polls] == [False] * (len(polls) - 1) + [True]
    assert len(events["simulation", rank, "iteration"]) < run.point.simulation.max_iterations


@RANKS
def test_every_iteration_is_recorded_with_its_kernel(events, rank):
    computed, iterations = events["simulation", rank, "compute"], events["simulation", rank, "iteration"]
    assert [event["iteration"] for event in computed] == list(range(len(iterations)))
    assert {event["kernel"] for event in computed} == {"MatMulSimple2D"}
    assert all(event["duration_ns"] >= 4_000_000 for event in computed)
    for kernel, iteration in zip(computed, iterations, strict=True):
        assert iteration["duration_ns"] >= kernel["duration_ns"]
    for component in ("simulation", "training"):
        assert len(events[component, rank, "init"]) == 1


@RANKS
def test_no_more_lies_unread_than_is_allowed(run, events, rank):
    taken = [event["start_ns"] for event in events["training", rank, "delete"]]
    for event in events["simulation", rank, "write"]:
        unread = event["step"] + 1 - sum(time < event["start_ns"] + event["duration_ns"] for time in taken)
        assert unread <= run.point.staging.in_flight
    begin, *waits = events["simulation", rank, "wait"]
    assert (begin["key"], begin["phase"], begin["step"]) == (f"ready/{rank}", "warmup", -1)
    looks = [event for event in events["simulation", rank, "poll"] if event["key"].startswith("snapshot/")]
    assert [event["step"] for event in looks][:1] == [run.point.staging.in_flight]
    # It waited where the oldest was still there, and only there (the last wait may have been ended by the stop).
    assert [event["step"] for event in waits] == [event["step"] for event in looks if event["found"]]


def test_capsules_show_the_binding(run):
    for component in ("simulation", "training"):
        capsule = json.loads((run.folder / f"{component}.capsule.json").read_text())
        assert capsule["component"] == component
        assert [rank["affinity"] for rank in capsule["ranks"]] == core_lists(2)
        assert capsule["server"] == {"backend": run.info.backend, "options": run.info.config}


def test_nothing_has_failed_and_the_ranks_noted_their_shared_memory(run):
    assert run.failures() == {}
    noted = list((run.run_folder / "segments").iterdir())
    assert len(noted) == 4
    lines = [line for file in noted for line in file.read_text().splitlines()]
    assert all(line.startswith(("/dev/shm/", "/tmp/hydra_hwloc_xmlfile_")) for line in lines)
    assert list(run.folder.glob("tmp/*")) == []
