"""qstat's answers, as recorded from OpenPBS 23.06.06 (shortened), read into states."""

import json
import time
from pathlib import Path

import pytest

from snakemake_executor_plugin_pbs import qstat
from snakemake_executor_plugin_pbs.scheduler import End, Phase

RECORDED = Path(__file__).parent / "recorded"


def recorded(name):
    (job,) = qstat.parse_json((RECORDED / f"{name}.json").read_text()).values()
    return job


@pytest.mark.parametrize(
    ("name", "phase", "end", "code", "said"),
    [
        ("queued", Phase.NEVER, None, None, "Insufficient amount of resource: ncpus"),
        ("held", Phase.HELD, None, None, "is held"),
        ("running", Phase.RUNNING, None, None, "pbsn1"),
        ("finished_ok", Phase.ENDED, End.FINISHED, 0, "exit code 0"),
        ("finished_exit3", Phase.ENDED, End.FINISHED, 3, "exit code 3"),
        ("finished_kill9", Phase.ENDED, End.SIGNAL, 137, "SIGKILL"),
        ("killed_walltime", Phase.ENDED, End.WALLTIME, None, "exceeded its walltime (asked for 00:00:10"),
        ("qdeleted", Phase.ENDED, End.DELETED, None, "terminated by user@pbshead"),
        ("qdel_trapped", Phase.ENDED, End.DELETED, 7, "was deleted, exit code 7"),
        ("qdeleted_held", Phase.ENDED, End.DELETED, None, "deleted before it had started"),
        ("depfail", Phase.ENDED, End.DEPENDENCY, None, "afterok:15.pbshead"),
    ],
)
def test_every_recorded_state_is_told_apart(name, phase, end, code, said):
    state = qstat.state_of(recorded(name))
    assert (state.phase, state.end, state.exit_code) == (phase, end, code)
    assert said in state.message


def test_the_plain_form_says_the_same_as_the_json():
    (job,) = qstat.parse_text((RECORDED / "killed_walltime.txt").read_text()).values()
    assert qstat.state_of(job) == qstat.state_of(recorded("killed_walltime"))
    assert "exceeded resource walltime" in job["comment"]  # broken over two lines in the answer


def test_two_jobs_in_the_plain_form():
    text = (RECORDED / "killed_walltime.txt").read_text()
    jobs = qstat.parse_text(
        text + text.replace("17.pbshead", "18.pbshead").replace("Exit_status = -29", "Exit_status = 0")
    )
    assert {key: qstat.state_of(job).end for key, job in jobs.items()} == {
        "17.pbshead": End.WALLTIME,
        "18.pbshead": End.FINISHED,
    }


def test_values_of_the_environment_do_not_spoil_the_answer():
    assert qstat.state_of(recorded("qsub_V_odd_env")).phase is Phase.RUNNING
    assert recorded("qsub_V_odd_env")["Variable_List"]["PYTHONUNBUFFERED"] == 1


def test_strings_are_escaped_twice():
    assert qstat.text_of({"comment": 'no \\"good\\" \\\\ end'}, "comment") == 'no "good" \\ end'


@pytest.mark.parametrize("value", [3, "3", -29, "-29"])
def test_numbers_come_in_two_forms(value):
    assert qstat.number_of({"Exit_status": value}, "Exit_status") == int(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "[]",
        '{"a": 1}',
        '{"pbs_server": "s", "Jobs": {"1.s": {"Job_Name": "x"}}}',
        '{"pbs_server": "s", "J',
    ],
)
def test_what_is_no_answer_is_refused(text):
    with pytest.raises(qstat.Garbled):
        qstat.parse_json(text)


@pytest.mark.parametrize(
    "text", ["No Permission.", "Job Id: 17.pbshead\n    Job_Name = x\n\n", "Job Id: 17.pbshead\n    job_state = F\n"]
)
def test_what_is_no_plain_answer_is_refused(text):
    with pytest.raises(qstat.Garbled):
        qstat.parse_text(text)


def test_a_job_that_waits_for_another_is_not_said_to_be_held():
    job = recorded("held") | {"Hold_Types": "s", "depend": "afterok:1.pbshead"}
    assert qstat.state_of(job).phase is Phase.WAITING


@pytest.mark.parametrize(
    ("code", "end"), [(-27, End.MEMORY), (-3, End.UNSTARTED), (-99, End.UNEXPLAINED), (265, End.SIGNAL)]
)
def test_codes_of_pbs_itself(code, end):
    assert qstat.state_of(recorded("finished_exit3") | {"Exit_status": code}).end is end


def test_an_unknown_letter_is_left_alone():
    assert qstat.state_of({"job_state": "?"}).phase is Phase.WAITING


def test_the_walltime_left_goes_by_the_start():
    job = recorded("running")
    start = time.mktime(time.strptime(job["stime"], "%a %b %d %H:%M:%S %Y"))
    assert qstat.walltime_left(job, start + 4) == 6
    assert qstat.walltime_left({key: value for key, value in job.items() if key != "stime"}, 0.0) == 10
    assert qstat.walltime_left({}, 0.0) is None


def test_the_recorded_files_are_what_the_server_printed():
    """They are facts, cut shorter: each still names the server that printed it."""
    for path in RECORDED.glob("*.json"):
        assert json.loads(path.read_text())["pbs_version"] == "23.06.06"
