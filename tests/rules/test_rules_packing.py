"""What the rules ask of a batch system: nodes and walltime of points and packs, and what is refused before submitting.

By dry submissions, which need no batch system: they print the job scripts and their qsub lines.
"""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
from experiment import Experiment

from simai_rules.rules import lock_results


@pytest.fixture
def experiment(traces, tmp_path):
    """Three points of 1, 2 and 4 nodes on a machine with PBS."""
    axes = {"nodes": [1, 2, 4], "minutes": [3, 5, 7]}
    made = Experiment(tmp_path / "e", traces.environment, sweep={"axes": axes, "zip": [["nodes", "minutes"]]})
    made.profile = tmp_path / "machine"
    made.profile.mkdir()
    (made.profile / "system.yaml").write_text("name: machine\nscheduler: pbs\noversubscribe: true\n")
    content = {
        "executor": "pbs",
        "jobs": 3,
        "cores": 8,
        "resources": ["points=1"],
        "config": [f"system={made.profile}/system.yaml"],
    }
    (made.profile / "config.v8+.yaml").write_text(json.dumps(content))
    return made


def dry(experiment, *arguments):
    """Exit code, output, and of each submission its nodes, walltime and the limits of the Snakemake inside it."""
    command = ["--pbs-dry-submission", *arguments]
    code, output = experiment.run(*command, seconds=100)
    lines = re.findall(r"^# qsub .*select=(\d+) .*walltime=([\d:]+)", output, re.MULTILINE)
    inside = re.findall(r"--resources '(\S+)' '(\S+)'", output)
    return code, output, sorted((int(n), t, *sorted(limits)) for (n, t), limits in zip(lines, inside, strict=True))


def test_a_point_asks_for_its_nodes_and_its_minutes(experiment):
    code, output, jobs = dry(experiment)
    assert code == 0, output
    assert jobs == [
        (1, "00:03:00", "nodes=1", "points=1"),
        (2, "00:05:00", "nodes=2", "points=1"),
        (4, "00:07:00", "nodes=4", "points=1"),
    ]


def test_a_pack_asks_for_the_nodes_of_its_largest_point_and_the_sum_of_the_walltimes(experiment):
    code, output, jobs = dry(experiment, "--group-components", "point=8")
    assert code == 0, output
    assert jobs == [(4, "00:15:00", "nodes=4", "points=1")]


def refused(experiment, *arguments):
    """What snakemake says of what cannot be submitted; it has to end before it runs or submits anything."""
    programs = experiment.folder / "bin"
    programs.mkdir()
    for name in ("qsub", "qstat", "qdel"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {programs}/called\nexit 1\n")
        (programs / name).chmod(0o755)
    experiment.environment["PATH"] = f"{programs}{os.pathsep}{experiment.environment['PATH']}"
    code, output = experiment.run(*arguments, seconds=100)
    assert code != 0
    assert "The points cannot be submitted:" in output
    assert "Traceback" not in output
    assert not (programs / "called").exists()
    assert not experiment.results.exists()
    assert dry(experiment, *arguments)[::2] == (1, [])
    return output


def test_without_a_walltime_nothing_is_submitted(experiment):
    del experiment.config["training"]["run_time"]
    experiment.config["sweep"] = {"axes": {"nodes": [1, 2]}}
    experiment.save()
    assert "no walltime can be worked out for 2 points, such as backend~filesystem" in refused(experiment)


def test_a_submission_for_a_machine_without_a_batch_system_is_refused(experiment):
    """--config of the command line stands instead of the profile's, and with it the machine's description is gone."""
    output = refused(experiment, "--config", "seed=5")
    assert "system: local has no batch system" in output
    assert "--config system=MACHINE" in output


def test_nothing_runs_on_a_login_node(experiment):
    """A machine with a batch system, and neither a job of it nor an executor that submits."""
    for name in ("PBS_NODEFILE", "SLURM_JOB_NODELIST"):
        experiment.environment.pop(name, None)
    code, output = experiment.run("--executor", "local", seconds=100)
    assert code != 0
    assert "machine has a batch system, and this is not inside one of its jobs" in output
    assert "Traceback" not in output
    assert not experiment.results.exists()


def test_the_rules_are_complete_for_snakemake_plugins_of_others(experiment):
    """Whoever packs without our executor: the scopes are the rules' own, so nothing depends on the profile's."""
    code = (
        "from snakemake.resources import ResourceScopes; import sys; from snakemake import cli; "
        "sys.argv[1:] = ['-n', '--quiet', 'all', '--cores', '8']; "
        "import snakemake.workflow as w; old = w.Workflow.execute; "
        "w.Workflow.execute = lambda self, *a, **k: (print(self.resource_scopes), old(self, *a, **k))[1]; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=experiment.folder,
        env=experiment.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "'nodes': 'local'" in done.stdout, done.stderr
    assert "'points': 'local'" in done.stdout


def test_a_file_system_without_locks_stops_nobody(tmp_path, monkeypatch):
    def unsupported(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake/simai-rules").mkdir(parents=True)
    monkeypatch.setattr("fcntl.flock", unsupported)
    told = []
    monkeypatch.setattr("snakemake.logging.logger.warning", told.append)
    lock_results("results/small")
    assert "cannot be locked (Function not implemented)" in told[0]
