"""What a coupled run does when it is disturbed, beside what tests/faults kills on every backend."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from experiment import ENDLESS, Experiment

from simai_rules.launch.launcher import find_program

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")


def process_of(traces, text):
    """The first Python program of this test whose command line has `text`."""
    for pid, command in traces.commands().items():
        # mpiexec has the command line of its ranks in its own.
        if "python" in Path(command[0]).name and text in " ".join(command):
            return psutil.Process(pid)
    raise AssertionError(f"no Python with {text}: {traces.processes()}")


def reasons(point: Path) -> dict[str, str]:
    found = [json.loads(file.read_text()) for file in (point / "failures").glob("*.json")]
    return {entry["component"]: entry["reason"] for entry in found}


def test_peers_say_why_they_ended(traces, tmp_path):
    experiment = Experiment(tmp_path / "e", traces.environment, training=ENDLESS)
    snakemake = experiment.start(*experiment.events(experiment.point()))
    info = experiment.wait_until_coupled(experiment.point())
    traces.note_segments()
    process_of(traces, "components.entry training").kill()
    killed = time.monotonic()
    output, _ = snakemake.communicate(timeout=60)
    found = reasons(experiment.point())
    assert "training" in found
    assert "because of another part of the run: training" in found["simulation"]
    assert found["simulation"] in (experiment.point() / "logs/simulation.log").read_text()
    assert found["training"] in output
    assert "SIGKILL" in found["training"]
    assert not Path(info["run_folder"]).exists()
    assert time.monotonic() - killed < 30


def test_a_second_snakemake_is_refused_and_leaves_the_first_alone(traces, tmp_path):
    experiment = Experiment(tmp_path / "e", traces.environment)
    first = experiment.start(*experiment.events(experiment.point()))
    experiment.wait_until_coupled(experiment.point())
    code, output = experiment.run()
    assert code != 0
    assert f"is being run by another snakemake (process {first.pid})" in output
    assert "Traceback" not in output
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert (experiment.point() / "training.parquet").exists()


def test_a_killed_guardian_does_not_end_the_run(traces, tmp_path):
    experiment = Experiment(tmp_path / "e", traces.environment)
    snakemake = experiment.start(*experiment.events(experiment.point()))
    experiment.wait_until_coupled(experiment.point())
    process_of(traces, "lifecycle.guardian").kill()
    snakemake.communicate(timeout=120)
    assert (experiment.point() / "training.parquet").exists()


def test_ctrl_c_ends_everything_and_keeps_what_is_complete(traces, tmp_path):
    axes = {"axes": {"backend": ["filesystem", "node-local"], "elements": [1000]}}
    experiment = Experiment(tmp_path / "e", traces.environment, sweep=axes, repeats=1)
    complete = experiment.point("filesystem") / "training.parquet"
    code, output = experiment.run(*experiment.events(complete.parent))
    assert code == 0, output
    before = complete.stat().st_mtime_ns
    snakemake = experiment.start(start_new_session=True)
    experiment.wait_until_coupled(experiment.point("node-local"))
    traces.note_segments()
    # As a terminal does: to every process of the foreground group.
    os.killpg(snakemake.pid, signal.SIGINT)
    output, _ = snakemake.communicate(timeout=60)
    assert snakemake.returncode != 0
    assert traces.left_after(10) == []
    code, output = experiment.run(
        *experiment.events(complete.parent), *experiment.events(experiment.point("node-local"))
    )
    assert code == 0, output
    assert complete.stat().st_mtime_ns == before
