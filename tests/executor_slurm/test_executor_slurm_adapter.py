"""The Slurm adapter without Slurm: lines of sbatch, and answers that a real one gives too rarely for a test."""

import os
from pathlib import Path

import pytest

from snakemake_executor_plugin_pbs.scheduler import End, JobRequest, NoAnswer, Phase, SubmitFailed
from snakemake_executor_plugin_pbs.slurm import Slurm

RECORDED = Path(__file__).parent / "recorded"
JOB = JobRequest("point 1", Path("/r/job.sh"), Path("/r/100%/out"), 2, 5430, whole_nodes=True)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program on the PATH that prints what it is told, notes its arguments, and ends with a code."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(name: str, out: str = "", err: str = "", code: int = 0) -> Path:
        (tmp_path / f"{name}.out").write_text(out)
        (tmp_path / f"{name}.err").write_text(err)
        calls = tmp_path / f"{name}.calls"
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "$@" >>"{calls}"\n'
            f'cat "{tmp_path}/{name}.out"\ncat "{tmp_path}/{name}.err" >&2\nexit {code}\n'
        )
        (tmp_path / name).chmod(0o755)
        return calls

    return write


def row(identity: int, state: str, status: int = 0, reason: str = "None") -> str:
    return f"{identity:<20}{state:<24}{status:<12}{reason}\n"


def test_the_line_of_sbatch():
    slurm = Slurm("proj", "batch", qos="debug", constraint="gpu", options=("--network=job_vni",))
    assert slurm.command(JOB) == [
        "sbatch", "--parsable", "--export=ALL", "--no-requeue", "--job-name=point_1", "--nodes=2",
        "--output=/r/100%%/out", "--time=1:30:30", "--account=proj", "--partition=batch", "--qos=debug",
        "--constraint=gpu", "--exclusive", "--mem=0M", "--network=job_vni", "/r/job.sh",
    ]  # fmt: skip


def test_a_job_that_asked_for_no_nodes_gets_its_cores_alone():
    line = Slurm().command(JobRequest("a", Path("/a.sh"), Path("/a.out"), 1, None, cpus=4, mem_mb=500, gpus=1))
    assert line[4:] == [
        "--job-name=a", "--nodes=1", "--output=/a.out", "--ntasks-per-node=1", "--cpus-per-task=4", "--mem=500M",
        "--gpus-per-node=1", "/a.sh",
    ]  # fmt: skip


def test_every_end_in_an_answer_that_slurm_gave(program):
    program("squeue", (RECORDED / "squeue.txt").read_text())
    calls = program("sacct", err="Slurm accounting storage is disabled\n", code=1)
    states = Slurm().states([str(number) for number in range(1, 14)])
    ends = {int(identity): state.end for identity, state in states.items() if state.phase is Phase.ENDED}
    assert ends == {
        1: End.WALLTIME,
        2: End.FINISHED,
        3: End.FINISHED,
        4: End.SIGNAL,
        5: End.DELETED,
        6: End.NODE,
        7: End.DEPENDENCY,
        10: End.FINISHED,
    }
    assert (states["2"].exit_code, states["3"].exit_code) == (0, 3)
    assert states["8"].phase is Phase.NEVER
    assert states["9"].phase is Phase.HELD
    assert states["11"].phase is Phase.WAITING
    assert "13" not in states
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("state", "status", "reason", "end", "words"),
    [
        ("OUT_OF_MEMORY", 125, "OutOfMemory", End.MEMORY, "OUT_OF_MEMORY, OutOfMemory"),
        ("PREEMPTED", 15, "None", End.DELETED, "PREEMPTED"),
        ("DEADLINE", 0, "None", End.WALLTIME, "DEADLINE"),
        ("BOOT_FAIL", 0, "None", End.NODE, "BOOT_FAIL"),
        ("FAILED", 0, "JobLaunchFailure", End.UNEXPLAINED, "JobLaunchFailure"),
        ("FAILED", 0x80 | 11, "RaisedSignal:11(Segmentation_fault)", End.SIGNAL, "signal 11"),
        ("FAILED", 137 << 8, "NonZeroExitCode", End.FINISHED, "exit code 137"),
    ],
)
def test_ends_that_the_cluster_of_the_tests_cannot_bring_about(program, state, status, reason, end, words):
    program("squeue", row(7, state, status, reason))
    found = Slurm().states(["7"])["7"]
    assert (found.phase, found.end) == (Phase.ENDED, end)
    assert words in found.message


@pytest.mark.parametrize(
    ("state", "reason", "phase"),
    [
        ("PENDING", "Priority", Phase.WAITING),
        ("PENDING", "QOSMaxJobsPerUserLimit", Phase.WAITING),
        ("PENDING", "QOSMaxNodePerJobLimit", Phase.NEVER),
        ("PENDING", "AssocMaxWallDurationPerJobLimit", Phase.NEVER),
        ("PENDING", "PartitionTimeLimit", Phase.NEVER),
        ("PENDING", "PartitionNodeLimit", Phase.HELD),
        ("SUSPENDED", "None", Phase.WAITING),
        ("COMPLETING", "None", Phase.RUNNING),
        ("A_STATE_OF_2030", "None", Phase.WAITING),
    ],
)
def test_where_a_job_is(program, state, reason, phase):
    program("squeue", row(7, state, 0, reason))
    assert Slurm().states(["7"])["7"].phase is phase


def test_the_accounts_tell_of_jobs_that_squeue_has_forgotten(program):
    program("squeue", row(1, "RUNNING"))
    # Of sacct's words and codes in facts/slurm/sacct.txt, in the form that is asked for.
    calls = program("sacct", "2|COMPLETED|0:0\n3|FAILED|3:0\n4|CANCELLED by 1000|0:15\n5|FAILED|0:9\n6|RUNNING|0:0\n")
    states = Slurm().states(["1", "2", "3", "4", "5", "6", "7"])
    assert "--jobs=2,3,4,5,6,7" in calls.read_text()
    found = {identity: (state.phase, state.end, state.exit_code) for identity, state in states.items()}
    assert found == {
        "1": (Phase.RUNNING, None, None),
        "2": (Phase.ENDED, End.FINISHED, 0),
        "3": (Phase.ENDED, End.FINISHED, 3),
        "4": (Phase.ENDED, End.DELETED, None),
        "5": (Phase.ENDED, End.SIGNAL, None),
        "6": (Phase.RUNNING, None, None),
    }


def test_without_sacct_a_forgotten_job_is_left_out(program):
    program("squeue", row(1, "RUNNING"))
    assert set(Slurm().states(["1", "2"])) == {"1"}


@pytest.mark.parametrize(
    ("out", "err", "code", "words"),
    [
        ("", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", 1, "Unable to contact"),
        ("", "slurm_load_jobs error: Socket timed out on send/recv operation\n", 1, "timed out"),
        ("<html>busy</html>\n", "", 0, "squeue answered '<html>busy</html>'"),
        ("", "", 1, "exit code 1"),
    ],
)
def test_an_answer_that_is_none_says_nothing_about_any_job(program, out, err, code, words):
    program("squeue", out, err, code)
    with pytest.raises(NoAnswer, match=words):
        Slurm().states(["1"])


def test_a_cancel_that_did_not_arrive_is_said(program):
    program("scancel", err="scancel: error: Kill job error on job id 1: Unable to contact slurm controller\n", code=1)
    with pytest.raises(NoAnswer, match="Unable to contact"):
        Slurm().cancel(["1"])


def test_jobs_that_have_ended_are_cancelled_without_a_complaint(program):
    text = "scancel: error: Kill job error on job id 1: Job/step already completing or completed\n"
    calls = program("scancel", err=text, code=1)
    Slurm().cancel(["1", "2"])
    assert calls.read_text() == "1 2\n"


@pytest.mark.parametrize(
    ("err", "transient"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n", True),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)\n", True),
        ("sbatch: error: AssocMaxNodePerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)\n", False),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination\n", False),
    ],
)  # fmt: skip
def test_which_errors_of_sbatch_are_worth_another_try(program, err, transient):
    program("sbatch", err=err, code=1)
    with pytest.raises(SubmitFailed) as failure:
        Slurm().submit(JOB)
    assert failure.value.transient is transient
    assert failure.value.words in err.replace("sbatch: error: ", "").replace("\n", "; ")


def test_a_missing_sbatch_is_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SubmitFailed, match="sbatch is not on the PATH") as failure:
        Slurm().submit(JOB)
    assert not failure.value.transient


def test_a_job_that_was_taken_although_sbatch_got_no_answer_is_not_submitted_twice(program):
    """Seen on busy machines: nextflow-io/nextflow#970."""
    calls = program("sbatch", err="sbatch: error: Batch job submission failed: Socket timed out\n", code=1)
    program("squeue", f"{6:<20}/r/other.sh\n{7:<20}/r/job.sh\n")
    slurm = Slurm()
    with pytest.raises(SubmitFailed):
        slurm.submit(JOB)
    assert slurm.submit(JOB) == "7"
    assert len(calls.read_text().splitlines()) == 1


def test_the_time_left_in_all_its_forms(program):
    for text, seconds in (("1-02:03:04", 93784), ("2:00:00", 7200), ("1:05", 65), ("UNLIMITED", None), ("", None)):
        program("squeue", f"{text}\n")
        assert Slurm().walltime_left("1") == seconds


def test_the_environment_of_another_job_is_left_out(program, monkeypatch):
    program("sbatch", "8;cluster\n")
    assert Slurm().submit(JOB) == "8"
    folder = Path(os.environ["PATH"].partition(":")[0])
    (folder / "sbatch").write_text("#!/bin/sh\nenv >&2\nexit 1\n")
    kept = {"SLURM_CONF": "/c", "SBATCH_ACCOUNT": "proj"}
    for key, value in (
        kept | {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_CPU": "9", "SQUEUE_USERS": "me", "PMI_FD": "3"}
    ).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(SubmitFailed) as failure:
        Slurm().submit(JOB)
    seen = dict(part.split("=", 1) for part in failure.value.words.split("; ") if "=" in part)
    assert {
        key: value for key, value in seen.items() if key.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "PMI_"))
    } == kept
