"""Why a point failed: its components' own words, and the ends of its log files."""

import json
from collections import deque
from pathlib import Path

from snakemake_logger_plugin_simai.events import Job, LogTail, RunningPoint

TAIL_LINES = 8
TAIL_BYTES = 64 * 1024
SERVICE_PREFIX = "staging_server"


def tail(path: str, lines: int = TAIL_LINES) -> LogTail:
    """Return the last non-empty lines of a log file, reading no more than its last 64 KiB."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return LogTail(path, (f"(cannot be read: {error.strerror})",))
    return LogTail(path, tuple(deque((line.rstrip() for line in text.splitlines() if line.strip()), lines)))


def _first_report(point: RunningPoint) -> tuple[str, str]:
    """Return component and reason of the earliest `failures/<who>.json` of this run of the point, else two blanks.

    Earliest, because a component that lost its peer or its server fails too, only later.
    """
    paths = sorted((point.folder / "failures").glob("*.json")) if point.folder else []
    reports = [report for path in paths if (report := _report(path, point))]
    return min(reports)[1:] if reports else ("", "")


def _report(path: Path, point: RunningPoint) -> tuple[float, str, str] | None:
    """Return time, component and reason of a report of this run of the point; None where the file is none."""
    try:
        report = json.loads(path.read_text())
        found = float(report["time"]), str(report.get("component", "")), str(report["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # Half a report (a full disk) explains nothing; the logs, which are shown anyway, may.
    return found if found[0] >= point.started - 1.0 else None


def _note(point: RunningPoint) -> str:
    note = _report(point.folder / "not_started.json", point) if point.folder else None
    return " ".join(note[2].split()) if note else ""


def not_started(point: RunningPoint, *, packed: bool) -> str:
    """Return why the point was not started, in one line; blank where it was.

    For want of walltime: it says so in a note of its own. packed: the submission may have ended before its turn.
    """
    if note := _note(point):
        return note
    begun = _first_report(point)[1] or any(job.culprit for job in point.jobs.values())
    if packed and not begun and not any(Path(log).exists() for job in point.jobs.values() for log in job.logs):
        return "not started: its submission ended before"
    return ""


def finished(point: RunningPoint) -> bool:
    """Say whether all that the point's jobs make is there and nobody has failed: a pack fails as a whole otherwise."""
    made = [Path(name) for job in point.jobs.values() if SERVICE_PREFIX not in job.rule for name in job.outputs]
    return bool(made) and all(path.exists() for path in made) and not (_first_report(point)[1] or _note(point))


def _is(component: str, job: Job) -> bool:
    return bool(component) and (component in job.rule or (component == "server" and SERVICE_PREFIX in job.rule))


def explain(point: RunningPoint) -> tuple[str, str, tuple[LogTail, ...]]:
    """Return the rule that failed first, the reason in one line (blank: unknown), and the log files to look at.

    The logs of the failed rule, or of all the point's rules where nobody can say which one it was.
    """
    component, reason = _first_report(point)
    jobs = sorted(point.jobs.values(), key=lambda job: job.rule)
    blamed = [job for job in jobs if _is(component, job)] or [job for job in jobs if job.culprit]
    logs = tuple(tail(log) for job in blamed or jobs for log in job.logs)
    if not reason and blamed:
        reason = next((log.lines[-1] for log in logs if log.lines), "")
    rule = blamed[0].rule if blamed else " or ".join(job.rule for job in jobs)
    return rule, " ".join(reason.split()), logs
