"""Coupled points over streams (ADIOS2), run by the real Snakemake: both queue policies, and the death of a rank."""

import importlib.util
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from experiment import ENDLESS, Experiment

from simai_rules.events.store import read_events

pytestmark = pytest.mark.skipif(importlib.util.find_spec("adios2") is None, reason="adios2 is not installed")

# A training that is slower than the simulation, so that the queue fills up.
SLOW = {"ranks_per_node": 2, "iterations": 30, "run_time": 0.05, "read_every": 10, "model": {"hidden": [8]}}


def rows(point, component):
    return read_events(point / f"{component}.parquet").to_pylist()


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """The folders of a block and a discard point of one sweep, and what is left of the staging folders."""
    folder = tmp_path_factory.mktemp("streams")
    experiment = Experiment(
        folder,
        os.environ | {"TMPDIR": str(folder)},
        sweep={
            "axes": {"backend": ["adios2"], "elements": [1000], "backends.adios2.queue_policy": ["block", "discard"]}
        },
        training=SLOW,
        staging={"timeout": 150, "start_timeout": 60},
    )
    point = experiment.results / "backend~adios2/elements~1000/nodes~1"
    found = {policy: point / f"backends.adios2.queue_policy~{policy}/repeat~0" for policy in ("block", "discard")}
    targets = [target for path in found.values() for target in experiment.events(path)]
    code, output = experiment.run(*targets, seconds=400)
    assert code == 0, output
    assert not (folder / "staging").exists()
    return found


@pytest.mark.parametrize("policy", ["block", "discard"])
@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_read_is_what_was_written_in_order(points, policy, rank):
    writes = [row for row in rows(points[policy], "simulation") if row["operation"] == "write" and row["rank"] == rank]
    reads = [row for row in rows(points[policy], "training") if row["operation"] == "read" and row["rank"] == rank]
    assert [row["step"] for row in writes] == list(range(len(writes)))
    assert {row["status"] for row in reads} == {"ok"}
    assert len(reads) > 3
    sent = [row["step"] for row in writes if row["status"] == "ok"]
    assert [row["step"] for row in reads] == sent[: len(reads)]
    assert len(sent) - len(reads) <= 3
    assert {row["nbytes"] for row in reads} == {row["nbytes"] for row in writes if row["status"] == "ok"}


def test_block_waits_and_discard_drops(points):
    statuses = {
        policy: Counter(row["status"] for row in rows(points[policy], "simulation") if row["operation"] == "write")
        for policy in points
    }
    waits = {
        policy: [
            row
            for row in rows(points[policy], "simulation")
            if row["operation"] == "wait" and row["key"].startswith("snapshot/")
        ]
        for policy in points
    }
    assert statuses["block"].keys() == {"ok"}
    assert waits["block"]
    assert all(row["wait_ns"] == row["duration_ns"] for row in waits["block"])
    assert statuses["discard"]["discarded"] > 0
    assert not waits["discard"]


@pytest.mark.parametrize("component", ["simulation", "training"])
def test_a_killed_rank_ends_the_point_and_leaves_nothing(tmp_path, traces, component):
    experiment = Experiment(
        tmp_path / "experiment",
        traces.environment,
        sweep={"axes": {"backend": ["adios2"], "elements": [1000]}},
        training=ENDLESS,
    )
    point = experiment.point("adios2")
    process = experiment.start()
    info = experiment.wait_until_coupled(point)
    traces.note_segments()
    ranks = [int(entry.name.split(".")[0]) for entry in Path(info["run_folder"], "segments").iterdir()]
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in ranks}
    victim = next(pid for pid, command in commands.items() if component in command)
    os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    logs = "\n".join(path.read_text() for path in point.glob("logs/*.log"))
    # Whoever is the first to notice: the launcher of the killed rank, or its partner.
    assert f"simai-rules run: {component}: " in logs or f"{component} has ended" in logs or "is gone" in logs, logs
    assert traces.left_after(10) == []
    assert not (experiment.folder / "staging").exists()
