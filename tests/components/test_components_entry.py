"""A rank that fails says why in one line, writes it down, and takes the other ranks with it."""

import json
import time

import numpy as np
import pytest
from coupled_runs import CoupledRun, core_lists, finish, remove_shared_memory

from simai_rules.components import entry
from simai_rules.components.payload import Payload
from simai_rules.staging.datastore import DataStore


@pytest.fixture(autouse=True)
def no_shared_memory_is_left(tmp_path):
    yield
    if (tmp_path / "run").exists():
        remove_shared_memory(tmp_path / "run")


def last_line(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("simai-rules: "))


def stage_first(run: CoupledRun, rank: int) -> None:
    payload = Payload(elements=20_003, dtype="float32", features=7, seed=0, repeat=0, rank=rank)
    with DataStore("test", run.info) as store:
        store.stage_write(f"snapshot/{rank}/0", payload.snapshot(0))


def test_one_rank_that_fails_ends_the_others_that_wait_for_it(tmp_path):
    run = CoupledRun(tmp_path, staging={"timeout": 1.0})
    stage_first(run, 0)  # so rank 0 goes on, and waits in DDP for rank 1, whose snapshot never comes
    start = time.monotonic()
    [(code, output)] = finish(run.start("training"))
    assert code != 0
    assert time.monotonic() - start < 60  # gloo by itself would wait for longer than its timeout
    line = last_line(output)
    assert "training rank 1 on " in line
    assert "'snapshot/1/0'" in line
    assert "Traceback" not in output
    failure = run.failures()["training"]
    assert failure["component"] == "training"
    assert "'snapshot/1/0'" in failure["reason"]
    assert abs(failure["time"] - time.time()) < 120
    assert not (tmp_path / "training.parquet").exists()


def test_a_first_reason_is_kept_and_a_users_error_has_no_traceback(tmp_path):
    slow = {"kernels": [{"name": "MatMulSimple2D", "run_time": 1e-6, "data_size": [256, 256]}]}
    run = CoupledRun(tmp_path, simulation=slow)
    (run.run_folder / "failures" / "simulation.json").write_text('{"reason": "first"}')
    [(code, output)] = finish(run.start("simulation"))
    assert code != 0
    assert "longer than its run_time of 0.001 ms" in last_line(output)
    assert "Traceback" not in output
    assert run.failures()["simulation"] == {"reason": "first"}


def test_an_unforeseen_error_has_its_traceback_and_one_line(tmp_path):
    run = CoupledRun(tmp_path)
    with DataStore("test", run.info) as store:
        store.stage_write("snapshot/0/0", "no snapshot")
        store.stage_write("snapshot/1/0", "no snapshot")
    [(code, output)] = finish(run.start("training"))
    assert code != 0
    assert "Traceback" in output
    assert "TypeError" in last_line(output)
    assert "TypeError" in run.failures()["training"]["reason"]


def test_a_rank_that_cannot_be_bound_ends_the_others(tmp_path):
    run = CoupledRun(tmp_path)
    [(code, output)] = finish(run.start("simulation", SIMAI_CORES=json.dumps([core_lists(1)[0], [10_000]])))
    assert code != 0
    assert "cannot be bound to cores [10000]" in last_line(output)


def test_another_number_of_ranks_than_was_started(tmp_path):
    run = CoupledRun(tmp_path)
    [(code, output)] = finish(run.start("simulation", SIMAI_SIZE="3"))
    assert code != 0
    assert "3 ranks were started, but MPI knows of 2" in last_line(output)
    assert "simulation" in run.failures()


@pytest.mark.parametrize("component", ["simulation", "training"])
def test_fewer_ranks_than_the_point_has(tmp_path, capsys, monkeypatch, component):
    message = f"The {component} of this point has 2 ranks, but 1 ranks were started"
    monkeypatch.delenv("SIMAI_SIZE", raising=False)
    monkeypatch.delenv("SIMAI_CORES", raising=False)
    run = CoupledRun(tmp_path)
    files = {name: str(tmp_path / f"{name}.json") for name in ("point", "server")}
    arguments = ["--point", files["point"], "--server", files["server"], "--output", str(tmp_path / "x.parquet")]
    assert entry.main([component, *arguments]) == 1
    line = last_line(capsys.readouterr().err)
    assert message in line
    assert message in run.failures()[component]["reason"]


def alone(**settings) -> dict:
    """Settings of one and one rank, which run in this process."""
    return {
        **settings,
        "simulation": {"ranks_per_node": 1} | settings.get("simulation", {}),
        "training": {"ranks_per_node": 1, "run_time": None, "iterations": 8} | settings.get("training", {}),
    }


def say_ready(run: CoupledRun) -> None:
    """Do what a training does when it is about to begin."""
    with DataStore("test", run.info) as store:
        store.stage_write("ready/0", "ready")


def run_here(run: CoupledRun, component: str, capsys) -> tuple[int, str]:
    arguments = ["--point", str(run.folder / "point.json"), "--server", str(run.folder / "server.json")]
    code = entry.main([component, *arguments, "--output", str(run.folder / f"{component}.parquet")])
    return code, capsys.readouterr().err


def test_a_stale_and_a_torn_snapshot_are_recorded_and_not_learned(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone())
    payload = Payload(elements=20_003, dtype="float32", features=7, seed=0, repeat=0, rank=0)
    torn = payload.snapshot(2)
    torn["data"] = torn["data"] + np.float32(1)
    with DataStore("test", run.info) as store:
        store.stage_write("snapshot/0/0", payload.snapshot(0))
        store.stage_write("snapshot/0/1", payload.snapshot(0))
        store.stage_write("snapshot/0/2", torn)
        store.stage_write("snapshot/0/3", payload.snapshot(3))
    assert run_here(run, "training", capsys) == (0, "")
    from simai_rules.events.store import read_events

    events = read_events(tmp_path / "training.parquet").to_pylist()
    assert [event["status"] for event in events if event["operation"] == "read"] == ["ok", "stale", "torn", "ok"]
    with DataStore("test", run.info) as store:
        assert store.stage_read("stop/0", timeout=0) == "stop"


def test_a_training_that_measures_nothing_is_an_error(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone())
    stage_first(run, 0)
    code, errors = run_here(run, "training", capsys)
    assert code == 1
    assert "read 1 snapshots in its 8 iterations" in errors
    with DataStore("test", run.info) as store:
        assert store.poll_staged_data("stop/0")


def test_a_simulation_that_nobody_stops_ends_at_its_limit(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone(simulation={"max_iterations": 12}))
    say_ready(run)
    assert run_here(run, "simulation", capsys) == (0, "")
    with DataStore("test", run.info) as store:
        assert [store.poll_staged_data(f"snapshot/0/{step}") for step in range(3)] == [True, True, False]


def test_a_simulation_whose_training_does_not_begin_says_so(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone(staging={"timeout": 0.2}))
    code, errors = run_here(run, "simulation", capsys)
    assert code == 1
    assert "The training did not begin within 0.2 s (staging.timeout)" in errors


def test_a_training_that_reads_nothing_whole_is_an_error(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone())
    payload = Payload(elements=20_003, dtype="float32", features=7, seed=0, repeat=0, rank=0)
    with DataStore("test", run.info) as store:
        for step in (0, 1, 2):
            store.stage_write(f"snapshot/0/{step}", payload.snapshot(0))
    code, errors = run_here(run, "training", capsys)
    assert code == 1
    assert "none of the others was whole" in errors


def test_a_simulation_whose_snapshots_nobody_reads_says_so(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone(staging={"timeout": 0.2, "in_flight": 2}))
    say_ready(run)
    code, errors = run_here(run, "simulation", capsys)
    assert code == 1
    assert "2 snapshots are staged, and for 0.2 s the training has not read the oldest, 'snapshot/0/0'" in errors


def test_a_server_that_is_not_ready(tmp_path, capsys):
    run = CoupledRun(tmp_path, **alone())
    text = (tmp_path / "server.json").read_text()
    (tmp_path / "server.json").write_text(
        text.replace('"ready"', '"failed"').replace('"reason": ""', '"reason": "why"')
    )
    code, errors = run_here(run, "simulation", capsys)
    assert code == 1
    assert "not ready but failed: why" in errors
