"""The state of a run in points, kept from Snakemake's log events; it shows nothing itself.

A point is one value of the wildcard `point`. Its jobs are those that Snakemake starts together as a group: the
staging server, which is a service, and its consumers. `configure` and whatever else runs before does not count.
"""

from dataclasses import dataclass
from logging import LogRecord
from typing import Any

from snakemake_logger_plugin_simai.events import (
    Failed,
    Happening,
    Job,
    JobDone,
    LogTail,
    NotStarted,
    PointDone,
    RunningPoint,
    Started,
)
from snakemake_logger_plugin_simai.failure import SERVICE_PREFIX, explain, finished, not_started, tail


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one moment, never changed afterwards: the display's own thread may read it at any time."""

    total: int = 0
    """Points that this run has to do."""
    done: int = 0
    failed: int = 0
    running: tuple[tuple[str, float], ...] = ()
    """Names of the running points and when they started, in Unix seconds."""
    others: tuple[str, ...] = ()
    """Rules of the running jobs that belong to no point's coupled run."""
    began: float = 0.0
    """When the run began, in Unix seconds."""
    mean: float | None = None
    """Mean seconds of the points finished in this run."""
    peak: int = 1
    """The most points that ran at once in this run."""

    @property
    def ended(self) -> int:
        """Points done or failed."""
        return self.done + self.failed

    @property
    def left(self) -> int:
        """Points that have not started yet."""
        return max(0, self.total - self.ended - len(self.running))

    def time_left(self, now: float) -> float | None:
        """Seconds until all points are through: mean of those finished x points left / points running at once.

        What the running points have behind them is taken off. None if no point has finished, or none is left.
        """
        if self.mean is None or not (self.left or self.running):
            return None
        behind = sum(min(max(0.0, now - started), self.mean) for _, started in self.running)
        return max(0.0, self.mean * (self.left + len(self.running)) - behind) / self.peak


class RunState:
    """Follows a run by its log records: `update` takes one and returns what it meant in terms of points."""

    def __init__(self) -> None:
        self.total = 0
        self.began: float | None = None
        self.jobs_done = 0
        self.failed: dict[str, Failed] = {}
        """The points that failed, by name."""
        self.failed_jobs: list[Failed] = []
        """The jobs outside of the points that failed."""
        self.not_started: set[str] = set()
        self._running: dict[str, RunningPoint] = {}
        self._others: dict[int, Job] = {}
        self._durations: list[float] = []
        self._points: dict[int, str] = {}
        self._peak = 1

    def snapshot(self) -> Snapshot:
        """Return the state as it is now."""
        return Snapshot(
            total=self.total,
            done=len(self._durations),
            failed=len(self.failed),
            running=tuple((point.name, point.started) for point in self._running.values()),
            others=tuple(job.rule for job in self._others.values() if job.shellcmd),
            began=self.began or 0.0,
            mean=sum(self._durations) / len(self._durations) if self._durations else None,
            peak=self._peak,
        )

    def update(self, record: LogRecord) -> list[Happening]:
        """Take one log record of Snakemake's; times are those of the records, so a late call changes nothing."""
        event = str(getattr(record, "event", "") or "")
        handler = getattr(self, f"_on_{event}", None)
        return handler(record.__dict__, record.created) if handler else []

    def _on_run_info(self, info: dict[str, Any], now: float) -> list[Happening]:
        if self.began is not None:
            return []
        stats: dict[str, int] = info.get("stats") or {}
        self.began = now
        self.total = sum(count for rule, count in stats.items() if SERVICE_PREFIX in rule)
        return [Started(self.total, int(stats.get("total", 0)))]

    def _on_job_info(self, info: dict[str, Any], now: float) -> list[Happening]:
        wildcards: dict[str, str] = info.get("wildcards") or {}
        in_group = bool(info.get("indent"))
        job = Job(
            number=info["jobid"],
            rule=info["rule_name"],
            point=wildcards.get("point", ""),
            logs=tuple(info.get("log") or ()),
            shellcmd=" ".join((info.get("shellcmd") or "").split()),
            started=now,
            outputs=tuple(map(str, info.get("output") or ())),
        )
        if not (in_group and job.point):
            self._others[job.number] = job
            return []
        self.failed.pop(job.point, None)  # If it had failed, Snakemake tries it again (--retries).
        self.not_started.discard(job.point)
        point = self._running.setdefault(job.point, RunningPoint(job.point, now))
        point.jobs[job.number] = job
        self._points[job.number] = job.point
        self._peak = max(self._peak, len(self._running))
        return []

    def _on_job_finished(self, info: dict[str, Any], now: float) -> list[Happening]:
        number = info["job_id"]
        self.jobs_done += 1
        job = self._others.pop(number, None)
        if job is not None:
            # The target rule makes nothing and has no command; a line per `configure` would hide the points.
            return [JobDone(job.rule, now - job.started)] if job.shellcmd and not job.point else []
        point = self._running.get(self._points.get(number, ""))
        if point is None:
            return []
        point.done.add(number)
        if point.done < point.jobs.keys():
            return []
        del self._running[point.name]
        self._durations.append(now - point.started)
        state = self.snapshot()
        return [PointDone(point.name, self._durations[-1], state.ended, self.total, state.time_left(now))]

    def blame(self, text: str) -> Job | None:
        """Mark and return the running job whose command an error text quotes; None if it quotes none.

        The group error that follows names every job of the group alike.
        """
        flat = " ".join(text.split())
        jobs = [job for point in self._running.values() for job in point.jobs.values()]
        for job in [*jobs, *self._others.values()]:
            if "CalledProcessError" in flat and job.shellcmd and job.shellcmd in flat:
                job.culprit = True
                return job
        return None

    def _on_group_error(self, info: dict[str, Any], now: float) -> list[Happening]:
        names = dict.fromkeys(self._points.get(job["jobid"], "") for job in info["job_error_info"])
        happenings: list[Happening] = []
        points = [self._running.pop(name) for name in names if name in self._running]
        for point in points:
            if len(points) > 1 and finished(point):
                # Of a pack that failed as a whole, as Snakemake tells it: this one's results stay.
                self._durations.append(now - point.started)
                ended = self.snapshot().ended
                happenings.append(PointDone(point.name, now - point.started, ended, self.total, None))
                continue
            if late := not_started(point, packed=len(points) > 1):
                happenings.append(NotStarted(point.name, late))
                self.not_started.add(point.name)
                continue
            rule, reason, logs = explain(point)
            logs += tuple(tail(log) for log in info.get("aux_logs") or ())
            happenings.append(self._fail(point.name, rule, reason, now - point.started, logs))
        return happenings

    def _on_job_error(self, info: dict[str, Any], now: float) -> list[Happening]:
        job = self._others.pop(info["jobid"], None)
        if job is None:
            return []  # A member of a group, whose group error has told it already.
        logs = tuple(tail(log) for log in info.get("log") or ())
        reason = next((log.lines[-1] for log in logs if log.lines), "") if job.culprit else ""
        return [self._fail(job.point, job.rule, reason, now - job.started, logs)]

    def _fail(self, point: str, rule: str, reason: str, seconds: float, logs: tuple[LogTail, ...]) -> Failed:
        ended = self.snapshot().ended + bool(point)
        failed = Failed(point, rule, reason, seconds, ended, self.total, logs)
        if point:
            self.failed[point] = failed
        else:
            self.failed_jobs.append(failed)
        return failed
