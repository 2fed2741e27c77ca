"""The words of the display: the same in a terminal and in a log."""

from snakemake_logger_plugin_simai.events import Failed, Happening, JobDone, NotStarted, PointDone, Started
from snakemake_logger_plugin_simai.state import RunState

LOGS_NAMED = 3


def duration(seconds: float) -> str:
    """Return seconds as people say them: `7.3 s`, `1 min 24 s`, `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, word: str) -> str:
    """Return `1 point`, `2 points`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def headline(happening: Happening) -> str:
    """Return the one line that says what happened."""
    match happening:
        case Started(points=0, others=others):
            return f"{plural(others, 'job')} to do, no point to run"
        case Started(points=points):
            return f"{plural(points, 'point')} to run"
        case PointDone():
            left = f", {duration(happening.left)} left" if happening.left and happening.left >= 1 else ""
            return f"[{happening.ended}/{happening.total}] done {happening.point} {duration(happening.seconds)}{left}"
        case JobDone():
            return f"done {happening.rule} {duration(happening.seconds)}"
        case NotStarted(point=point, reason=reason):
            return f"{point} {reason}"
        case Failed():
            who = f"[{happening.ended}/{happening.total}] FAILED {happening.point}" if happening.point else "FAILED"
            why = f": {happening.reason}" if happening.reason else ""
            return f"{who} in {happening.rule} after {duration(happening.seconds)}{why}"


def details(happening: Happening) -> list[str]:
    """Return the lines below the headline: for a failure each log file with its last lines."""
    if not isinstance(happening, Failed):
        return []
    lines = []
    for log in happening.logs:
        lines.append(f"  log: {log.path}" + ("" if log.lines else " (empty)"))
        lines.extend(f"    | {line}" for line in log.lines)
    return lines


def summary(state: RunState, now: float) -> str:
    """Return the last line of a run: points done, failed and not run, the time, and the logs of what failed."""
    counts = state.snapshot()
    failures = [*state.failed.values(), *state.failed_jobs]
    if state.total:
        parts = [f"{counts.done} of {plural(state.total, 'point')} done", f"{counts.failed} failed"]
        if state.total > counts.ended:
            parts.append(f"{state.total - counts.ended} not finished")
    else:
        parts = [f"{plural(state.jobs_done, 'job')} done"]
    parts += [f"{failure.rule} failed" for failure in state.failed_jobs]
    text = f"{', '.join(parts)} in {duration(now - (state.began or now))}"
    logs = [failure.logs[0].path for failure in failures if failure.logs]
    if logs:
        more = f" and {len(logs) - LOGS_NAMED} more, named above" if len(logs) > LOGS_NAMED else ""
        text += f". Logs of what failed: {', '.join(logs[:LOGS_NAMED])}{more}"
    return text
