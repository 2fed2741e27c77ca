"""What a reader must know before trusting the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simai_rules.analysis.environment import Environment
from simai_rules.analysis.fidelity import off_target
from simai_rules.analysis.grid import exchanged, grids
from simai_rules.analysis.kernels import slowed_kernels
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.units import listing
from simai_rules.config.messages import counted

FEWEST_REPEATS = 6
FEWEST_TRANSFERS = 20


def find_warnings(results: Sequence[PointResult], environment: Environment, others: int) -> list[str]:
    """Return the warnings as sentences; `others` is the number of points in the folder that are not expected."""
    found = [
        *_incomplete(results),
        *_bad_reads(results),
        *_discarded(results),
        *_few(results),
        *off_target(results),
        *slowed_kernels(results),
        *_machine(results, environment),
    ]
    outdated = [result.path for result in results if result.outdated]
    if outdated:
        found.append(
            f"{counted(len(outdated), 'point')} ran with another config than today's, and will run again: "
            f"{listing(outdated, 3)}."
        )
    if others:
        found.append(f"Left out: {counted(others, 'point')} in this folder, not part of the config.")
    return found


def _incomplete(results: Sequence[PointResult]) -> list[str]:
    counts = Counter(result.state for result in results)
    texts = {"failed": counts["failed"], "not there yet": counts["missing"]}
    parts = [f"{count} {text}" for text, count in texts.items() if count]
    if not parts:
        return []
    whole = f"of {counted(len(results), 'point')}, {' and '.join(parts)}"
    return [f"Incomplete: {whole}. The list is under Completeness; these points are in no number here."]


def _bad_reads(results: Sequence[PointResult]) -> list[str]:
    found = []
    meanings = {"stale": "returned the data of another rank or step", "torn": "returned damaged data"}
    for status, meaning in meanings.items():
        rows = [row for result in results for row in result.rows if row["status"] == status]
        total = sum(row["count"] + row["warmup_count"] for row in rows)
        if total:
            backends = sorted({str(row["backend"]) for row in rows})
            found.append(
                f"{counted(total, 'read')} {meaning} ({status}; {', '.join(backends)}). Do not trust it as is."
            )
    return found


def _discarded(results: Sequence[PointResult]) -> list[str]:
    rows = [row for result in results for row in result.rows if row["status"] == "discarded"]
    total = sum(row["count"] + row["warmup_count"] for row in rows)
    if not total:
        return []
    backends = ", ".join(sorted({str(row["backend"]) for row in rows}))
    return [
        f"{counted(total, 'snapshot')} found a full queue and {'was' if total == 1 else 'were'} dropped (discarded; "
        f"{backends}); the training learned from the others alone. With queue_policy: block, none is dropped."
    ]


def _few(results: Sequence[PointResult]) -> list[str]:
    cells = {
        (grid.label, *cell): grid.done(*cell) for grid in grids(results) for cell in grid.cells if grid.done(*cell)
    }
    fewest = min((len(done) for done in cells.values()), default=FEWEST_REPEATS)
    found = []
    if fewest < FEWEST_REPEATS:
        which = "Some" if max(len(done) for done in cells.values()) >= FEWEST_REPEATS else "The"
        found.append(
            f"{which} results rest on {counted(fewest, 'repeat')} only, so the intervals are rough: the range of "
            f"{counted(fewest, 'run')} holds the true median in {1 - 2 * 0.5**fewest:.0%} of all cases. From "
            f"{FEWEST_REPEATS} repeats on it is more than 95 %."
        )
    few = [
        result.path
        for done in cells.values()
        for result in done
        if result.samples and len(result.samples.read.seconds) < FEWEST_TRANSFERS
    ]
    if few:
        found.append(
            f"{counted(len(few), 'point')} measured fewer than {FEWEST_TRANSFERS} reads after the warm-up: their "
            "percentiles say little. Run more iterations."
        )
    idle = [result.path for result in results if result.state == "done" and not exchanged(result)]
    if idle:
        found.append(
            f"{counted(len(idle), 'point')} exchanged nothing after the warm-up ({listing(idle, 3)}): run more "
            "iterations, or lower warmup."
        )
    return found


def _machine(results: Sequence[PointResult], environment: Environment) -> list[str]:
    found = []
    done = sum(result.state == "done" for result in results)
    if environment.shared_cores:
        every = "every point" if len(environment.shared_cores) == done else f"{len(environment.shared_cores)} points"
        found.append(
            f"Ranks shared cores in {every}: times include waiting for a core, so differences between backends may "
            "come from the scheduler. Give each rank a core of its own (fewer ranks or more cores)."
        )
    if environment.not_as_placed:
        first = next(iter(environment.not_as_placed.values()))[0]
        found.append(
            f"In {counted(len(environment.not_as_placed), 'point')} ranks did not run on the cores or GPUs that they "
            f"were placed on, such as {first}. The capsules name all of them (differs)."
        )
    if environment.without:
        found.append(f"Without a capsule: {counted(len(environment.without), 'point')}. What was run on is not known.")
    telling = [item for item in environment.different if item != "nodes"]
    if telling:
        found.append(f"Points did not all run on the same ground; see Environment: {listing(telling, 6)}.")
    return found
