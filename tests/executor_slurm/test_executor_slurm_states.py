"""The Slurm adapter against a real Slurm: submitting, every end state that it can bring about, cancelling."""

import time

import pytest

from snakemake_executor_plugin_pbs.scheduler import End, JobRequest, Phase, SubmitFailed
from snakemake_executor_plugin_pbs.slurm import Slurm


@pytest.fixture
def submit(slurm, tmp_path):
    """Submit a script of some lines and return the job's id."""
    numbers = iter(range(100))

    def do(lines: str, *options: str, nodes: int = 1, walltime_s: int = 300, **settings) -> str:
        name = f"test {next(numbers)}/100%"
        script = tmp_path / f"{name.replace('/', '-')}.sh"
        script.write_text(f"#!/bin/sh\n{lines}\n")
        request = JobRequest(
            name, script, script.with_suffix(".out"), nodes, walltime_s, whole_nodes=settings.pop("whole_nodes", False)
        )
        return Slurm(options=options, **settings).submit(request)

    return do


def states_when(slurm, ids, phase: Phase, seconds: float = 30) -> dict:
    """The states of all jobs, asked at once, when each is in `phase`."""
    deadline = time.monotonic() + seconds
    while True:
        states = Slurm().states(ids)
        if all(identity in states and states[identity].phase is phase for identity in ids):
            return states
        assert time.monotonic() < deadline, states
        time.sleep(0.2)


def test_each_end_is_told_from_the_others(slurm, submit):
    ok, failed, killed = submit("true"), submit("exit 3"), submit("kill -9 $$")
    deleted, node = submit("sleep 100"), submit("sleep 100", "--nodelist=n4")
    after = submit("true", f"--dependency=afterok:{failed}", "--kill-on-invalid-dep=yes")
    slurm.wait(deleted, "RUNNING")
    slurm.wait(node, "RUNNING")
    slurm.run("scancel", deleted)
    slurm.run("scontrol", "update", "nodename=n4", "state=down", "reason=test")
    try:
        states = states_when(slurm, [ok, failed, killed, deleted, node, after], Phase.ENDED)
    finally:
        # It may have come back by itself (ReturnToService), which makes this an error.
        slurm.run("scontrol", "update", "nodename=n4", "state=resume", check=False)
    assert (states[ok].end, states[ok].exit_code) == (End.FINISHED, 0)
    assert (states[failed].end, states[failed].exit_code) == (End.FINISHED, 3)
    assert (states[killed].end, states[killed].exit_code) == (End.SIGNAL, None)
    assert "signal 9" in states[killed].message
    assert states[deleted].end is End.DELETED
    assert states[node].end is End.NODE
    assert "NODE_FAIL" in states[node].message
    assert states[after].end is End.DEPENDENCY


def test_a_job_that_waits_is_told_from_one_that_never_starts(slurm, submit):
    failed = submit("exit 1")
    running, waiting = submit("sleep 100", nodes=4, whole_nodes=True), submit("true", nodes=4, whole_nodes=True)
    held, never = submit("true", "--hold"), submit("true", f"--dependency=afterok:{failed}")
    states_when(slurm, [failed], Phase.ENDED)
    assert states_when(slurm, [never], Phase.NEVER)[never].words == "DependencyNeverSatisfied"
    states_when(slurm, [running], Phase.RUNNING)
    states = Slurm().states([running, waiting, held, "99999"])
    assert states[waiting].phase is Phase.WAITING
    assert states[held].phase is Phase.HELD
    assert states[held].words == "JobHeldUser"
    assert set(states) == {running, waiting, held}  # one that Slurm does not know is left out
    assert Slurm().states(["99999"]) == {}  # for one id alone squeue calls that an error


def test_one_call_cancels_all_and_ended_jobs_are_no_error(slurm, submit):
    ended = submit("true")
    states_when(slurm, [ended], Phase.ENDED)
    running = [submit("sleep 100") for _ in range(2)]
    Slurm().cancel([ended, *running, "99999"])
    states = states_when(slurm, running, Phase.ENDED)
    assert {state.end for state in states.values()} == {End.DELETED}


def test_the_walltime_left(slurm, submit):
    running, waiting = submit("sleep 100", nodes=4, whole_nodes=True), submit("true", nodes=4, whole_nodes=True)
    slurm.wait(running, "RUNNING")
    assert 200 < Slurm().walltime_left(running) <= 300
    assert Slurm().walltime_left(waiting) is None
    assert Slurm().walltime_left("99999") is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"partition": "nope"}, "invalid partition specified: nope"),
        ({"walltime_s": 7200}, "Requested time limit is invalid"),
        ({"nodes": 9}, "Node count specification invalid"),
        ({"constraint": "gpu"}, "Invalid feature specification"),
        ({"reservation": "mine"}, "Requested reservation is invalid"),
    ],
)
def test_what_sbatch_refuses_is_shown_in_its_words_and_not_tried_again(slurm, submit, settings, words):
    with pytest.raises(SubmitFailed) as failure:
        submit("true", **settings)
    assert words in failure.value.words
    assert not failure.value.transient


def test_a_controller_that_is_away_is_worth_another_try(slurm, submit, tmp_path, monkeypatch):
    conf = (slurm.folder / "slurm.conf").read_text().splitlines()
    away = ["SlurmctldPort=1", "MessageTimeout=1", *(line for line in conf if not line.startswith("SlurmctldPort="))]
    (tmp_path / "slurm.conf").write_text("\n".join(away))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(SubmitFailed) as failure:
        submit("true")
    assert failure.value.transient, failure.value.words


def test_whole_nodes_come_with_all_their_cores_and_memory(slurm, submit, tmp_path):
    job = submit(f"scontrol show job $SLURM_JOB_ID >'{tmp_path}/job'", nodes=2, whole_nodes=True)
    states_when(slurm, [job], Phase.ENDED)
    assert "TRES=cpu=16,mem=8000M,node=2" in (tmp_path / "job").read_text()


def test_nothing_of_the_job_around_the_driver_comes_into_the_new_one(slurm, submit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    monkeypatch.setenv("OF_THE_USER", "yes")
    job = submit(f"env >'{tmp_path}/env'; srun --overlap -n1 true", whole_nodes=True)
    assert states_when(slurm, [job], Phase.ENDED)[job].exit_code == 0
    lines = (tmp_path / "env").read_text().splitlines()
    assert f"SLURM_JOB_ID={job}" in lines
    assert "OF_THE_USER=yes" in lines
    assert not [line for line in lines if line.startswith("SLURM_MEM_PER_CPU")]
