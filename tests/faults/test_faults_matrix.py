"""Every fault on every backend: the others say why and end, nothing is left, and the next snakemake completes.

`make test` runs all faults on redis and two on each other backend, several in a row in one experiment, where the run
after a fault is the one that the next fault happens to. `make faults` runs each alone and writes docs/reliability.md.
"""

import csv
import time

import pytest
from fault_case import PATIENCE, PROMISE_S, Case, Subject, matches, merged
from fault_list import FAULTS, NOT_BY_KEY, SLOW_READER, Fault
from fault_subjects import SUBJECTS, lacks

from simai_rules.events.store import read_events
from simai_rules.launch.launcher import find_program

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'"),
]


def skip_unless_possible(traces, subject: Subject, fault: Fault) -> None:
    for reason in (lacks(subject), "" if traces.room or not fault.needs_room else "no mount namespace can be made"):
        if reason:
            pytest.skip(reason)


def inflict(case: Case, fault: Fault) -> float:
    """Start a run, let the fault happen, and check what has to hold; return the seconds until all was gone."""
    case.configure(fault.changes)
    fault.prepare(case)
    begin = time.time()
    if fault.when == "before":
        fault.do(case)
    case.start(**fault.environment(case))
    if fault.when == "ready":
        case.wait_for("ready")
    elif fault.when == "coupled":
        case.wait_until_coupled()
    case.traces.note_segments()
    if fault.when != "before":
        begin = time.time()
        fault.do(case)
    if fault.later or fault.when == "before":
        deadline = time.monotonic() + 120
        while not case.noticed() and time.monotonic() < deadline:
            time.sleep(0.01)
        begin = max(begin, case.noticed() or time.time())
    if fault.nobody_left:
        case.snakemake.communicate(timeout=60)
        deadline = time.monotonic() + PROMISE_S
        while case.traces.pids() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert case.traces.processes() == []
        assert case.snakemake.returncode != 0
        return time.time() - begin
    left = case.wait_until_gone(PROMISE_S * PATIENCE)
    seconds = time.time() - begin
    output, _ = case.snakemake.communicate(timeout=60)
    assert left == [], f"left: {left}\n{output}"
    assert case.snakemake.returncode != 0, output
    assert not (case.seen(case.point) / "training.parquet").exists()
    if fault.when == "coupled":
        assert case.silent() == [], f"these did not say why they ended\n{case.reasons()}\n{output}\n{case.logs()}"
    # What keeps a point from starting may keep its parts from saying so; then snakemake does.
    said = case.cause() or (output if fault.when == "before" else "")
    assert matches(fault.says, said), f"{fault.says!r} is not in {said!r}\n{case.reasons()}\n{output}\n{case.logs()}"
    if case.snakemake.returncode > 0:
        assert matches(fault.says, output), output
    for part, (_, reason) in case.reasons().items():
        # Who did not see the cause was killed by snakemake, which ends all jobs of a point together.
        seen = said in reason or matches(fault.says, reason)
        assert seen or matches(r"was killed|was ended by SIG|ended by SIG", reason), f"{part}: {reason}"
    case.undo.close()
    return seconds


def survive(traces, folder, record_property, subject: Subject, faults: list[Fault]) -> None:
    """Let `faults` happen, each to the run after the one before, and complete the last; note each one's seconds."""
    case = Case(subject, traces, folder)
    for fault in faults:
        cell = f"{fault.name} | {subject.backend}"
        record_property(cell, "FAILED")
        seconds = [inflict(case, fault) for _ in range(fault.times)]
        record_property(cell, "removed by the next run" if fault.nobody_left else f"{max(seconds):.1f} s")
    case.finish()
    assert case.wait_until_gone(PROMISE_S * PATIENCE) == []


@pytest.mark.faults
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.backend)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(traces, tmp_path, record_property, subject, fault):
    if why := fault.not_for(subject):
        record_property(f"{fault.name} | {subject.backend}", f"not applicable: {subject.backend} {why}")
        pytest.skip(f"not applicable: {subject.backend} {why}")
    skip_unless_possible(traces, subject, fault)
    survive(traces, tmp_path / "e", record_property, subject, [fault])


def rows() -> list:
    """The cases of `make test`: most faults on redis, some in a row; elsewhere the server's end, or a rank's."""
    chosen = []
    for subject in SUBJECTS:
        possible = [fault for fault in FAULTS if not fault.not_for(subject)]
        if subject.backend == "redis":
            often = [fault for fault in possible if fault.often]
            # Where no room can be made, those that need one are skipped, and no other with them.
            anywhere = [fault for fault in often if not fault.needs_room]
            parts = [anywhere[first : first + 5] for first in range(0, len(anywhere), 5)]
            parts += [[fault] for fault in often if fault.needs_room]
            chosen += [pytest.param(subject, part, id=f"redis-{n}") for n, part in enumerate(parts, 1)]
        elif subject.backend != "dragon":  # its runtime needs a core for itself: make faults
            name = "SIGKILL: server" if subject.server[0] else "SIGKILL: a simulation rank"
            part = [fault for fault in possible if fault.name == name]
            chosen.append(pytest.param(subject, part, id=subject.backend))
    return chosen


@pytest.mark.parametrize(("subject", "faults"), rows())
def test_one_fault_after_another(traces, tmp_path, record_property, subject, faults):
    for fault in faults:
        skip_unless_possible(traces, subject, fault)
    survive(traces, tmp_path / "e", record_property, subject, faults)


FLIPPED = "a flipped byte in a value's data"


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(subject, id=subject.backend, marks=[] if subject.backend == "redis" else pytest.mark.faults)
        for subject in SUBJECTS
    ],
)
def test_a_flipped_byte_is_counted_and_its_value_is_not_used(traces, tmp_path, record_property, subject):
    cell = f"{FLIPPED} | {subject.backend}"
    if not subject.by_key:
        record_property(cell, f"not applicable: {subject.backend} {NOT_BY_KEY}")
        pytest.skip(f"not applicable: {subject.backend} {NOT_BY_KEY}")
    if lacks(subject):
        pytest.skip(lacks(subject))
    record_property(cell, "FAILED")
    case = Case(subject, traces, tmp_path / "e")
    case.configure(merged(SLOW_READER, {"training": {"iterations": 125}}))
    case.start()
    case.wait_until_coupled()
    flipped = set(case.client("flip"))
    assert flipped
    output, _ = case.snakemake.communicate(timeout=200)
    assert case.snakemake.returncode == 0, output
    assert case.left() == []
    events = read_events(case.point / "training.parquet").to_pylist()
    reads = [event for event in events if event["operation"] == "read"]
    assert {event["key"] for event in reads if event["status"] == "torn"} == flipped
    assert all(event["status"] in ("ok", "torn") for event in reads)
    code, output = case.experiment.run()
    assert code == 0, output
    with (case.experiment.results / "summary.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["operation"] == "read"]
    counted = {row["status"]: int(row["count"]) + int(row["warmup_count"]) for row in rows}
    assert counted == {"ok": len(reads) - len(flipped), "torn": len(flipped)}
    assert "returned damaged data (torn" in (case.experiment.results / "report.html").read_text()
    record_property(cell, "counted as torn, left out, reported")
