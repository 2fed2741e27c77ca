"""The walltime that the batch system has left for this job."""

import json
import math
import os
import re
import subprocess
import time
from collections.abc import Sequence

DEADLINE_S = 10.0
"""How long a batch system has to answer."""


def seconds_left() -> float | None:
    """Return the seconds until the batch system ends this job, negative when they are over; None where nobody says.

    A job that was submitted by our executors knows its end (SNAKEMAKE_JOB_END, epoch seconds); in an interactive
    allocation the batch system is asked. One that fails, hangs or answers nonsense has not said anything.
    """
    for name in ("SNAKEMAKE_JOB_END", "SLURM_JOB_END_TIME"):
        if (end := _number(os.environ.get(name))) is not None:
            return end - time.time()
    if job := os.environ.get("PBS_JOBID"):
        return _of_pbs(job)
    if job := os.environ.get("SLURM_JOB_ID"):
        return parse_duration(_answer(["squeue", "-h", "-j", job, "-o", "%L"]))
    return None


def parse_duration(text: str) -> float | None:
    """Return the seconds of PBS's and Slurm's durations: `90`, `5:00`, `01:00:00`, `2-03:00:00`; None for others."""
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+(?::[0-9]+){0,2})", text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match[2].split(":")]
    if match[1]:
        # Slurm leaves out the seconds, or also the minutes, of a duration in days: D-HH and D-HH:MM.
        numbers = [*numbers, 0, 0][:3]
    seconds = 0
    for number in numbers:
        seconds = 60 * seconds + number
    return float(int(match[1] or 0) * 86_400 + seconds)


def _of_pbs(job: str) -> float | None:
    try:
        answer = json.loads(_answer(["qstat", "-f", "-F", "json", job]), strict=False)
        described = next(iter(answer["Jobs"].values()))
        walltime = parse_duration(str(described["Resource_List"]["walltime"]))
        # What a job has used is updated every minute or so; its start is exact. The format is that of ctime(3).
        start = time.mktime(time.strptime(described["stime"]))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, OverflowError):
        return None
    return None if walltime is None else start + walltime - time.time()


def _answer(command: Sequence[str]) -> str:
    """Return what `command` prints, and nothing where it fails or takes too long."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
