"""The walltime that is left, as each batch system tells it, and "unknown" where none does."""

import json
import os
import time
from pathlib import Path

import pytest

from simai_rules.launch import walltime
from simai_rules.launch.walltime import parse_duration, seconds_left

RUNNING = {"stime": "", "Resource_List": {"walltime": "01:00:00"}}


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs that stand before all others on the PATH; no batch system around."""
    for name in ("SNAKEMAKE_JOB_END", "SLURM_JOB_END_TIME", "PBS_JOBID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def program(folder: Path, name: str, lines: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


def test_nobody_says() -> None:
    assert seconds_left() is None


@pytest.mark.parametrize("name", ["SNAKEMAKE_JOB_END", "SLURM_JOB_END_TIME"])
def test_the_job_knows_its_end(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, str(int(time.time()) + 100))
    assert seconds_left() == pytest.approx(100, abs=5)
    monkeypatch.setenv(name, str(int(time.time()) - 100))
    assert seconds_left() == pytest.approx(-100, abs=5)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf"])
def test_an_end_that_is_no_time_is_unknown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SNAKEMAKE_JOB_END", text)
    assert seconds_left() is None


def test_pbs_is_asked_in_an_interactive_job(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBS_JOBID", "17.pbshead")
    started = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(time.time() - 600))
    answer = {"Jobs": {"17.pbshead": RUNNING | {"stime": started}}}
    program(programs, "qstat", f"[ \"$*\" = '-f -F json 17.pbshead' ] && cat <<'E'\n{json.dumps(answer)}\nE")
    assert seconds_left() == pytest.approx(3000, abs=10)


@pytest.mark.parametrize(
    "lines", ["exit 153", "echo '{'", "echo '{\"Jobs\": {}}'", 'echo \'{"Jobs": {"17": {}}}\'', "echo '[]'", "sleep 9"]
)
def test_an_answer_that_says_nothing_is_unknown(programs: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    monkeypatch.setattr(walltime, "DEADLINE_S", 0.5)
    monkeypatch.setenv("PBS_JOBID", "17.pbshead")
    program(programs, "qstat", lines)
    assert seconds_left() is None


def test_slurm_is_asked_in_an_interactive_job(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "20")
    program(programs, "squeue", "[ \"$*\" = '-h -j 20 -o %L' ] && echo 1-02:00:10")
    assert seconds_left() == 26 * 3600 + 10
    program(programs, "squeue", "echo UNLIMITED")
    assert seconds_left() is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("5:00", 300), ("01:00:00\n", 3600), ("2-03:00:00", 183_600), ("1-2", 93_600), ("1-02:30", 95_400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "UNLIMITED", "INVALID", "1:2:3:4", "-5", "1--2", "1:x"])
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None
