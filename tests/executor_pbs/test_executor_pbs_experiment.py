"""An experiment on PBS from `profile install` to the results: packs, two nodes, and the same inside an allocation.

PBS is the stand-in, or with SIMAI_TEST_PBS=real a real one: see pbs_under_test.py.
"""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time

import pytest
import yaml
from experiment import Experiment
from pbs_under_test import REAL

from simai_rules.launch.launcher import find_program
from simai_rules.resources import shipped

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")

TOO_LARGE = 10**13
# No run times, so that `minutes` alone says what a point needs.
QUICK = {
    "simulation": {
        "ranks_per_node": 1,
        "kernels": [{"name": "MatMulSimple2D", "data_size": [16, 16]}],
        "write_every": 5,
    },
    "training": {"ranks_per_node": 1, "iterations": 10, "read_every": 2, "model": {"hidden": [8], "batch_size": 32}},
}


class OnPbs(Experiment):
    """An experiment in a folder that the nodes see, with a profile that `profile install` has filled in."""

    def __init__(self, pbs, workdir, **changes) -> None:
        self.pbs, self.machine = pbs, workdir / "testbed"
        # Snakemake itself cannot pass on a config value (the path of system.yaml) with two kinds of quotation marks.
        home = workdir if REAL else workdir.parent
        environment = pbs.environment | {"XDG_CONFIG_HOME": str(home / "config"), "PYTHONUNBUFFERED": "1"}
        super().__init__(workdir / "e", environment, **QUICK | changes)
        self.profile = "testbed"
        self.machine.mkdir()
        # Of the profile that is shipped, with the machine alone changed.
        text = (shipped("profiles/aurora") / "config.v8+.yaml").read_text().replace("system=aurora", "system=testbed")
        (self.machine / "config.v8+.yaml").write_text(text)
        queue = pbs.options().queue or "workq"
        system = {"name": "testbed", "scheduler": "pbs", "oversubscribe": True, "queues": {queue: {"max_jobs": 2}}}
        (self.machine / "system.yaml").write_text(yaml.safe_dump(system))
        (workdir / "tmp").mkdir()
        options = pbs.options()
        self.given = ["--account", options.account or "P", "--queue", queue]
        self.given += ["--filesystems", options.filesystems or "home"]

    def simai_rules(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "simai_rules.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *arguments: str, setup: str = ":") -> None:
        # Runs of a job of the stand-in are on this machine: they get a folder for temporary files of their own.
        own = [] if REAL else [f"export TMPDIR={shlex.quote(str(self.machine.parent / 'tmp'))}"]
        self.simai_rules("profile", "install", f"{self.machine}/", *self.given, *arguments, "--setup", *own, setup)

    def submit(self) -> tuple[int, str]:
        fast = ["--pbs-poll-seconds", "5" if REAL else "0.3", "--latency-wait", "10"]
        return self.run(*fast, seconds=1000 if REAL else 280)

    def states(self) -> dict[str, str]:
        """The state of each point by what is different in its path, from the summary of `simai-rules report`."""
        from simai_rules.analysis.expected import load_points

        found = load_points(self.results, None, self.folder / "config.yaml")
        return {re.sub(r"backend~filesystem/|/repeat~0", "", each.path): each.state for each in found.results}

    def left(self) -> list[str]:
        """What runs have left in their folder for temporary files, but for the locks and ledgers."""
        return [str(path) for path in (self.machine.parent / "tmp").glob("simai-rules-*/run-*")]


def asked(call: str) -> tuple[int, str]:
    """Nodes and walltime of a call of qsub."""
    select, walltime = re.search(r"select=(\d+)", call), re.search(r"walltime=([\d:]+)", call)
    assert select
    assert walltime
    return int(select[1]), walltime[1]


@pytest.mark.timeout(2400 if REAL else 600)  # eleven coupled runs
def test_a_pack_keeps_what_has_finished_and_the_next_call_runs_the_rest(pbs, workdir):
    """8 points: 5 run, one fails, and two need more walltime than is left."""
    few, all_of_them = [1000, 1001], [1000, 1001, 1002, 1003, 1004, TOO_LARGE]
    axes = {"elements": all_of_them, "minutes": [1, 20]}
    exclude = [{"elements": each, "minutes": 20} for each in all_of_them if each not in few]
    experiment = OnPbs(pbs, workdir, sweep={"axes": axes, "exclude": exclude})
    # The end of the job as our job script knows it, made 10 minutes: not enough for those that ask for 20.
    experiment.install("--pack", "8", setup="export SNAKEMAKE_JOB_END=$(($(date +%s) + 600))")
    code, output = experiment.submit()
    assert code != 0
    assert "Traceback" not in output
    done = {f"elements~{each}/nodes~1/minutes~1": "done" for each in all_of_them}
    failed = {f"elements~{TOO_LARGE}/nodes~1/minutes~1": "failed"}
    missing = {f"elements~{each}/nodes~1/minutes~20": "missing" for each in few}
    assert experiment.states() == done | failed | missing, output
    late = experiment.results / "backend~filesystem/elements~1000/nodes~1/minutes~20/repeat~0"
    assert "not started: " in (late / "logs/server.log").read_text()
    assert "not started: " in (late / "logs/simulation.log").read_text()
    assert not list(late.glob("failures/*.json"))
    if not REAL:
        (call,) = pbs.calls_of("qsub")
        assert asked(call) == (1, "00:46:00")  # 6 × 1 + 2 × 20 minutes
        assert "-A P -q workq" in call
        assert "-l filesystems=home" in call

    times = {path: path.stat().st_mtime_ns for path in experiment.results.rglob("*.parquet")}
    assert len(times) == 10
    experiment.install("--pack", "8")
    code, output = experiment.submit()
    assert code != 0  # the one that failed does so again
    assert "0 of 3 points" in output or "2 of 3 points" in output, output
    assert experiment.states() == done | failed | dict.fromkeys(missing, "done"), output
    assert {path: path.stat().st_mtime_ns for path in times} == times
    if not REAL:
        assert [asked(call) for call in pbs.calls_of("qsub")[1:]] == [(1, "00:41:00")]
    assert experiment.left() == []


def test_points_of_different_sizes_share_the_nodes_of_the_largest(pbs, workdir):
    experiment = OnPbs(pbs, workdir, sweep={"axes": {"nodes": [1, 2]}}, minutes=2)
    experiment.install("--pack", "2")
    assert "1 job, " in experiment.simai_rules("points", "--profile", "testbed")
    code, output = experiment.submit()
    assert code == 0, output
    two = experiment.results / "backend~filesystem/elements~1000000/nodes~2/repeat~0"
    capsule = json.loads((two / "simulation.capsule.json").read_text())
    assert len(capsule["ranks"]) == 2
    if not REAL:
        assert [asked(call) for call in pbs.calls_of("qsub")] == [(2, "00:04:00")]
    assert (experiment.results / "report.html").exists()
    assert experiment.left() == []


def test_inside_an_allocation_points_run_on_its_nodes_while_there_is_time(tmp_path, traces):
    """An interactive job of PBS: two nodes, and 10 minutes of walltime by its qstat."""
    experiment = Experiment(
        tmp_path / "e", traces.environment, **QUICK, nodes=2, sweep={"axes": {"minutes": [1, 20]}, "zip": []}
    )
    nodes = tmp_path / "nodes"
    nodes.write_text(f"{platform.node()}\n{platform.node()}\nlocalhost\n")
    job = {"stime": time.strftime("%a %b %d %H:%M:%S %Y"), "Resource_List": {"walltime": "00:10:00"}}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/qstat").write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps({'Jobs': {'1.pbs': job}})}\nE\n")
    (tmp_path / "bin/qstat").chmod(0o755)
    experiment.environment |= {
        "PBS_NODEFILE": str(nodes),
        "PBS_JOBID": "1.pbs",
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{experiment.environment['PATH']}",
    }
    experiment.profile = shipped("profiles") / "allocation"
    code, output = experiment.run()
    assert code != 0
    assert "not started: " in output
    base = experiment.results / "backend~filesystem/elements~1000000/nodes~2"
    assert len(json.loads((base / "minutes~1/repeat~0/training.capsule.json").read_text())["ranks"]) == 2
    assert not (base / "minutes~20/repeat~0/training.parquet").exists()
    assert "not started: " in (base / "minutes~20/repeat~0/not_started.json").read_text()
    del experiment.environment["PBS_JOBID"]  # nobody tells how much is left
    code, output = experiment.run()
    assert code == 0, output
    assert not (base / "minutes~20/repeat~0/not_started.json").exists()
    assert traces.left_after(10) == []
