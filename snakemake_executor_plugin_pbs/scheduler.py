"""What the executor wants from a batch system: submit, states, cancel, walltime left. PBS and Slurm are two of them."""

import enum
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Phase(enum.Enum):
    """Where a job is."""

    WAITING = "waiting"  # queued, routed, starting, suspended: leave it alone
    HELD = "held"  # waits until somebody releases it: said once
    RUNNING = "running"
    NEVER = "can never run"  # queued, and the batch system says that it can never start: cancelled and failed
    ENDED = "ended"


class End(enum.Enum):
    """How a job ended, in the words of a message; the exit code says whether it ended well."""

    FINISHED = "finished"
    SIGNAL = "was ended by a signal"
    WALLTIME = "exceeded its walltime"
    DELETED = "was deleted"
    DEPENDENCY = "was never started: a job that it depends on failed"
    NODE = "lost a node"
    MEMORY = "ran out of memory"
    UNSTARTED = "was never started"
    UNEXPLAINED = "ended without an exit code"


@dataclass(frozen=True)
class State:
    """What a batch system says about one job.

    ``words`` are its own (a comment, a reason), shown to the user as they are; ``end`` and ``exit_code`` are given
    with the phase ENDED alone. ``exit_code`` is the one of the job script as the batch system reports it, or None.
    """

    phase: Phase
    words: str = ""
    end: End | None = None
    exit_code: int | None = None

    @property
    def message(self) -> str:
        """One line for the user, to be put behind "job 17.server"."""
        said = f" ({self.words})" if self.words else ""
        if self.end is None:
            return (
                f"{'is ' if self.phase in (Phase.HELD, Phase.RUNNING, Phase.WAITING) else ''}{self.phase.value}{said}"
            )
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"{self.end.value}{code}{said}"


@dataclass(frozen=True)
class JobRequest:
    """One submission. All paths are absolute; options that belong to one batch system alone are the adapter's own.

    ``whole_nodes`` is true where the user asked for ``nodes``: then ``cpus`` is None unless the user gave it.
    ``mem_mb``, ``gpus`` and ``cpus`` are for each node.
    """

    name: str  # any text; the adapter makes a legal job name of it
    script: Path  # a complete shell script, started on the first node
    output: Path  # what the batch system itself writes; the script's own output goes to its log
    nodes: int
    walltime_s: int | None
    whole_nodes: bool = False
    cpus: int | None = None
    mem_mb: int | None = None
    gpus: int | None = None


class SubmitFailed(Exception):
    """The batch system did not take a job: its own words, and whether trying again later may help."""

    def __init__(self, words: str, *, transient: bool) -> None:
        super().__init__(words)
        self.words = words
        self.transient = transient


class NoAnswer(Exception):
    """The batch system could not be asked or its answer could not be read: that says nothing about any job."""


class Scheduler(Protocol):
    """One batch system. Every call has a deadline of its own and may be made from several threads."""

    @property
    def name(self) -> str:
        """What messages call it: "PBS"."""

    @property
    def programs(self) -> Sequence[str]:
        """The programs that have to be on the PATH."""

    @property
    def job_id(self) -> str:
        """The job's id inside the job script, as a shell expression: "$PBS_JOBID"."""

    @property
    def job_end(self) -> str:
        """A shell variable of the job with its end in epoch seconds ("SLURM_JOB_END_TIME"), or "" for none."""

    def command(self, job: JobRequest) -> list[str]:
        """The submission as an argument list, shown by a dry submission and run by submit()."""

    def submit(self, job: JobRequest) -> str:
        """The id of the job now submitted; SubmitFailed where it was not taken."""

    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        """The states of these jobs, by ONE request; a job that the batch system does not know is left out.

        NoAnswer: nothing was learned, about any of them.
        """

    def cancel(self, ids: Sequence[str]) -> None:
        """End all these jobs by one request; one that has ended is no error. NoAnswer: it could not be asked."""

    def walltime_left(self, job_id: str) -> float | None:
        """Seconds until the batch system will end this running job; None where it does not say."""


def call(
    argv: Sequence[str], timeout_s: float = 60.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one program of a batch system to its end; NoAnswer where it is missing or takes longer than the deadline.

    In a session of its own, so that a Ctrl-C at the terminal does not tear a submission apart half-way.
    """
    try:
        return subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=environment,
            start_new_session=True,
            check=False,
        )
    except OSError as error:
        raise NoAnswer(f"{argv[0]} is not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{argv[0]} did not answer within {timeout_s:.0f} s") from error
