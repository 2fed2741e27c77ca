"""The job script, run by bash without any batch system."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pbs_under_test import wait_until

from snakemake_executor_plugin_pbs.journal import Journal
from snakemake_executor_plugin_pbs.script import JobScript, render


@pytest.fixture
def record(tmp_path):
    return Journal(tmp_path / "a 'quoted' $HOME; folder" / "pbs", "Snakefile").new("x", ["a"], 60)


@pytest.fixture
def script(record, tmp_path):
    return JobScript(
        title="x: a\nrm -rf /",
        plugin="plugin",
        folder=record.folder,
        workdir=tmp_path,
        command="exec true",
        bin=Path(sys.executable).parent,
        setup=[],
        environment={},
        walltime_s=60,
        job_id="$TEST_JOBID",
        job_end="",
    )


def start(script, record, **environment):
    record.script.write_text(render(script))
    variables = {"PATH": os.environ["PATH"], "TEST_JOBID": "5.head"} | environment
    return subprocess.Popen(["bash", record.script], env=variables, cwd="/", start_new_session=True)


def run(script, record, **environment):
    return start(script, record, **environment).wait(30)


@pytest.mark.parametrize("code", [0, 1, 3, 137])
def test_the_script_leaves_its_exit_code(script, record, code):
    assert run(replace(script, command=f"exec bash -c 'exit {code}'"), record) == code
    left = record.exit_code()
    assert (left.code, left.signal) == (code, "")
    assert abs(left.at - time.time()) < 60
    assert record.claimed_id() == "5.head"
    assert not list(record.folder.glob("*.new"))


def test_what_the_command_sees(script, record, tmp_path):
    odd = 'it\'s $HOME `x` "y"\nz'
    command = 'exec python -c \'import os, json; json.dump(dict(os.environ, cwd=os.getcwd()), open("seen", "w"))\''
    changed = replace(script, command=command, environment={"ODD": odd}, setup=["export MODULE='loaded it'", "false"])
    assert run(changed, record) == 0
    seen = eval((tmp_path / "seen").read_text())
    assert seen["ODD"] == odd
    assert seen["MODULE"] == "loaded it"
    assert seen["cwd"] == str(tmp_path)
    assert 0 < float(seen["SNAKEMAKE_JOB_END"]) - time.time() < 61
    assert seen["PATH"].split(":")[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize(("variable", "expected"), [({"END_OF_JOB": "123"}, "123"), ({}, None)])
def test_the_end_that_the_batch_system_knows_comes_first(script, record, variable, expected, tmp_path):
    changed = replace(script, job_end="END_OF_JOB", command='exec bash -c "echo $SNAKEMAKE_JOB_END >end"')
    assert run(changed, record, **variable) == 0
    said = (tmp_path / "end").read_text().strip()
    assert said == expected if expected else float(said) > time.time()


def test_without_a_walltime_no_end_is_claimed(script, record, tmp_path):
    changed = replace(script, walltime_s=None, command='exec bash -c "echo <${SNAKEMAKE_JOB_END-none}> >end"')
    changed = replace(changed, command="exec bash -c 'echo ${SNAKEMAKE_JOB_END-none} >end'")
    assert run(changed, record) == 0
    assert (tmp_path / "end").read_text() == "none\n"


def test_sigterm_is_passed_on_and_waited_for(script, record, tmp_path):
    command = "exec bash -c 'trap \"echo got >got; exit 9\" TERM; sleep 0.2; echo >ready; while :; do sleep 0.05; done'"
    process = start(replace(script, command=command), record)
    wait_until(lambda: (tmp_path / "ready").exists(), "the command")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    assert (tmp_path / "got").read_text() == "got\n"
    left = record.exit_code()
    assert (left.code, left.signal) == (143, "TERM")


def test_what_still_ends_well_after_sigterm_counts(script, record, tmp_path):
    command = "exec bash -c 'trap \"exit 0\" TERM; sleep 0.2; echo >ready; while :; do sleep 0.05; done'"
    process = start(replace(script, command=command), record)
    wait_until(lambda: (tmp_path / "ready").exists(), "the command")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert record.exit_code().code == 0


def test_the_signal_is_written_down_before_the_sigkill_comes(script, record, tmp_path):
    command = "exec bash -c 'trap \"\" TERM; sleep 0.2; echo >ready; while :; do sleep 0.05; done'"
    process = start(replace(script, command=command), record)
    wait_until(lambda: (tmp_path / "ready").exists(), "the command")
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: record.exit_code(signalled=True), "the signal")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    assert record.exit_code() is None
    assert (record.exit_code(signalled=True).code, record.exit_code(signalled=True).signal) == (143, "TERM")


def test_a_submission_that_was_given_up_does_not_start(script, record, tmp_path):
    assert record.give_up()
    assert run(replace(script, command="exec touch started"), record) == 75
    assert not (tmp_path / "started").exists()


def test_a_started_job_cannot_be_given_up(script, record):
    assert run(script, record) == 0
    assert not record.give_up()


def test_the_same_job_started_again_by_the_batch_system_runs(script, record, tmp_path):
    for _ in range(2):
        assert run(replace(script, command="exec bash -c 'echo x >>runs'"), record) == 0
    assert (tmp_path / "runs").read_text() == "x\nx\n"


def test_a_claim_that_cannot_be_made_says_why(script, record):
    """As where the disk is full: nobody has given this submission up."""
    (record.folder / "claim").write_text("")
    record.script.write_text(render(script))
    variables = {"PATH": os.environ["PATH"], "TEST_JOBID": "5.head"}
    done = subprocess.run(["bash", record.script], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 75
    assert "given up" not in done.stdout
    assert "claim" in done.stdout


@pytest.mark.parametrize(("line", "code"), [("set -eu; cd /", 3), ("exit 7", 7), ("set -e; false; true", 1)])
def test_whatever_the_setup_does_there_is_an_exit_code(script, record, line, code):
    command = f"exec bash -c '[ $PWD = {script.workdir} ] && exit 3'"
    assert run(replace(script, setup=[*line.split("; ")], command=command), record) == code
    assert record.exit_code().code == code


def test_a_missing_working_folder_is_an_exit_code(script, record, tmp_path):
    assert run(replace(script, workdir=tmp_path / "gone"), record) == 1
    assert record.exit_code().code == 1


def test_the_output_of_the_job_is_in_its_log(script, record):
    run(replace(script, command="exec bash -c 'echo out; echo err >&2'"), record)
    log = record.log.read_text()
    assert "out\n" in log
    assert "err\n" in log
    assert "exit code 0" in log
