"""What a user may get wrong, through snakemake: one clear message, an exit code, and complete results stay."""

import pytest
import yaml
from experiment import Experiment

from simai_rules.launch.launcher import find_program

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")


def fails(experiment: Experiment, *texts: str) -> str:
    """Run it, and expect a failure that says `texts`, without a traceback."""
    code, output = experiment.run(seconds=100)
    assert code != 0, output
    for text in texts:
        assert text in output
    assert "Traceback" not in output
    return output


def test_all_wrong_keys_are_told_at_once(traces, tmp_path):
    experiment = Experiment(tmp_path / "e", traces.environment, trainin={}, dtype="float31")
    experiment.config["sweep"]["axes"] = {"backend": ["reddis"], "elements": [-5]}
    experiment.save()
    fails(
        experiment,
        "trainin: unknown key. Did you mean 'training'?",
        "float31",
        "reddis",
        "Did you mean 'redis'",
        "-5",
        "4 problems",
    )


def test_no_mpiexec(traces, tmp_path):
    system = tmp_path / "system.yaml"
    system.write_text(yaml.safe_dump({"name": "mine", "oversubscribe": True, "launcher": {"command": "mpirun.none"}}))
    experiment = Experiment(tmp_path / "e", traces.environment, system=str(system))
    fails(experiment, "No 'mpirun.none' beside", "pip install 'simai-rules[mpi]'")


def test_no_redis_server(traces, tmp_path):
    axes = {"axes": {"backend": ["redis"], "elements": [1000]}}
    experiment = Experiment(tmp_path / "e", traces.environment, sweep=axes)
    experiment.environment["REDIS_SERVER"] = "/no/such/program"
    fails(experiment, "REDIS_SERVER=/no/such/program is not a program")


def test_messages_larger_than_memory(traces, tmp_path):
    axes = {"axes": {"backend": ["node-local"], "elements": [10**12]}}
    experiment = Experiment(tmp_path / "e", traces.environment, sweep=axes)
    fails(experiment, "/dev/shm has", "MB may be staged at the same time", "backends.node-local.folder")


def test_too_few_cores(traces, tmp_path):
    system = tmp_path / "system.yaml"
    system.write_text(yaml.safe_dump({"name": "mine", "cores": 2}))
    experiment = Experiment(tmp_path / "e", traces.environment, system=str(system))
    fails(experiment, "asks for 4 cores per node (simulation 2 x 1, training 2 x 1); system 'mine' has 2")


def test_a_failing_point_does_not_cost_the_others(traces, tmp_path):
    axes = {"axes": {"backend": ["node-local"], "elements": [1000, 10**12]}}
    experiment = Experiment(tmp_path / "e", traces.environment, sweep=axes)
    output = fails(experiment, "1 of 2 points done, 1 failed", "simai-rules report results/small")
    assert (experiment.point("node-local") / "training.parquet").exists()
    assert output.count("may be staged at the same time") >= 1
    code, again = experiment.run(seconds=100)
    assert code != 0
    assert "0 of 1 point done, 1 failed" in again
