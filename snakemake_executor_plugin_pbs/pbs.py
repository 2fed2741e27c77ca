"""PBS: qsub, qstat and qdel behind the calls of a Scheduler. Facts seen on OpenPBS 23.06."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_pbs import qstat
from snakemake_executor_plugin_pbs.scheduler import End, JobRequest, NoAnswer, Phase, State, SubmitFailed, call

NAME_LENGTH = 15
QSTAT_TIMEOUT_S = 30.0
RETURN_UNKNOWN = 153
RETURN_FINISHED = 35

# qstat's four forms, from the one that says most: without -x a server that keeps no history answers too, and the plain
# form can be read where an odd environment value has spoilt the JSON.
FORMS = (("-x", "-f", "-F", "json"), ("-x", "-f"), ("-f", "-F", "json"), ("-f",))

# What goes by itself: no connection, a busy server, a limit on how fast or how much one may talk to it.
TRANSIENT = re.compile(
    r"cannot connect|connection (refused|reset|timed out)|could not connect|unable to connect|timed? ?out"
    r"|no route to host|communication failure|end of file|server (is )?(busy|shutting down|not responding|unavailable)"
    r"|try again|15007"
    r"|batch protocol error|munge|resource temporarily unavailable|broken pipe|premature end of message|15031|15033",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(r"connect|communication failure|timed? ?out|no route to host|protocol error", re.IGNORECASE)
_SENT_ID = re.compile(r"^\d+(\[\d*\])?(\.\S+)?$")


@dataclass(frozen=True)
class PbsOptions:
    """What every submission is given besides what its job asks for."""

    account: str = ""
    queue: str = ""
    filesystems: str = ""
    place: str = ""
    extra_l: tuple[str, ...] = ()
    extra_w: tuple[str, ...] = ()


class PbsScheduler:
    """The Scheduler of PBS."""

    name = "PBS"
    programs = ("qsub", "qstat", "qdel")
    job_id = "$PBS_JOBID"
    job_end = ""

    def __init__(self, options: PbsOptions | None = None) -> None:
        self._options = options or PbsOptions()

    def command(self, job: JobRequest) -> list[str]:
        """The qsub line. Never -V: one odd value in the environment makes every later qstat of all jobs unreadable."""
        own = self._options
        argv = ["qsub", "-N", job_name(job.name), "-S", "/bin/bash", "-r", "n", "-j", "oe"]
        # A colon would be read as the end of a host name.
        argv += ["-o", str(job.output) if ":" not in str(job.output) else "/dev/null"]
        for flag, value in (("-A", own.account), ("-q", own.queue)):
            argv += [flag, value] if value else []
        argv += ["-l", f"select={select(job)}"]
        if job.walltime_s is not None:
            argv += ["-l", f"walltime={clock(job.walltime_s)}"]
        for resource, value in (("place", own.place), ("filesystems", own.filesystems)):
            argv += ["-l", f"{resource}={value}"] if value else []
        for extra in own.extra_l:
            argv += ["-l", extra]
        for extra in own.extra_w:
            argv += ["-W", extra]
        return [*argv, str(job.script)]

    def submit(self, job: JobRequest) -> str:
        """Submit, and return the id that qsub printed."""
        try:
            answer = call(self.command(job))
        except NoAnswer as silence:
            raise SubmitFailed(str(silence), transient="PATH" not in str(silence)) from silence
        lines = answer.stdout.strip().splitlines()
        if answer.returncode == 0 and lines and _SENT_ID.match(lines[-1].strip()):
            return lines[-1].strip()
        words = _first_words(answer.stderr or answer.stdout) or "it said nothing"
        raise SubmitFailed(f"{words} (exit code {answer.returncode})", transient=TRANSIENT.search(words) is not None)

    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        """One qstat for all; a second form of it only where the first could not be read or was refused."""
        jobs, finished = self._jobs(ids)
        states = {job_id: qstat.state_of(jobs[job_id]) for job_id in ids if job_id in jobs}
        ended = State(Phase.ENDED, "this server tells no more about finished jobs", End.UNEXPLAINED)
        return states | dict.fromkeys(finished, ended)

    def cancel(self, ids: Sequence[str]) -> None:
        """One qdel for all; jobs that have ended or that nobody knows are no errors."""
        if not ids:
            return
        answer = call(["qdel", *ids], QSTAT_TIMEOUT_S)
        complaints = [line for line in answer.stderr.splitlines() if line.strip()]
        serious = [line for line in complaints if not re.search(r"unknown job id|has finished", line, re.IGNORECASE)]
        if answer.returncode != 0 and (serious or not complaints):
            raise NoAnswer(_first_words("\n".join(serious)) or f"qdel ended with exit code {answer.returncode}")

    def walltime_left(self, job_id: str) -> float | None:
        """Seconds until PBS will end this job."""
        jobs, _ = self._jobs([job_id])
        return qstat.walltime_left(jobs[job_id], time.time()) if job_id in jobs else None

    def _jobs(self, ids: Sequence[str]) -> tuple[dict[str, qstat.Attributes], list[str]]:
        """The attributes of the known ones of these jobs, and the ids that are only said to have finished."""
        why, refused = "", False
        for form in FORMS:
            if "-x" not in form and why and not refused:
                break  # an unreadable answer is no reason to ask a question that tells less
            answer = call(["qstat", *form, *ids], QSTAT_TIMEOUT_S)
            words = _first_words(answer.stderr)
            if answer.returncode != 0 and not answer.stdout.strip() and _UNREACHABLE.search(words):
                raise NoAnswer(words)
            lines = {_number(named): line for line in answer.stderr.splitlines() if (named := _named(line))}
            told = {key: lines[_number(key)] for key in ids if _number(key) in lines}
            try:
                parse = qstat.parse_json if "json" in form else qstat.parse_text
                found = parse(answer.stdout) if answer.stdout.strip() else {}
            except qstat.Garbled as error:
                why = f"the answer of qstat could not be read: {error}"
                continue
            by_number = {_number(key): job for key, job in found.items()}
            jobs = {key: by_number[_number(key)] for key in ids if _number(key) in by_number}
            untold = [key for key in ids if key not in jobs and key not in told]
            if untold and (answer.returncode != 0 or not answer.stdout.strip()):
                why, refused = words or f"qstat ended with exit code {answer.returncode} and said nothing", True
                continue
            return jobs, [key for key, line in told.items() if key not in jobs and "finished" in line]
        raise NoAnswer(why)


def job_name(text: str) -> str:
    """A name that qsub takes: a letter first, no blanks, `=`, `,` or `/`, at most 15 characters."""
    clean = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return (clean if clean[:1].isalpha() else f"j{clean}")[:NAME_LENGTH]


def select(job: JobRequest) -> str:
    """The select statement: "2:ncpus=8:mem=4000mb:ngpus=1"."""
    parts = [str(job.nodes)]
    for resource, value, unit in (("ncpus", job.cpus, ""), ("mem", job.mem_mb, "mb"), ("ngpus", job.gpus, "")):
        parts += [f"{resource}={value}{unit}"] if value else []
    return ":".join(parts)


def clock(duration_s: int) -> str:
    """Seconds as HH:MM:SS."""
    return f"{duration_s // 3600:02d}:{duration_s // 60 % 60:02d}:{duration_s % 60:02d}"


def _number(job_id: str) -> str:
    return job_id.split(".")[0]


def _named(line: str) -> str:
    """The job that this line of qstat's calls unknown or finished, or ""."""
    said = re.search(r"unknown job id\s+(\d+(?:\[\d*\])?)|(\d+(?:\[\d*\])?)\S*\s+job has finished", line, re.IGNORECASE)
    return (said[1] or said[2]) if said else ""


def _first_words(text: str) -> str:
    """The complaint, without the usage that some errors print below it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = []
    for line in lines:
        if line.lower().startswith("usage"):
            break
        kept.append(line)
    return " / ".join(kept)[:500]
