"""The state of a run in points, from log records like Snakemake's."""

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import snakemake_logger_plugin_simai as plugin
from snakemake_logger_plugin_simai.display import PlainDisplay
from snakemake_logger_plugin_simai.events import Failed, JobDone, NotStarted, PointDone, Started
from snakemake_logger_plugin_simai.failure import TAIL_LINES, tail
from snakemake_logger_plugin_simai.state import RunState, Snapshot
from snakemake_logger_plugin_simai.text import duration, headline, summary

RULES = ("simulation", "staging_server_redis", "training")
BEGAN = 1_000_000.0


def record(event: str | None, created: float = 0.0, msg: str = "", level: int = logging.INFO, **fields: Any):
    made = logging.LogRecord("snakemake", level, "", 0, msg, (), None)
    made.created = BEGAN + created
    if event:
        made.event = event
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def begin(state: RunState, points: int) -> None:
    stats = dict.fromkeys(RULES, points) | {"summarize": 1, "total": 3 * points + 1}
    assert state.update(record("run_info", stats=stats)) == [Started(points, 3 * points + 1)]


def start(state: RunState, point: str, first: int, at: float, folder: str = "results") -> None:
    state.update(record("group_info", at, group_id="g", jobs=()))
    for number, rule in enumerate(RULES, first):
        state.update(
            record(
                "job_info",
                at,
                jobid=number,
                rule_name=rule,
                wildcards={"point": point},
                indent=True,
                log=[f"{folder}/{point}/logs/{rule}.log"],
                shellcmd=f"exec simai-rules {rule}\n  {point}",
            )
        )


def finish(state: RunState, first: int, at: float) -> list:
    return [h for number in range(first, first + 3) for h in state.update(record("job_finished", at, job_id=number))]


def fail(state: RunState, first: int, at: float) -> list:
    info = [{"jobid": number, "log": []} for number in range(first, first + 3)]
    return state.update(record("group_error", at, job_error_info=info, aux_logs=[]))


def test_a_point_is_done_when_all_its_jobs_are() -> None:
    state = RunState()
    begin(state, 4)
    start(state, "a/repeat~0", 1, 10)
    assert state.update(record("job_finished", 12, job_id=1)) == []
    assert state.snapshot().running == (("a/repeat~0", BEGAN + 10),)
    assert finish(state, 1, 20) == [PointDone("a/repeat~0", 10.0, 1, 4, 30.0)]
    assert state.snapshot().left == 3


def test_time_left_counts_points_at_once_and_what_runs_already() -> None:
    state = Snapshot(total=9, done=2, failed=1, running=(("a", 100.0), ("b", 104.0)), mean=10.0, peak=2)
    assert state.left == 4
    # 6 points of 10 s, of which 6 s and 2 s are behind, two at once
    assert state.time_left(106.0) == pytest.approx((60 - 8) / 2)
    assert Snapshot(total=9).time_left(0.0) is None
    assert Snapshot(total=9, done=9, mean=3.0).time_left(0.0) is None


def test_the_earliest_report_names_the_cause(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "repeat~0"
    (folder / "failures").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "logs" / "staging_server_redis.log").write_text("up\nredis-server ended: out of memory\n")
    for who, when, why in (
        ("training", 6, "the server is gone"),
        ("server", 5, "redis-server ended"),
        ("simulation", -900, "of an earlier run"),
    ):
        report = {"component": who, "reason": why, "time": BEGAN + when}
        (folder / "failures" / f"{who}.json").write_text(json.dumps(report))
    (folder / "failures" / "half.json").write_text('{"component": "tr')
    state = RunState()
    begin(state, 2)
    start(state, "a/repeat~0", 1, 1, str(tmp_path))
    assert state.blame("RuleException:\nCalledProcessError\nCommand 'set; exec simai-rules training a/repeat~0' ...")
    (failed,) = fail(state, 1, 8)
    assert isinstance(failed, Failed)
    assert (failed.rule, failed.reason, failed.seconds) == ("staging_server_redis", "redis-server ended", 7.0)
    assert [log.lines for log in failed.logs] == [("up", "redis-server ended: out of memory")]
    assert state.snapshot().failed == 1


def test_without_a_report_all_logs_are_named() -> None:
    state = RunState()
    begin(state, 1)
    start(state, "a", 1, 0, "/nowhere")
    (failed,) = fail(state, 1, 8)
    assert failed.rule == "simulation or staging_server_redis or training"
    assert len(failed.logs) == 3
    assert all("cannot be read: No such file" in log.lines[0] for log in failed.logs)


def test_a_retry_takes_the_failure_back() -> None:
    state = RunState()
    begin(state, 1)
    start(state, "a", 1, 0)
    fail(state, 1, 5)
    start(state, "a", 1, 6)
    assert (state.snapshot().failed, len(state.snapshot().running)) == (0, 1)
    assert finish(state, 1, 8) == [PointDone("a", 2.0, 1, 1, None)]


def test_a_failed_submission_of_several_points_fails_each_that_was_running(tmp_path: Path) -> None:
    state = RunState()
    begin(state, 3)
    for first, point in ((1, "a"), (4, "b")):
        (tmp_path / point / "logs").mkdir(parents=True)
        (tmp_path / point / "logs" / "training.log").touch()
        start(state, point, first, 0, str(tmp_path))
    info = [{"jobid": number, "log": []} for number in range(1, 7)]
    happenings = state.update(record("group_error", 9, job_error_info=info, aux_logs=[]))
    assert [(type(h), h.point) for h in happenings] == [(Failed, "a"), (Failed, "b")]
    assert [h.ended for h in happenings] == [1, 2]


def test_of_a_pack_that_failed_the_points_that_had_finished_are_done(tmp_path: Path) -> None:
    """Snakemake reports the failure of the submission; results that are there stay, and one was not even started."""
    state = RunState()
    begin(state, 3)
    for number, name in enumerate(("done", "bad", "late")):
        folder = tmp_path / name
        folder.mkdir()
        for rule in RULES:
            info = {"jobid": 3 * number + RULES.index(rule), "rule_name": rule, "wildcards": {"point": name}}
            info |= {"indent": True, "log": [str(folder / f"logs/{rule}.log")], "output": [str(folder / f"{rule}.out")]}
            state.update(record("job_info", 0, shellcmd=rule, **info))
    for rule in ("simulation", "training"):  # the server's file is removed when it has ended
        (tmp_path / f"done/{rule}.out").touch()
        (tmp_path / f"late/{rule}.out").touch()  # of an earlier run
    (tmp_path / "late/not_started.json").write_text(json.dumps({"reason": "not started: no time", "time": BEGAN + 5}))
    info = [{"jobid": number, "log": []} for number in range(9)]
    done, bad, late = state.update(record("group_error", 9, job_error_info=info, aux_logs=[]))
    assert done == PointDone("done", 9.0, 1, 3, None)
    assert bad == NotStarted("bad", "not started: its submission ended before")
    assert headline(late) == "late not started: no time"
    assert (state.snapshot().done, state.snapshot().failed) == (1, 0)
    assert summary(state, BEGAN + 9).startswith("1 of 3 points done, 0 failed, 2 not finished in")


def test_jobs_outside_the_points() -> None:
    state = RunState()
    begin(state, 1)
    base = {"wildcards": {}, "indent": False, "log": []}
    state.update(record("job_info", 1, jobid=7, rule_name="summarize", shellcmd="simai-rules summarize", **base))
    state.update(record("job_info", 1, jobid=8, rule_name="all", shellcmd=None, **base))
    assert state.snapshot().others == ("summarize",)
    assert state.update(record("job_finished", 3, job_id=7)) == [JobDone("summarize", 2.0)]
    assert state.update(record("job_finished", 3, job_id=8)) == []
    state.update(record("job_info", 4, jobid=9, rule_name="plot", shellcmd="simai-rules plot", **base))
    (failed,) = state.update(record("job_error", 6, jobid=9, log=[]))
    assert headline(failed) == "FAILED in plot after 2.0 s"
    assert "plot failed in 6.0 s" in summary(state, BEGAN + 6)


def test_tail_reads_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 1_000_000 + b"\n\xff noise\n\n" + b"".join(b"line %d\n" % n for n in range(20)))
    assert tail(str(log)).lines == tuple(f"line {n}" for n in range(20 - TAIL_LINES, 20))


@given(st.floats(min_value=0, max_value=1e6))
def test_durations_have_no_overflowing_parts(seconds: float) -> None:
    parts = duration(seconds).split()
    values = dict(zip(parts[1::2], map(float, parts[::2]), strict=True))
    assert values.get("s", 0) < 60
    assert values.get("min", 0) < 60
    unit = {"h": 3600, "min": 60, "s": 1}
    assert sum(value * unit[name] for name, value in values.items()) == pytest.approx(seconds, abs=31)


def test_a_broken_display_leaves_the_run_to_snakemakes_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    settings = SimpleNamespace(
        dryrun=False, verbose=False, debug_dag=False, quiet=None, nocolor=True, stdout=False, printshellcmds=False
    )
    handler = plugin.LogHandler(settings, None)
    handler.handle(record("run_info", stats={"staging_server_a": 1, "total": 4}))
    monkeypatch.setattr(PlainDisplay, "show", lambda *_: 1 / 0)
    handler.handle(record("job_info", 0, jobid=1, rule_name="a", wildcards={}, indent=False, log=[], shellcmd="true"))
    handler.handle(record("job_finished", 1, job_id=1, msg="Finished jobid: 1"))
    handler.handle(record(None, 2, "something important", logging.ERROR))
    handler.close()
    shown = stderr.getvalue().splitlines()
    assert shown[0] == "1 point to run"
    assert shown[1].startswith("simai-rules: the progress display failed: ZeroDivisionError")
    assert shown[2:] == ["Finished jobid: 1", "something important"]
