"""What qstat prints, read into states. Its JSON is not always JSON, so the plain form is read too.

Seen on OpenPBS 23.06: strings are escaped twice, strings of digits arrive as numbers, and a job that was submitted with
odd values in its environment makes the whole answer unreadable.
"""

import json
import re
import signal
import time
from collections.abc import Mapping
from typing import Any

from snakemake_executor_plugin_pbs.scheduler import End, Phase, State

Attributes = Mapping[str, Any]
"""The attributes of one job as qstat names them; resources are mappings of their own ("Resource_List")."""

WALLTIME_EXCEEDED = -29
MEMORY_EXCEEDED = (-26, -27)
NOT_STARTED = (-1, -2, -3, -4, -5, -6, -7, -10)
SUBSTATE_DELETED = 91
KILLED_BASE = 256  # 271 is SIGTERM
SHELL_SIGNAL_BASE = 128  # 137 is SIGKILL
NEVER_RUNS = "can never run"

_JOB = re.compile(r"^Job Id:\s*(\S+)", re.MULTILINE)


class Garbled(ValueError):
    """An answer that cannot be read."""


def parse_json(text: str) -> dict[str, Attributes]:
    """The jobs of `qstat -f -F json`: id -> attributes. Garbled where it is not the JSON of a PBS server."""
    try:
        answer = json.loads(text, strict=False)
    except ValueError as error:
        raise Garbled(f"not JSON ({error})") from error
    if not isinstance(answer, dict) or "pbs_server" not in answer:
        raise Garbled("JSON, but not the answer of a PBS server")
    jobs = answer.get("Jobs", {})
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) and "job_state" in job for job in jobs.values()):
        raise Garbled("JSON without the states of the jobs")
    return jobs


def parse_text(text: str) -> dict[str, Attributes]:
    """The jobs of `qstat -f`: id -> attributes. Long values go on in lines that begin with a tab."""
    starts = list(_JOB.finditer(text))
    if not starts and text.strip():
        raise Garbled(f"no job in the answer ({text.strip().splitlines()[0][:80]!r})")
    ends = [match.start() for match in starts[1:]] + [len(text)]
    jobs = {match[1]: _attributes(text[match.end() : end]) for match, end in zip(starts, ends, strict=True)}
    # Each job ends with an empty line. Without it the rest may be missing, the exit status among it.
    if (starts and not text.endswith("\n\n")) or any("job_state" not in job for job in jobs.values()):
        raise Garbled("an answer that was cut off")
    return jobs


def _attributes(block: str) -> Attributes:
    found: dict[str, Any] = {}
    for line in re.sub(r"\n\t", "", block).splitlines():
        key, separator, value = line.strip().partition(" = ")
        if not separator:
            continue
        group, dot, name = key.partition(".")
        if dot:
            found.setdefault(group, {})[name] = value
        else:
            found[key] = value
    return found


def text_of(job: Attributes, key: str) -> str:
    """An attribute as the user wrote it: JSON strings are escaped twice."""
    value = str(job.get(key, ""))
    return re.sub(r"\\([\"\\/])", r"\1", value)


def number_of(job: Attributes, key: str) -> int | None:
    """A numeric attribute, whichever way it was printed; None where there is none."""
    try:
        return int(str(job[key]))
    except (KeyError, ValueError):
        return None


def state_of(job: Attributes) -> State:
    """What these attributes say about the job."""
    letter = text_of(job, "job_state")
    comment = text_of(job, "comment")
    if letter in ("F", "X"):
        return _ended(job, comment)
    if letter in ("R", "E", "B"):
        return State(Phase.RUNNING, comment)
    if NEVER_RUNS in comment.lower():
        return State(Phase.NEVER, comment)
    if letter == "H":
        kind = text_of(job, "Hold_Types")
        depend = text_of(job, "depend")
        if depend and "u" not in kind and "o" not in kind:
            return State(Phase.WAITING, f"depends on {depend}")
        return State(Phase.HELD, f"hold type {kind}{'; ' + comment if comment else ''}")
    return State(Phase.WAITING, comment)


def _ended(job: Attributes, comment: str) -> State:
    code = number_of(job, "Exit_status")
    if code == 0:
        return State(Phase.ENDED, comment, End.FINISHED, 0)
    if code == WALLTIME_EXCEEDED:
        limit = job.get("Resource_List", {}).get("walltime", "")
        return State(Phase.ENDED, f"asked for {limit}; {comment}" if limit else comment, End.WALLTIME)
    if number_of(job, "substate") == SUBSTATE_DELETED:
        own = code if code is not None and code < KILLED_BASE else None
        return State(Phase.ENDED, comment or "deleted before it had started", End.DELETED, own)
    if code is None:
        if depend := text_of(job, "depend"):
            return State(Phase.ENDED, f"{depend}{'; ' + comment if comment else ''}", End.DEPENDENCY)
        return State(Phase.ENDED, comment, End.UNSTARTED if "stime" not in job else End.UNEXPLAINED)
    if code in MEMORY_EXCEEDED:
        return State(Phase.ENDED, comment, End.MEMORY, code)
    if code in NOT_STARTED:
        return State(Phase.ENDED, comment, End.UNSTARTED, code)
    if code < 0:
        return State(Phase.ENDED, comment, End.UNEXPLAINED, code)
    base = KILLED_BASE if code > KILLED_BASE else SHELL_SIGNAL_BASE
    if name := _signal_name(code - base):
        return State(Phase.ENDED, f"{name}; {comment}" if comment else name, End.SIGNAL, code)
    return State(Phase.ENDED, comment, End.FINISHED, code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def seconds(walltime: str) -> int:
    """[[HH:]MM:]SS in seconds; ValueError where it is something else."""
    total = 0
    for part in str(walltime).split(":"):
        total = total * 60 + int(part)
    return total


def walltime_left(job: Attributes, now: float) -> float | None:
    """Seconds until a running job reaches its walltime, by its start; by what it has used where no start is given."""
    limits, used = job.get("Resource_List", {}), job.get("resources_used", {})
    try:
        limit = seconds(limits["walltime"])
    except (KeyError, ValueError):
        return None
    try:
        started = time.mktime(time.strptime(text_of(job, "stime"), "%a %b %d %H:%M:%S %Y"))
        return limit - (now - started)
    except ValueError:
        pass
    try:
        return float(limit - seconds(used["walltime"]))
    except (KeyError, ValueError):
        return None
