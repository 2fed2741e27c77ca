"""What a reader must know before trusting the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from simai_rules.analysis.environment import Environment
from simai_rules.analysis.grid import exchanged, grids
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.units import listing
from simai_rules.config.messages import counted

FEWEST_REPEATS = 6
FARTHEST_OFF = 0.02
"""Of a run_time: how far the mean of a component's iterations may be off it."""
FEWEST_TRANSFERS = 20


def find_warnings(results: Sequence[PointResult], environment: Environment, others: int) -> list[str]:
    """Return the warnings as sentences; `others` is the number of points in the folder that are not expected."""
    found = [
        *_incomplete(results),
        *_bad_reads(results),
        *_discarded(results),
        *_few(results),
        *_off_target(results),
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


def _off_target(results: Sequence[PointResult]) -> list[str]:
    """Compare what kernels and training iterations took with the run_time that the config asks for."""
    off: dict[str, list[float]] = {}
    for result in results:
        targets = _targets(result.settings)
        for row in result.rows:
            target = targets.get((str(row["component"]), str(row["operation"])))
            if target and row["status"] == "ok" and row["mean_s"] and abs(row["mean_s"] / target - 1) > FARTHEST_OFF:
                off.setdefault(str(row["component"]), []).append(row["mean_s"] / target - 1)
    return [
        f"In {counted(len(shares), 'point')} the {component} did not keep its run_time: its iterations were "
        f"{min(shares):+.0%} to {max(shares):+.0%} off. Ranks that share cores, or other programs, do that."
        for component, shares in sorted(off.items())
    ]


def _targets(settings: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the run_time of a single kernel and of a training iteration, where the settings give a plain number."""
    kernels = settings.get("simulation", {}).get("kernels", [])
    times = {
        ("simulation", "compute"): kernels[0].get("run_time") if len(kernels) == 1 else None,
        ("training", "train"): settings.get("training", {}).get("run_time"),
    }
    return {key: float(time) for key, time in times.items() if isinstance(time, int | float)}


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
