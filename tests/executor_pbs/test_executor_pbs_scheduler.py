"""The PBS adapter against qsub, qstat and qdel: every end state, every refusal."""

import dataclasses
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pbs_under_test import REAL, wait_until

from snakemake_executor_plugin_pbs import pbs as adapter
from snakemake_executor_plugin_pbs.pbs import PbsScheduler, job_name
from snakemake_executor_plugin_pbs.scheduler import End, JobRequest, NoAnswer, Phase, SubmitFailed


@pytest.fixture
def request_of(workdir):
    def make(text: str = "exit 0", **fields) -> JobRequest:
        script = workdir / f"{len(list(workdir.iterdir()))}.sh"
        script.write_text(f"#!/bin/bash\n{text}\n")
        values = {"name": "test", "script": script, "output": script.with_suffix(".out"), "nodes": 1, "walltime_s": 60}
        return JobRequest(**(values | fields))

    return make


def end_of(scheduler, job_id):
    return wait_until(
        lambda: (state := scheduler.states([job_id]).get(job_id)) and state.phase is Phase.ENDED and state,
        f"job {job_id}",
    )


def reaches(scheduler, job_id, phase):
    return wait_until(
        lambda: (s := scheduler.states([job_id]).get(job_id)) and s.phase is phase and s, f"{job_id} {phase}"
    )


@pytest.mark.parametrize(
    ("text", "end", "code"),
    [("exit 0", End.FINISHED, 0), ("exit 3", End.FINISHED, 3), ("bash -c 'kill -9 $$'; exit $?", End.SIGNAL, 137)],
)
def test_a_script_that_ends_by_itself(scheduler, request_of, text, end, code):
    state = end_of(scheduler, scheduler.submit(request_of(text)))
    assert (state.end, state.exit_code) == (end, code)


def test_a_walltime(scheduler, request_of, pbs):
    pbs.tune(walltime_scale=0.1)
    state = end_of(scheduler, scheduler.submit(request_of("sleep 600", walltime_s=10)))
    assert state.end is End.WALLTIME
    assert "00:00:10" in state.message


@pytest.mark.parametrize(("text", "code"), [("sleep 600", None), ("trap 'exit 7' TERM; sleep 600 & wait", 7)])
def test_a_running_job_is_deleted(scheduler, request_of, text, code):
    job_id = scheduler.submit(request_of(text))
    reaches(scheduler, job_id, Phase.RUNNING)
    scheduler.cancel([job_id])
    state = end_of(scheduler, job_id)
    assert (state.end, state.exit_code) == (End.DELETED, code)


def test_a_held_job_is_said_to_be_held_and_can_be_deleted(scheduler, request_of):
    class Holding(PbsScheduler):
        def command(self, job):
            argv = super().command(job)
            return [argv[0], "-h", *argv[1:]]

    holding = Holding(scheduler._options)
    job_id = holding.submit(request_of())
    assert reaches(scheduler, job_id, Phase.HELD).message.startswith("is held")
    scheduler.cancel([job_id])
    state = end_of(scheduler, job_id)
    assert (state.end, state.exit_code) == (End.DELETED, None)


def test_a_dependency_that_fails(scheduler, request_of):
    first = scheduler.submit(request_of("sleep 1; exit 3"))
    options = dataclasses.replace(scheduler._options, extra_w=(f"depend=afterok:{first}",))
    second = PbsScheduler(options).submit(request_of())
    assert reaches(scheduler, second, Phase.WAITING).words.startswith("depends on")
    state = end_of(scheduler, second)
    assert (state.end, state.exit_code) == (End.DEPENDENCY, None)


def test_more_nodes_than_there_are(scheduler, request_of):
    job_id = scheduler.submit(request_of(nodes=9999))
    assert "Can Never Run" in reaches(scheduler, job_id, Phase.NEVER).words
    scheduler.cancel([job_id])


@pytest.mark.parametrize(
    ("options", "fields", "words", "code"),
    [
        ({"queue": "nope"}, {}, "qsub: Unknown queue", 170),
        ({"extra_l": ("nosuch=1",)}, {}, "qsub: Unknown resource Resource_List.nosuch", 187),
        ({}, {"walltime_s": 3600 * 9999}, "qsub: Job violates queue and/or server resource limits", 188),
        ({"place": "bogus"}, {}, "qsub: Illegal attribute or resource value Resource_List.place", 166),
        ({"extra_w": ("depend=afterok:bogus",)}, {}, "qsub: illegal -W value", 2),
        ({}, {"script": Path("/nowhere/at/all.sh")}, "qsub: script file:: No such file or directory", 1),
    ],
)
def test_what_qsub_refuses_is_shown_in_its_own_words(scheduler, request_of, options, fields, words, code):
    refusing = PbsScheduler(dataclasses.replace(scheduler._options, **options))
    with pytest.raises(SubmitFailed) as refusal:
        refusing.submit(request_of(**fields))
    assert refusal.value.words == f"{words} (exit code {code})"
    assert not refusal.value.transient


@pytest.mark.parametrize(
    "text",
    [
        "qsub: cannot connect to server pbshead (errno=111)",
        "Connection timed out",
        "qsub: Unauthorized Request MSG=server busy 15007",
        "Communication failure.",
    ],
)
def test_what_goes_by_itself_is_worth_another_try(scheduler, request_of, pbs, text):
    pbs.switch(qsub_errors=[[text, 1]])
    with pytest.raises(SubmitFailed) as refusal:
        scheduler.submit(request_of())
    assert refusal.value.transient
    assert scheduler.submit(request_of())


def test_many_jobs_take_one_qstat(scheduler, request_of, pbs):
    ids = [scheduler.submit(request_of()) for _ in range(3)]
    wait_until(lambda: {s.phase for s in scheduler.states(ids).values()} == {Phase.ENDED}, "three jobs")
    before = len(pbs.calls_of("qstat"))
    assert set(scheduler.states([*ids, "999999.nowhere"])) == set(ids)  # an unknown one does not hide the others
    if not REAL:
        assert len(pbs.calls_of("qstat")) == before + 1
    assert scheduler.states(["999999.nowhere"]) == {}


def test_deleting_what_has_ended_is_no_error(scheduler, request_of):
    job_id = scheduler.submit(request_of())
    end_of(scheduler, job_id)
    scheduler.cancel([job_id, "999999.nowhere"])


def test_a_server_without_history(scheduler, request_of, pbs):
    pbs.switch(history=False)
    job_id = scheduler.submit(request_of("sleep 1"))
    assert reaches(scheduler, job_id, Phase.RUNNING)
    wait_until(lambda: scheduler.states([job_id]) == {}, "the job to be forgotten")


def test_finished_and_no_history_asked_for(scheduler, request_of, pbs, monkeypatch):
    """qstat without -x ends with 35 for a finished job: finished it is, and nothing more is known."""
    monkeypatch.setattr(adapter, "FORMS", (("-f", "-F", "json"),))
    job_id = scheduler.submit(request_of())
    assert end_of(scheduler, job_id).end is End.UNEXPLAINED


def test_json_that_is_none_is_read_from_the_plain_form(scheduler, request_of, pbs):
    pbs.switch(qstat_json="garbled")
    job_id = scheduler.submit(request_of("exit 3"))
    assert end_of(scheduler, job_id).exit_code == 3


@pytest.mark.parametrize("mood", ["fails", "garbled", "cut"])
def test_no_answer_says_nothing(scheduler, request_of, pbs, mood):
    job_id = scheduler.submit(request_of())
    pbs.switch(qstat=[mood])
    with pytest.raises(NoAnswer):
        scheduler.states([job_id])
    pbs.switch(qstat=["ok"])
    end_of(scheduler, job_id)


def test_the_walltime_left_of_a_running_job(scheduler, request_of):
    job_id = scheduler.submit(request_of("sleep 600", walltime_s=120))
    reaches(scheduler, job_id, Phase.RUNNING)
    assert 60 < scheduler.walltime_left(job_id) <= 121
    scheduler.cancel([job_id])
    assert scheduler.walltime_left("999999.nowhere") is None


def test_the_node_file_has_a_line_for_each_node(scheduler, request_of, workdir):
    end_of(scheduler, scheduler.submit(request_of(f"cp $PBS_NODEFILE {shlex.quote(str(workdir))}/nodes", nodes=2)))
    assert len(set((workdir / "nodes").read_text().split())) == 2


def test_nothing_of_a_job_outlives_it(scheduler, request_of, workdir, pbs):
    if REAL:
        pytest.skip("the node's own processes are not seen from here")
    end_of(scheduler, scheduler.submit(request_of(f"sleep 600 & echo $! >{shlex.quote(str(workdir))}/pid; exit 0")))
    wait_until(lambda: not Path(f"/proc/{(workdir / 'pid').read_text().strip()}").exists(), "the child to be ended")


def test_the_line_of_a_submission():
    options = adapter.PbsOptions("proj", "debug", "home:flare", "scatter", ("daos=default",), ("umask=027",))
    job = JobRequest("a b/c=d,e", Path("/w/s.sh"), Path("/w/o.txt"), 2, 5400, gpus=1, mem_mb=4000)
    assert PbsScheduler(options).command(job) == [
        "qsub", "-N", "a_b_c_d_e", "-S", "/bin/bash", "-r", "n", "-j", "oe", "-o", "/w/o.txt", "-A", "proj",
        "-q", "debug", "-l", "select=2:mem=4000mb:ngpus=1", "-l", "walltime=01:30:00", "-l", "place=scatter",
        "-l", "filesystems=home:flare", "-l", "daos=default", "-W", "umask=027", "/w/s.sh",
    ]  # fmt: skip


@given(st.text(min_size=1))
def test_job_names_are_legal(text):
    name = job_name(text)
    assert 1 <= len(name) <= 15
    assert name[0].isalpha()
    assert name[0].isascii()
    assert not set(name) & set(" \t\n=,/")


def test_a_path_with_a_colon_is_no_host():
    job = JobRequest("x", Path("/w/s.sh"), Path("/w:1/o.txt"), 1, None)
    assert "/w:1/o.txt" not in PbsScheduler().command(job)


def test_missing_programs_are_no_crash(monkeypatch, request_of):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(SubmitFailed, match="not on the PATH") as refusal:
        PbsScheduler().submit(request_of())
    assert not refusal.value.transient
    with pytest.raises(NoAnswer):
        PbsScheduler().states(["1"])
