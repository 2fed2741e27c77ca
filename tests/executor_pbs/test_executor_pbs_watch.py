"""From what PBS and the job script say to an end and its message."""

import time

import pytest

from snakemake_executor_plugin_pbs.journal import Journal
from snakemake_executor_plugin_pbs.scheduler import End, Phase, State
from snakemake_executor_plugin_pbs.watch import Watch

RUNNING = State(Phase.RUNNING)
PATIENCE = 3


@pytest.fixture
def watch(tmp_path):
    record = Journal(tmp_path / "pbs", "Snakefile").new("pack", ["a:i=1"], 60).submitted_as("7.pbshead")
    return Watch(record, "PBS", PATIENCE)


def leave(watch, name, text):
    (watch.record.folder / name).write_text(text)


def claim(watch):
    (watch.record.folder / "claim").mkdir()
    leave(watch, "claim/id", "7.pbshead\n")


def test_an_exit_code_of_0_is_enough(watch):
    leave(watch, "exit", f"0 {time.time()} \n")
    watch.look(None, answered=False)
    assert watch.good


def test_failing_answers_never_make_a_job_lost(watch):
    for _ in range(10 * PATIENCE):
        watch.look(None, answered=False)
    assert watch.good is None


def test_unknown_several_times_in_a_row_is_lost(watch):
    claim(watch)
    for _ in range(PATIENCE - 1):
        watch.look(None, answered=True)
    watch.look(RUNNING, answered=True)  # it was there all the time
    for _ in range(PATIENCE - 1):
        watch.look(None, answered=True)
    assert watch.good is None
    watch.look(None, answered=True)
    assert watch.good is False
    assert "PBS job 7.pbshead (pack) is lost" in watch.message
    assert str(watch.record.log) in watch.message


def test_unknown_and_never_started_has_vanished(watch):
    for _ in range(PATIENCE):
        watch.look(None, answered=True)
    assert "has vanished before it started" in watch.message
    assert "routing queue" in watch.message


def test_a_lost_job_with_an_exit_code_is_not_lost(watch):
    leave(watch, "exit", f"4 {time.time()} \n")
    for _ in range(PATIENCE):
        watch.look(None, answered=True)
    assert "failed, exit code 4" in watch.message


def test_a_bad_exit_code_waits_for_the_cause(watch):
    leave(watch, "exit", f"143 {time.time()} TERM\n")
    watch.look(RUNNING, answered=True)
    assert watch.good is None
    watch.look(State(Phase.ENDED, "asked for 00:01:00", End.WALLTIME), answered=True)
    assert "exceeded its walltime (asked for 00:01:00)" in watch.message


def test_a_bad_exit_code_does_not_wait_for_ever(watch):
    leave(watch, "exit", f"3 {time.time()} \n")
    for _ in range(PATIENCE):
        watch.look(None, answered=False)
    assert "failed, exit code 3" in watch.message


@pytest.mark.parametrize(
    ("ran_s", "said"), [(61, "exceeded its walltime of 60 s"), (5, "was ended by SIGTERM (15) after")]
)
def test_a_signal_is_explained_where_pbs_has_forgotten_the_job(watch, ran_s, said):
    claim(watch)
    leave(watch, "signalled", f"143 {time.time() + ran_s} TERM\n")
    for _ in range(PATIENCE):
        watch.look(None, answered=True)
    assert said in watch.message


def test_ended_without_any_exit_code_leaves_the_file_system_some_time(watch):
    forgotten = State(Phase.ENDED, "no more is known", End.UNEXPLAINED)
    watch.look(forgotten, answered=True)
    assert watch.good is None
    leave(watch, "exit", f"0 {time.time()} \n")
    watch.look(forgotten, answered=True)
    assert watch.good


def test_ended_without_any_exit_code_is_a_failure_in_the_end(watch):
    for _ in range(PATIENCE):
        watch.look(State(Phase.ENDED, "no more is known", End.UNEXPLAINED), answered=True)
    assert watch.good is False
    assert "ended without an exit code (no more is known)" in watch.message


def test_the_job_that_started_the_script_is_the_one_that_counts(watch):
    """qsub did not answer in time, its job was taken all the same, and a second one was submitted."""
    claim(watch)
    leave(watch, "claim/id", "6.pbshead\n")
    watch.look(State(Phase.ENDED, "and failed", End.FINISHED, 75), answered=True)
    assert watch.record.job_id == "6.pbshead"
    assert watch.good is None


def test_a_hold_is_said_once(watch):
    held = State(Phase.HELD, "hold type u")
    assert "7.pbshead is held (hold type u)" in watch.look(held, answered=True)
    assert watch.look(held, answered=True) == ""
    assert watch.good is None


def test_a_job_that_can_never_run_ends_at_once(watch):
    watch.look(State(Phase.NEVER, "Can Never Run: Insufficient amount of resource: nodect"), answered=True)
    assert watch.good is False
    assert watch.never
    assert "Insufficient amount of resource: nodect" in watch.message


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State(Phase.ENDED, "and failed", End.FINISHED, 3), "failed, exit code 3 (and failed)"),
        (State(Phase.ENDED, "SIGKILL", End.SIGNAL, 265), "was ended by a signal, exit code 265 (SIGKILL)"),
        (State(Phase.ENDED, "terminated by user@head", End.DELETED), "was deleted (terminated by user@head)"),
        (
            State(Phase.ENDED, "afterok:3", End.DEPENDENCY),
            "was never started: a job that it depends on failed (afterok:3)",
        ),
        (State(Phase.ENDED, "", End.UNSTARTED, -3), "was never started, exit code -3"),
    ],
)
def test_every_end_has_its_words(watch, state, said):
    watch.look(state, answered=True)
    assert watch.message.splitlines()[0] == f"PBS job 7.pbshead (pack) {said}."


def test_the_message_shows_how_the_log_ended(watch):
    leave(watch, "log.txt", "one\ntwo: no such file\n")
    watch.look(State(Phase.ENDED, "", End.FINISHED, 1), answered=True)
    assert "      two: no such file" in watch.message
