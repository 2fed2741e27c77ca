"""What happened in a run, said in terms of points: what the state tells and the display shows."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins: `points` points and `others` jobs outside of them are to be done."""

    points: int
    others: int


@dataclass(frozen=True, slots=True)
class PointDone:
    """All components of `point` are through after `seconds`; `left` is the estimate for the rest, if there is one."""

    point: str
    seconds: float
    ended: int
    total: int
    left: float | None


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job outside the points, such as `summarize`, is done after `seconds`."""

    rule: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LogTail:
    """The last lines of one log file; no lines if it is empty or missing."""

    path: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A point, or a job outside the points (then `point` is empty), failed in `rule` for `reason`, if known."""

    point: str
    rule: str
    reason: str
    seconds: float
    ended: int
    total: int
    logs: tuple[LogTail, ...] = ()


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A point that its submission did not get to, for `reason`: it has not failed, and the next run starts it."""

    point: str
    reason: str


Happening = Started | PointDone | JobDone | Failed | NotStarted


@dataclass(slots=True)
class Job:
    """A job as Snakemake's JOB_INFO announces it."""

    number: int
    rule: str
    point: str
    logs: tuple[str, ...]
    shellcmd: str
    started: float
    outputs: tuple[str, ...] = ()
    culprit: bool = False
    """Snakemake reported that this job's own command failed; its peers in the group were killed for it."""


@dataclass(slots=True)
class RunningPoint:
    """A point whose components run: its jobs by number, and those of them that are done."""

    name: str
    started: float
    jobs: dict[int, Job] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    @property
    def folder(self) -> Path | None:
        """The folder of the point's results, found above its log files; None if it has none there."""
        for job in self.jobs.values():
            for log in job.logs:
                for parent in Path(log).parents:
                    if str(parent).endswith(self.name):
                        return parent
        return None
