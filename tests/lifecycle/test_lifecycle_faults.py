"""Whatever is killed in a coupled run: the others say why and end, nothing is left, and the next call completes."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from experiment import ENDLESS, Experiment

from simai_rules.launch.launcher import find_program

# 5 s is what is promised; a machine that is busy with other tests gets twice as long.
GONE_S = 10.0

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")


def process_of(traces, *words):
    """The first process of this test whose command line has all `words`."""
    for line in traces.processes():
        pid, _, command = line.partition(" ")
        if all(word in command for word in words):
            return psutil.Process(int(pid))
    raise AssertionError(f"no process with {words}: {traces.processes()}")


# What the earliest note says: who died, not who noticed. Of a launcher's death Snakemake may know before anybody else
# and kill the other one as well; then nobody can tell which of the two was the first.
causes = {
    "server's shell": "staging server",
    "redis-server": "was ended by signal 9",
    "launcher of the simulation": "was killed (its launcher",
    "launcher of the training": "was killed (its launcher",
    "mpiexec's helper": "the launcher ended with",
    "mpiexec": "was ended by SIGKILL",
    "simulation rank": "simulation: ",
    "training rank": "training: ",
    "snakemake": "has ended",
}
VICTIMS = {
    "server's shell": lambda traces, info: psutil.Process(info["pid"]),
    "redis-server": lambda traces, info: process_of(traces, "redis-server"),
    "launcher of the simulation": lambda traces, info: process_of(traces, "run simulation"),
    "launcher of the training": lambda traces, info: process_of(traces, "run training"),
    "mpiexec's helper": lambda traces, info: process_of(traces, "hydra_pmi_proxy"),
    "mpiexec": lambda traces, info: process_of(traces, "mpiexec", "entry simulation"),
    "simulation rank": lambda traces, info: process_of(traces, "python", "components.entry simulation"),
    "training rank": lambda traces, info: process_of(traces, "python", "components.entry training"),
    "snakemake": lambda traces, info: process_of(traces, "-m snakemake"),
    "guardian": lambda traces, info: process_of(traces, "lifecycle.guardian"),
}


def reasons(point: Path) -> dict[str, str]:
    found = [json.loads(file.read_text()) for file in (point / "failures").glob("*.json")]
    return {entry["component"]: entry["reason"] for entry in found}


def cause(point: Path) -> str:
    """The earliest reason that was noted in the point's folder."""
    found = [json.loads(file.read_text()) for file in (point / "failures").glob("*.json")]
    return min(found, key=lambda entry: entry["time"])["reason"]


@pytest.mark.parametrize("victim", [name for name in VICTIMS if name != "guardian"])
def test_sigkill(traces, tmp_path, victim):
    backend = "redis" if victim == "redis-server" else "node-local"
    axes = {"axes": {"backend": [backend], "elements": [1000]}}
    experiment = Experiment(tmp_path / "e", traces.environment, training=ENDLESS, sweep=axes)
    point = experiment.point(backend)
    snakemake = experiment.start(*experiment.events(point))
    info = experiment.wait_until_coupled(point)
    traces.note_segments()
    process = VICTIMS[victim](traces, info)
    process.kill()
    left = traces.left_after(GONE_S, "-m snakemake")
    assert left == []
    output, _ = snakemake.communicate(timeout=60)
    assert snakemake.returncode != 0, output
    assert not (point / "training.parquet").exists()
    assert causes[victim] in cause(point)
    experiment.config["training"] = {**ENDLESS, "iterations": 20}
    experiment.save()
    code, output = experiment.run(*experiment.events(point))
    assert code == 0, output
    assert (point / "training.parquet").exists()
    assert reasons(point) == {}


def test_peers_say_why_they_ended(traces, tmp_path):
    experiment = Experiment(tmp_path / "e", traces.environment, training=ENDLESS)
    snakemake = experiment.start(*experiment.events(experiment.point()))
    info = experiment.wait_until_coupled(experiment.point())
    traces.note_segments()
    process_of(traces, "python", "components.entry training").kill()
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


def test_walltime_sigterm_then_sigkill_of_all(traces, tmp_path):
    experiment = Experiment(tmp_path / "e", traces.environment, training=ENDLESS)
    snakemake = experiment.start(*experiment.events(experiment.point()))
    experiment.wait_until_coupled(experiment.point())
    traces.note_segments()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for line in traces.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), number)
        time.sleep(0.5)
    snakemake.communicate(timeout=60)
    # Nobody was left to clean up; the next run does it.
    experiment.config["training"] = {**ENDLESS, "iterations": 20}
    experiment.save()
    code, output = experiment.run(*experiment.events(experiment.point()))
    assert code == 0, output
