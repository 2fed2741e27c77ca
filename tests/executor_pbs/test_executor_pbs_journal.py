"""What an earlier call left: waited for, closed, or given up."""

import json
import os
import time
from dataclasses import replace

import pytest

from snakemake_executor_plugin_pbs import resume
from snakemake_executor_plugin_pbs.journal import Journal, covering
from snakemake_executor_plugin_pbs.scheduler import End, NoAnswer, Phase, State

RUNNING = State(Phase.RUNNING)
DEAD = "elsewhere 1 0.00"


class Answers:
    """A batch system that answers what it is told to, one entry a call; the last one stays."""

    name = "PBS"

    def __init__(self, *answers):
        self.answers = list(answers)

    def states(self, ids):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {job_id: answer for job_id in ids if answer is not None}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(resume, "PAUSE_S", 0.01)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "pbs", "/w/Snakefile")


@pytest.fixture
def record(journal):
    record = journal.new("pack/1", ["sim:i=1", "sim:i=2"], 60)
    return replace(record, driver=DEAD).submitted_as("7.head")


def settle(journal, scheduler, born=None):
    said = []
    kept = resume.still_running(journal, scheduler, 2, time.time() if born is None else born, said.append)
    return [record.job_id for record in kept], said


def test_a_record_survives_on_disk(journal, record):
    assert journal.open() == [record]
    assert record.folder.stat().st_mode & 0o077 == 0
    assert covering(journal.open(), ["sim:i=2", "sim:i=3"]) == [record]
    assert covering(journal.open(), ["sim:i=3"]) == []


def test_a_running_job_is_waited_for(journal, record):
    assert settle(journal, Answers(RUNNING)) == (["7.head"], [])


def test_a_silent_server_is_asked_again(journal, record):
    assert settle(journal, Answers(NoAnswer("down"), NoAnswer("down"), RUNNING)) == (["7.head"], [])


def test_where_it_cannot_be_told_nothing_is_submitted(journal, record, monkeypatch):
    monkeypatch.setattr(resume, "DEADLINE_S", 0.1)
    with pytest.raises(resume.Unsettled, match=r"7\.head.*down"):
        settle(journal, Answers(NoAnswer("down")))
    assert journal.open() == [record]


def test_one_miss_is_none(journal, record):
    assert settle(journal, Answers(None, RUNNING)) == (["7.head"], [])


def test_a_forgotten_job_is_closed(journal, record):
    kept, said = settle(journal, Answers(None))
    assert kept == []
    assert "7.head (pack/1) of an earlier call is no longer known to PBS" in said[0]
    assert journal.open() == []


def test_a_job_that_ended_badly_meanwhile_is_said(journal, record):
    kept, said = settle(journal, Answers(State(Phase.ENDED, "asked for 00:01:00", End.WALLTIME)))
    assert kept == []
    assert "exceeded its walltime (asked for 00:01:00)" in said[0]


@pytest.mark.parametrize(
    ("code", "said"), [(0, []), (3, ["job 7.head (pack/1) of an earlier call failed, exit code 3"])]
)
def test_an_end_before_this_call_is_no_matter_of_it(journal, record, code, said):
    (record.folder / "exit").write_text(f"{code} {time.time() - 10} \n")
    kept, told = settle(journal, Answers(RuntimeError("nobody has to be asked")))
    assert kept == []
    assert [line.split(" (log:")[0] for line in told] == said


@pytest.mark.parametrize("code", [0, 3])
def test_an_end_since_the_start_of_this_call_counts(journal, record, code):
    (record.folder / "exit").write_text(f"{code} {time.time()} \n")
    assert settle(journal, Answers(RuntimeError("nobody has to be asked")), born=time.time() - 10)[0] == ["7.head"]


def test_a_cancelled_job_is_waited_for_until_it_has_gone(journal, record):
    replace(record, cancelled=True).write()
    assert settle(journal, Answers(RUNNING, RUNNING, State(Phase.ENDED, "", End.DELETED))) == ([], [])
    assert journal.open() == []


def test_killed_before_the_id_was_known_and_not_started(journal, record):
    replace(record, job_id="").write()
    assert settle(journal, Answers(RUNNING)) == ([], [])
    assert not record.give_up()  # the job, if there is one, ends as soon as it starts
    assert journal.open() == []


def test_killed_before_the_id_was_known_and_started(journal, record):
    replace(record, job_id="").write()
    (record.folder / "claim").mkdir()
    (record.folder / "claim" / "id").write_text("8.head\n")
    assert settle(journal, Answers(RUNNING)) == (["8.head"], [])


def test_a_submission_of_a_call_that_still_runs_is_left_alone(journal):
    mine = journal.new("x", ["a"], None)
    assert str(os.getpid()) in mine.driver
    assert settle(journal, Answers(RUNNING)) == ([], [])
    assert mine.give_up()


def test_what_is_not_ours_is_left_alone(journal, record):
    other = Journal(journal.folder, "/other/Snakefile").new("x", ["a"], None)
    (journal.folder / "junk").mkdir()
    (journal.folder / "junk" / "record.json").write_text("{")
    newer = json.loads((other.folder / "record.json").read_text()) | {"format": 99}
    (journal.folder / "newer").mkdir()
    (journal.folder / "newer" / "record.json").write_text(json.dumps(newer))
    assert journal.open() == [record]


def test_closing_keeps_or_removes_the_files(journal, record):
    record.close("ended well")
    assert json.loads((record.folder / "record.json").read_text())["ended"] == "ended well"
    record.close("ended well", remove=True)
    assert not record.folder.exists()
    record.close("again")  # by another call: no error
