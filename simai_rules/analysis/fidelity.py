"""Whether kernels, training and inference took the time that the config asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simai_rules.analysis.results import PointResult
from simai_rules.analysis.summary import Row
from simai_rules.analysis.units import listing
from simai_rules.config.distributions import Distribution
from simai_rules.config.kernels import COMM, SHARED_FILE
from simai_rules.config.messages import counted
from simai_rules.config.moments import moments

FARTHEST_OFF = 0.02
"""Of a run_time: how far the mean may be off it, beside what chance makes of drawn times."""
_CHANCE = 3.0
"""Standard errors of the mean."""


@dataclass(frozen=True)
class Target:
    """A run_time in seconds per iteration: mean and standard deviation; on the slowest rank, where ranks differ."""

    mean: float
    std: float
    of_slowest: bool = False

    def off(self, row: Row) -> float | None:
        """Return by which share a row of the summary is off it; None where that is near enough, or not measured."""
        mean = row["max_rank_mean_s"] if self.of_slowest else row["mean_s"]
        if not mean:
            return None
        # Ranks may draw the same times: only the iterations of one of them count as independent.
        by_chance = _CHANCE * self.std / self.mean / math.sqrt(row["count"] / row["ranks"])
        share = float(mean) / self.mean - 1
        return share if abs(share) > FARTHEST_OFF + by_chance else None


def off_target(results: Sequence[PointResult]) -> list[str]:
    """Return a sentence that names the kernels and components that did not last as long as their run_time says."""
    off: dict[str, list[float]] = {}
    for result in (each for each in results if each.state == "done"):
        wanted = targets(result.settings)
        for row in result.rows:
            key = (str(row["component"]), str(row["operation"]), str(row["kernel"]))
            target = wanted.get(key) if row["status"] == "ok" and not row["variant"] else None
            share = target.off(row) if target else None
            if share is not None:
                off.setdefault(f"{key[0]}'s {key[2]}" if key[2] else key[0], []).append(share)
    parts = [
        f"the {name} in {counted(len(shares), 'point')} ({_range(min(shares), max(shares))} off)"
        for name, shares in sorted(off.items())
    ]
    if not parts:
        return []
    return [
        f"Iterations did not keep their run_time: {listing(parts)}. Ranks that share cores, or other programs, do that."
    ]


def _range(least: float, most: float) -> str:
    low, high = f"{least:+.0%}", f"{most:+.0%}"
    return low if low == high else f"{low} to {high}"


def targets(settings: Mapping[str, Any]) -> dict[tuple[str, str, str], Target]:
    """Return what a point's settings ask for, by component, operation and kernel ("" for training and inference).

    A kernel that stands in several places with different times has none: its events do not say where they come from.
    Neither have kernels whose ranks' factors are drawn.
    """
    found = {("simulation", "compute", name): target for name, target in _of_kernels(settings.get("simulation") or {})}
    for component, task in (("training", "train"), ("inference", "infer")):
        config = settings.get(component) or {}
        mean_and_std = _moments(config.get("run_time"))
        if mean_and_std:
            found[component, str(config.get("task", task)), ""] = Target(*mean_and_std)
    return found


def _of_kernels(simulation: Mapping[str, Any]) -> Iterator[tuple[str, Target]]:
    places = [
        *simulation.get("kernels", []),
        *(kernel for branch in simulation.get("mix", []) for kernel in branch.get("kernels", [])),
        *(simulation.get("checkpoint") or {}).get("kernels", []),
    ]
    for name in dict.fromkeys(str(kernel["name"]) for kernel in places):
        times = [kernel.get("run_time") for kernel in places if kernel["name"] == name]
        mean_and_std = _moments(times[0]) if all(time == times[0] for time in times) else None
        imbalance = simulation.get("imbalance", 1.0)
        factor = _factor(name, imbalance)
        if mean_and_std and factor:
            mean, std = mean_and_std
            apart = isinstance(imbalance, list) and factor != 1.0
            yield name, Target(mean * factor, std * factor, of_slowest=apart)


def _factor(name: str, imbalance: Any) -> float | None:
    """Return the factor of the slowest rank on the run times of a kernel; None where the settings do not say it."""
    if name in COMM | SHARED_FILE or imbalance == 1.0:
        return 1.0
    if ":" in name:  # whether the ranks run it together, and so without a factor, only the kernel itself says
        return None
    if isinstance(imbalance, list):
        return float(max(imbalance))
    return float(imbalance) if isinstance(imbalance, int | float) else None


def _moments(time: Any) -> tuple[float, float] | None:
    """Return mean and standard deviation of a run_time as settings have it; None where there is none."""
    from pydantic import TypeAdapter, ValidationError

    if time is None:
        return None
    try:
        return moments(TypeAdapter(Distribution).validate_python(time))
    except (ValidationError, TypeError):  # of another version of simai-rules
        return None
