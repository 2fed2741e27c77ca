"""`snakemake --executor pbs`: ends, packs, resuming, cancelling, refusals."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from pbs_under_test import REAL, wait_until

HERE = Path(__file__).parent
PACKING = ("--resources", "nodes=2", "points=1", "--set-resource-scopes", "nodes=local", "points=local")


@pytest.fixture
def points(workdir):
    shutil.copyfile(HERE / "Snakefile.points", workdir / "Snakefile")
    return workdir


@pytest.fixture
def jobs(workdir):
    shutil.copyfile(HERE / "Snakefile.jobs", workdir / "Snakefile")
    return workdir


def pack(size, points=None):
    return ("--group-components", f"point={size}", *PACKING, "--config", f"points={points or size}")


def finished(workdir):
    """The points whose results are whole."""
    done = [path for path in workdir.glob("out/*.sim") if path.read_text() != "half\n"]
    return sorted(int(path.stem) for path in done if path.with_suffix(".train").exists())


def test_every_end_is_told_and_costs_no_other_job(jobs, pbs):
    ends = ["ok", "code3", "walltime", "deleted", "never", "limit"]
    call = pbs.start(jobs, "--keep-going", "--config", f"ends={','.join(ends)}")
    wait_until(lambda: (jobs / "running.deleted").exists() and (jobs / "running.walltime").exists(), "the jobs to run")
    pbs.walltime_is_over(jobs, "one:end=walltime")
    job_id = pbs.job_of(jobs, "one:end=deleted")
    subprocess.run(["qdel", job_id], check=True, env=pbs.environment)
    out = pbs.output_of(call)
    assert call.returncode == 1
    assert "failed, exit code 1" in out  # of Snakemake in the job; the rule's own code is in the log that is shown
    assert re.search(r"exceeded its walltime.*\(asked for 00:01:00", out)
    assert re.search(rf"PBS job {re.escape(job_id)} \(one\) was deleted", out)
    assert "can never run, and was deleted. PBS says: Can Never Run" in out
    assert "PBS says: qsub: Job violates queue and/or server resource limits (exit code 188)" in out
    assert "Traceback" not in out
    assert sorted(path.name for path in (jobs / "out").iterdir()) == ["ok"]


def test_a_pack_runs_one_point_after_another_on_its_nodes_and_keeps_what_had_finished(points, pbs):
    (points / "fail.1").touch()
    (points / "profiles" / "default").mkdir(parents=True)  # taken by the outer call alone
    (points / "profiles" / "default" / "config.yaml").write_text("rerun-incomplete: true\nkeep-going: true\n")
    first = pbs.snakemake(points, *pack(3), "--keep-incomplete")
    assert first.returncode == 1, first.stdout
    assert finished(points) == [0, 2]
    assert not list((points / "out").glob("1.*"))
    assert "6 of its 9 jobs had finished: their results stay." in first.stdout
    order = (points / "order.txt").read_text().splitlines()
    assert sorted(order) == ["begin 0", "begin 1", "begin 2", "end 0", "end 2"]
    assert all(order[order.index(f"begin {i}") + 1] == f"end {i}" for i in (0, 2))
    job_id, *nodes, end = (points / "out" / "0.sim").read_text().split()
    assert len(nodes) == 2
    assert float(end) > 0
    assert (points / "onstart.txt").read_text() == "started\n"
    assert "Using workflow specific profile" in first.stdout
    assert "Using" not in re.sub("Using shell", "", next((points / ".snakemake" / "pbs").glob("*/log.txt")).read_text())

    (points / "fail.1").unlink()
    before = {path: path.stat().st_mtime_ns for path in points.glob("out/*") if path.stem != "1"}
    second = pbs.snakemake(points, *pack(3))
    assert second.returncode == 0, second.stdout
    assert finished(points) == [0, 1, 2]
    assert (points / "out" / "0.sim").read_text().split()[0] == job_id
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not run again
    if not REAL:
        assert len(pbs.calls_of("qsub")) == 2
        assert "select=2" in pbs.calls_of("qsub")[0]
        assert "walltime=00:03:00" in pbs.calls_of("qsub")[0]
        assert "walltime=00:01:00" in pbs.calls_of("qsub")[1]
    assert pbs.snakemake(points, *pack(3), "--dry-run").stdout.count("Nothing to be done") == 1


def test_the_walltime_ends_a_pack_and_a_retry_runs_the_rest(points, pbs):
    (points / "slow.1").touch()
    call = pbs.start(points, *pack(2), "--retries", "1")
    wait_until((points / "running.1").exists, "the second point")
    if "end 0" not in (points / "order.txt").read_text():  # the points' order is Snakemake's
        (points / "slow.0").touch()
        (points / "slow.1").unlink()
    last = 0 if (points / "slow.0").exists() else 1
    wait_until((points / f"running.{last}").exists, "the last point")
    pbs.walltime_is_over(points, f"sim:i={last}")
    wait_until(lambda: len(pbs.submitted(points)) == 2, "the retry")
    ids = pbs.submitted(points)
    (points / f"slow.{last}").unlink()
    out = pbs.output_of(call)
    assert call.returncode == 0, out
    assert "exceeded its walltime" in out
    assert "3 of its 6 jobs had finished: their results stay." in out
    assert finished(points) == [0, 1]
    made_by = [(points / "out" / f"{i}.sim").read_text().split()[0] for i in (last, 1 - last)]
    assert made_by == ids[::-1]
    assert (points / "order.txt").read_text().split().count(str(1 - last)) == 2  # begun and ended once


def delete(pbs, job_id):
    subprocess.run(["qdel", job_id], check=True, env=pbs.environment)


def lose_the_node(pbs, job_id):
    """Nothing of the job ends in an orderly way, and PBS knows it no more."""
    pbs.switch(history=False)
    scripts = [
        p for p in psutil.process_iter(["cmdline"]) if str(pbs.folder / f"script.{job_id}") in (p.info["cmdline"] or ())
    ]
    assert scripts
    for process in [child for script in scripts for child in (script, *script.children(recursive=True))]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.parametrize(("end", "said"), [(delete, "was deleted"), (lose_the_node, "is lost")])
def test_the_next_call_runs_exactly_the_rest_of_a_pack_that_was_ended(points, pbs, end, said):
    for i in (0, 1):
        (points / f"slow.{i}").touch()
    call = pbs.start(points, *pack(2))
    # The order of the points is Snakemake's.
    first = wait_until(lambda: [i for i in (0, 1) if (points / f"running.{i}").exists()], "the first point")[0]
    (points / f"slow.{first}").unlink()
    last = 1 - first
    wait_until((points / f"running.{last}").exists, "the last point")
    (job_id,) = pbs.submitted(points)
    end(pbs, job_id)
    out = pbs.output_of(call)
    assert call.returncode == 1
    assert f"PBS job {job_id} (point_server_sim_train) {said}" in out
    assert "3 of its 6 jobs had finished: their results stay." in out
    assert finished(points) == [first]
    assert not list((points / "out").glob(f"{last}.*"))
    made = {path: path.stat().st_mtime_ns for path in points.glob("out/*")}

    (points / f"slow.{last}").unlink()
    pbs.tune(history=True)
    second = pbs.snakemake(points, *pack(2))
    assert second.returncode == 0, second.stdout
    assert finished(points) == [0, 1]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert [(points / "order.txt").read_text().count(f"begin {i}") for i in (first, last)] == [1, 2]
    if not REAL:
        assert len(pbs.calls_of("qsub")) == 2
        assert "walltime=00:01:00" in pbs.calls_of("qsub")[1]


def test_a_killed_driver_leaves_a_job_that_the_next_call_waits_for(points, pbs):
    (points / "slow.0").touch()
    first = pbs.start(points, *pack(2))
    wait_until((points / "running.0").exists, "the first point")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (job_id,) = pbs.submitted(points)
    locked = pbs.snakemake(points, *pack(2), "--rerun-incomplete")
    assert "--unlock" in locked.stdout  # Snakemake's own lock: nothing was submitted
    assert pbs.snakemake(points, *pack(2), "--unlock").returncode == 0
    second = pbs.start(points, *pack(1, points=2), "--rerun-incomplete")  # each point would be a job of its own now
    wait_until(lambda: len(list((points / ".snakemake" / "log").glob("*"))) >= 3, "the second call")
    lines = []
    waits = 2 - len(finished(points))  # the order of the points is Snakemake's
    for line in second.stdout:
        lines.append(line)
        if sum("waiting for it" in line for line in lines) == waits:
            break
    (points / "slow.0").unlink()
    rest = pbs.output_of(second)
    assert second.returncode == 0, "".join(lines) + rest
    assert f"PBS job {job_id} of an earlier call makes this: waiting for it." in lines[-1]
    assert finished(points) == [0, 1]
    assert (points / "out" / "1.sim").read_text().split()[0] == job_id
    if not REAL:
        assert len(pbs.calls_of("qsub")) == 1


def test_ctrl_c_deletes_running_waiting_and_just_submitted_jobs_by_one_qdel(points, pbs):
    pbs.tune(max_running=1, qsub_delay_s=0.5)
    (points / "slow.0").touch()
    (points / "slow.1").touch()
    call = pbs.start(points, *PACKING, "--config", "points=3", "--pbs-poll-seconds", "30")
    submitting = (lambda: len(pbs.submitted(points)) == 3) if REAL else (lambda: len(pbs.calls_of("qsub")) == 3)
    wait_until(submitting, "three submissions")  # the stand-in is still at the third one
    os.kill(call.pid, signal.SIGINT)
    out = pbs.output_of(call)
    assert call.returncode == 1
    ids = pbs.submitted(points)
    assert len(ids) == 3
    said = re.search(r"Cancelled PBS jobs: (.+)\.", out)[1].split()
    assert sorted(said) == sorted(ids)
    if not REAL:
        (line,) = pbs.calls_of("qdel")
        assert sorted(line.split()[1:]) == sorted(ids)


def test_a_submission_is_tried_again_and_what_cannot_help_is_not(jobs, pbs):
    pbs.switch(
        qsub_errors=[["qsub: cannot connect to server pbshead (errno=111)", 1]], qstat=["ok", "garbled", "fails", "ok"]
    )
    call = pbs.snakemake(jobs, "--config", "ends=ok")
    assert call.returncode == 0, call.stdout
    assert (
        "PBS took no job: qsub: cannot connect to server pbshead (errno=111) (exit code 1). Trying again in 2 s."
        in call.stdout
    )
    assert len(pbs.calls_of("qsub")) == 2


def test_a_job_that_vanishes_after_qsub_gave_its_id(jobs, pbs):
    pbs.switch(vanish=True)
    call = pbs.snakemake(jobs, "--config", "ends=ok")
    assert call.returncode == 1
    assert "has vanished before it started" in call.stdout


def test_all_wrong_settings_are_named_before_anything_is_submitted(jobs, pbs):
    call = pbs.snakemake(
        jobs, "--config", "ends=ok", "--pbs-queue", "a queue", "--pbs-extra-l", "walltime=1", "nonsense",
        "--pbs-poll-seconds", "0", "--pbs-submit-retries", "-1",
    )  # fmt: skip
    assert call.returncode == 1
    for said in (
        "--pbs-queue 'a queue'",
        "the resource runtime",
        "'nonsense': NAME=VALUE",
        "--pbs-poll-seconds 0",
        "--pbs-submit-retries -1",
    ):
        assert said in call.stdout
    assert "Traceback" not in call.stdout
    assert not pbs.calls_of("qsub")


def test_a_dry_submission_shows_the_script_and_submits_nothing(points, pbs):
    settings = ("--pbs-setup", "module load 'a b'", "--pbs-place", "scatter", "--pbs-min-walltime", "5")
    call = pbs.snakemake(points, *pack(2), "--pbs-dry-submission", *settings)
    assert call.returncode == 0, call.stdout
    line = next(line for line in call.stdout.splitlines() if line.startswith("# qsub "))
    assert "-l select=2 -l walltime=00:05:00 -l place=scatter" in line  # 2 min, raised to the least
    assert "-V" not in line.split()
    script = call.stdout[call.stdout.index("#!/bin/bash") :]
    assert "\nmodule load 'a b'\n" in script
    assert "--keep-going" in script
    assert "'nodes=2'" in script
    assert "'points=1'" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert not (points / "conf").exists()
    assert not pbs.calls


@pytest.mark.parametrize("default", [(), ("--default-resources", "mem_mb=700")])
def test_resources_become_a_select_statement(workdir, pbs, default):
    demands = {
        "a": ("threads: 8", 'mem="4GB"', "select=1:ncpus=8:mem=4000mb"),
        "b": ("threads: 8", "nodes=2, runtime=90", "select=2 -l walltime=01:30:00"),
        "c": ("threads: 1", "nodes=2, mem_mb=500, gpu=4, ncpus=16", "select=2:ncpus=16:mem=500mb:ngpus=4"),
    }
    text = "rule all:\n    input: 'a', 'b', 'c'\n"
    for name, (threads, resources, _) in demands.items():
        text += f"rule {name}:\n    output: '{name}'\n    {threads}\n    resources: {resources}\n    shell: 'true'\n"
    (workdir / "Snakefile").write_text(text)
    # A default for all rules (Snakemake has one of 1000 MB) is not what somebody wants on whole nodes.
    call = pbs.snakemake(workdir, "--pbs-dry-submission", "--cores", "16", *default)
    assert call.returncode == 0, call.stdout
    lines = {line.split()[3]: line for line in call.stdout.splitlines() if line.startswith("# qsub ")}
    for name, (_, _, wanted) in demands.items():
        assert f" -l {wanted} " in lines[name]
