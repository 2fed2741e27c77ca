"""Slurm: sbatch, squeue, scancel, and sacct where a site keeps accounts. Seen with Slurm 22.05."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_pbs.scheduler import End, JobRequest, NoAnswer, Phase, State, SubmitFailed, call

# Columns of fixed width: a reason may hold any character. squeue's exit_code is the status as wait(2) gives it.
_COLUMNS = {"JobID": 20, "State": 24, "exit_code": 12, "Reason": 200}
_WAITING = {"PENDING", "CONFIGURING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_FED"}
_HELD = {"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT"}
_ENDS = {
    "COMPLETED": End.FINISHED,
    "FAILED": End.FINISHED,
    "TIMEOUT": End.WALLTIME,
    "DEADLINE": End.WALLTIME,
    "CANCELLED": End.DELETED,
    "PREEMPTED": End.DELETED,
    "REVOKED": End.DELETED,
    "NODE_FAIL": End.NODE,
    "BOOT_FAIL": End.NODE,
    "OUT_OF_MEMORY": End.MEMORY,
}
# Why a pending job waits for a person. The last two may also mean that too many nodes are down at the moment.
_HOLDS = {"JobHeldUser", "JobHeldAdmin", "launch_failed_requeued_held", "PartitionNodeLimit", "BadConstraints"}
# Why it can never start as it is: limits of one job, which waiting does not change.
_NEVER = re.compile(
    "DependencyNeverSatisfied|PartitionTimeLimit|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
    r"|(Assoc|QOS)Max\w+PerJob\w*"
)
# What passes by: the controller busy or away, or as many jobs in the queue as the user may have.
_PASSING = re.compile(
    "timed out|unable to contact|connection refused|not connected|temporarily|zero bytes were transmitted"
    "|MaxSubmitJob|try again",
    re.IGNORECASE,
)
_ENDED_ALREADY = re.compile("already completing or completed|invalid job id", re.IGNORECASE)


@dataclass(frozen=True)
class Slurm:
    """The batch system Slurm (scheduler.Scheduler); what is given here goes to sbatch."""

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    options: Sequence[str] = ()
    # Scripts of which sbatch said that it got no answer: the job may have been taken all the same.
    _unsure: set[Path] = field(default_factory=set, repr=False, compare=False)

    name = "Slurm"
    programs = ("sbatch", "squeue", "scancel")
    job_id = "$SLURM_JOB_ID"
    job_end = "SLURM_JOB_END_TIME"

    def command(self, job: JobRequest) -> list[str]:
        """Return the line of sbatch that submits `job`."""
        argv = ["sbatch", "--parsable", "--export=ALL", "--no-requeue"]
        argv += [f"--job-name={re.sub(r'[^ -~]|[ /]', '_', job.name)}", f"--nodes={job.nodes}"]
        # In this path sbatch would replace %j and the like.
        argv.append(f"--output={str(job.output).replace('%', '%%')}")
        if job.walltime_s is not None:
            argv.append(f"--time={_time(job.walltime_s)}")
        for key in ("account", "partition", "qos", "constraint", "reservation"):
            if value := getattr(self, key):
                argv.append(f"--{key}={value}")
        if job.whole_nodes:
            argv.append("--exclusive")
            argv += [f"--mincpus={job.cpus}"] if job.cpus else []
        else:
            argv += ["--ntasks-per-node=1", f"--cpus-per-task={job.cpus or 1}"]
        # A whole node without its memory would be of no use: --mem=0 asks for all of it.
        if job.mem_mb or job.whole_nodes:
            argv.append(f"--mem={job.mem_mb or 0}M")
        argv += [f"--gpus-per-node={job.gpus}"] if job.gpus else []
        return [*argv, *self.options, str(job.script)]

    def submit(self, job: JobRequest) -> str:
        """Submit `job` and return its id; SubmitFailed with sbatch's own words."""
        try:
            if job.script in self._unsure and (taken := _job_of(job.script)):
                return taken
            done = call(self.command(job), environment=_environment())
        except NoAnswer as error:
            self._unsure.add(job.script)
            raise SubmitFailed(str(error), transient="not on the PATH" not in str(error)) from error
        # --parsable: "17", and "17;cluster" where there are several clusters.
        identity = done.stdout.strip().partition(";")[0]
        if done.returncode or not identity.isdigit():
            words = _words(done.stderr) or f"sbatch printed no job id but {done.stdout.strip()!r}"
            passing = _PASSING.search(words) is not None
            if passing:
                self._unsure.add(job.script)
            raise SubmitFailed(words, transient=passing)
        return identity

    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        """Return the states of these jobs from one squeue, and one sacct for those that squeue has forgotten."""
        if not ids:
            return {}
        wanted = ",".join(f"{key}:{width}" for key, width in _COLUMNS.items())
        done = call(
            ["squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", f"--Format={wanted}"],
            environment=_environment(),
        )
        # With one id squeue calls an unknown one an error, with several it leaves it out.
        if done.returncode and not (len(ids) == 1 and _ENDED_ALREADY.search(done.stderr)):
            raise NoAnswer(_words(done.stderr) or f"squeue ended with exit code {done.returncode}")
        found = dict(_row(line) for line in done.stdout.splitlines() if line.strip())
        missing = [identity for identity in ids if identity not in found]
        return found | (_accounts(missing) if missing else {})

    def cancel(self, ids: Sequence[str]) -> None:
        """End all these jobs by one scancel."""
        if not ids:
            return
        done = call(["scancel", *ids], environment=_environment())
        errors = [line for line in done.stderr.splitlines() if "error" in line and not _ENDED_ALREADY.search(line)]
        if done.returncode and errors:
            raise NoAnswer(_words("\n".join(errors)))

    def walltime_left(self, job_id: str) -> float | None:
        """Return the seconds that a running job has left, as squeue counts them."""
        done = call(
            ["squeue", "--noheader", "--states=running", f"--jobs={job_id}", "--Format=TimeLeft:24"],
            environment=_environment(),
        )
        match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", done.stdout.strip())
        if done.returncode or not match:
            return None
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _job_of(script: Path) -> str | None:
    """Return the id of the job in the queue that runs `script`; NoAnswer where squeue does not tell."""
    asked = ["squeue", "--noheader", f"--user={os.getuid()}", "--Format=JobID:20,Command:4096"]
    done = call(asked, environment=_environment())
    if done.returncode:
        raise NoAnswer(_words(done.stderr) or f"squeue ended with exit code {done.returncode}")
    rows = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    return next((row[0] for row in rows if len(row) > 1 and row[1].rstrip() == str(script)), None)


def _environment() -> dict[str, str]:
    """Return what Slurm's programs, and with sbatch the job, get of this environment.

    Inside a job the variables of that job would become the new one's (SLURM_MEM_PER_CPU beside --mem ends every srun
    in it), and a user's SQUEUE_ and SCANCEL_ variables filter and reshape what is asked here.
    """
    kept = {"SLURM_CONF", "SLURM_CLUSTERS"}
    dropped: tuple[str, ...] = ("SQUEUE_", "SACCT_", "SCANCEL_", "SLURM_TIME_FORMAT")
    if "SLURM_JOB_ID" in os.environ:
        dropped += ("SLURM_", "SLURMD_", "PMI_", "PMIX_")
    return {key: value for key, value in os.environ.items() if key in kept or not key.startswith(dropped)}


def _time(seconds: int) -> str:
    """Return a time as sbatch takes it; Slurm itself rounds it up to whole minutes."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _words(stderr: str) -> str:
    """Return the messages of one of Slurm's programs on one line, without the program's name before each."""
    lines = [re.sub(r"^\w+: (error: |fatal: )?", "", line.strip()) for line in stderr.splitlines()]
    return "; ".join(line for line in lines if line)


def _row(line: str) -> tuple[str, State]:
    """Return the job and its state from one line of squeue; NoAnswer where the line is none of squeue's."""
    cells, at = [], 0
    for width in _COLUMNS.values():
        cells.append(line[at : at + width].strip())
        at += width
    identity, state, status, reason = cells
    if not identity.isdigit() or not status.isdigit():
        raise NoAnswer(f"squeue answered {line.strip()[:200]!r}")
    return identity, _state(state, "" if reason == "None" else reason, int(status))


def _accounts(ids: Sequence[str]) -> dict[str, State]:
    """Return what the accounts know of these jobs; where there are none (sacct fails), nothing."""
    try:
        done = call(
            ["sacct", "-X", "--noheader", "--parsable2", f"--jobs={','.join(ids)}", "--format=JobIDRaw,State,ExitCode"],
            environment=_environment(),
        )
    except NoAnswer:
        return {}
    rows = re.findall(r"^(\d+)\|(\w+)[^|]*\|(\d+):(\d+)$", done.stdout, re.MULTILINE)
    return {identity: _state(state, "", int(code) << 8 | int(number)) for identity, state, code, number in rows}


def _state(word: str, reason: str, status: int) -> State:
    """Return the state of a job from Slurm's word for it, its reason, and its exit status as wait(2) gives it."""
    if word == "PENDING" and _NEVER.fullmatch(reason):
        return State(Phase.NEVER, reason)
    if word in _HELD or (word == "PENDING" and reason in _HOLDS):
        return State(Phase.HELD, reason or word)
    if word in _RUNNING:
        return State(Phase.RUNNING)
    if word not in _ENDS:
        # One that a later Slurm has added says at least that the job is known.
        return State(Phase.WAITING, reason if word in _WAITING else word)
    end, number, code = _ENDS[word], status & 0x7F, status >> 8 & 0xFF
    words = [] if end is End.FINISHED else [word]
    if reason == "DependencyNeverSatisfied":
        end = End.DEPENDENCY
    elif end is End.FINISHED and number:
        end = End.SIGNAL
        words = [f"signal {number}"]
    elif word == "FAILED" and not code:
        end = End.UNEXPLAINED
    return State(
        Phase.ENDED,
        ", ".join([*words, reason] if reason else words),
        end,
        code if end is End.FINISHED else None,
    )
