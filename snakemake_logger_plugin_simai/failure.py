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
    reports = []
    folder = point.folder
    # A point that was not started, for want of walltime, says so in a note of its own: it has not failed.
    for path in [*sorted((folder / "failures").glob("*.json")), folder / "not_started.json"] if folder else []:
        try:
            report = json.loads(path.read_text())
            reports.append((float(report["time"]), str(report.get("component", "server")), str(report["reason"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # Half a report (a full disk) explains nothing; the logs, which are shown anyway, may.
    current = [report for report in reports if report[0] >= point.started - 1.0]
    return min(current)[1:] if current else ("", "")


def finished(point: RunningPoint) -> bool:
    """Say whether all that the point's jobs make is there and nobody has failed: a pack fails as a whole otherwise."""
    made = [Path(name) for job in point.jobs.values() if SERVICE_PREFIX not in job.rule for name in job.outputs]
    return bool(made) and all(path.exists() for path in made) and not _first_report(point)[1]


def _is(component: str, job: Job) -> bool:
    return bool(component) and (component in job.rule or (component == "server" and SERVICE_PREFIX in job.rule))


def explain(point: RunningPoint, *, packed: bool = False) -> tuple[str, str, tuple[LogTail, ...]]:
    """Return the rule that failed first, the reason in one line (blank: unknown), and the log files to look at.

    The logs of the failed rule, or of all the point's rules where nobody can say which one it was. packed: other points
    were in the same submission, which failed as a whole.
    """
    component, reason = _first_report(point)
    jobs = sorted(point.jobs.values(), key=lambda job: job.rule)
    blamed = [job for job in jobs if _is(component, job)] or [job for job in jobs if job.culprit]
    logs = tuple(tail(log) for job in blamed or jobs for log in job.logs)
    if not reason and blamed:
        reason = next((log.lines[-1] for log in logs if log.lines), "")
    rule = blamed[0].rule if blamed else " or ".join(job.rule for job in jobs)
    if packed and not reason and not blamed and not any(Path(log.path).exists() for log in logs):
        return rule, "it had not begun when its submission ended", ()
    return rule, " ".join(reason.split()), logs
