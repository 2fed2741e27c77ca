"""Which backend to take at which message size, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simai_rules.analysis.grid import Grid
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.statistics import Estimate, median_over_repeats
from simai_rules.analysis.units import size_text


@dataclass(frozen=True)
class Verdict:
    """The backends at one message size, the fastest exchange first.

    `ranking` holds (backend, seconds of an exchange), where an exchange is the median write and the median read;
    `level` the backends whose interval overlaps that of the first, itself included.
    """

    size: int
    ranking: list[tuple[str, Estimate]]
    without: list[str]
    """Backends with no result at this size."""
    asides: dict[str, float]
    """Mean seconds per snapshot that looking for data (polls) and deleting it take, both sides together."""
    dropped: dict[str, float]
    """The share of the snapshots that found a stream's queue full and were dropped; the times are those of the rest."""

    @property
    def dropping(self) -> list[str]:
        """The backends that dropped snapshots, each with how many."""
        return [f"{name} ({100 * share:.3g} %)" for name, share in sorted(self.dropped.items()) if share]

    @property
    def outweighed(self) -> list[str]:
        """The backends on which polls and deletes take longer than the transfers themselves."""
        return [name for name, estimate in self.ranking if self.asides[name] > estimate.value]

    @property
    def level(self) -> list[str]:
        """The first backend and those that cannot be told apart from it."""
        best = self.ranking[0][1]
        return [name for name, estimate in self.ranking if estimate.overlaps(best)]

    @property
    def slower(self) -> list[str]:
        """The backends that are clearly slower than the first, the fastest of them first."""
        return [name for name, _ in self.ranking if name not in self.level]

    @property
    def factor(self) -> float | None:
        """How many times longer the first clearly slower backend takes; None where there is none."""
        return dict(self.ranking)[self.slower[0]].value / self.ranking[0][1].value if self.slower else None

    @property
    def text(self) -> str:
        """The verdict in words, without the times."""
        best = self.ranking[0][0]
        lacking = f"; snapshots dropped: {', '.join(self.dropping)}" if self.dropping else ""
        lacking += f" (no result: {', '.join(self.without)})" if self.without else ""
        if len(self.ranking) == 1:
            return f"only {best} has results{lacking}"
        clear = f"; {self.slower[0]} takes {_number(self.factor)} times as long" if self.factor else ""
        if len(self.level) > 1:
            return f"no clear difference between {_and(sorted(self.level))}{clear}{lacking}"
        return f"{best} is fastest{clear}{lacking}"


def _number(factor: float) -> str:
    return f"{factor:.2f}" if factor < 1.1 else f"{factor:.1f}" if factor < 10 else f"{factor:.0f}"


def verdicts(grid: Grid) -> list[Verdict]:
    """Compare the backends at every message size of which at least one backend has results."""
    found = []
    for size in grid.sizes:
        ranking, without, asides, dropped = [], [], {}, {}
        for backend in grid.backends:
            done = grid.done(size, backend)
            samples = [result.samples for result in done if result.samples]
            if samples:
                repeats = [[each.write.seconds, each.read.seconds] for each in samples]
                ranking.append((backend, median_over_repeats(repeats)))
                asides[backend] = sum(each.parts["poll and delete"] for each in samples) / len(samples)
                dropped[backend] = _dropped(done)
            else:
                without.append(backend)
        if ranking:
            found.append(Verdict(size, sorted(ranking, key=lambda item: item[1].value), without, asides, dropped))
    return found


def _dropped(results: Sequence[PointResult]) -> float:
    """Return the share of the measured snapshots that a stream dropped."""
    writes = [row for result in results for row in result.rows if row["operation"] == "write"]
    total = sum(row["count"] for row in writes)
    return sum(row["count"] for row in writes if row["status"] == "discarded") / total if total else 0.0


def headline(found: Sequence[Verdict]) -> str:
    """Say in a few sentences which backend writes and reads fastest at which size, and what that leaves out."""
    compared = [verdict for verdict in found if len(verdict.ranking) > 1]
    if not found:
        return "No recommendation yet: no point has measured transfers."
    if not compared:
        return f"No comparison yet: only {', '.join(sorted({v.ranking[0][0] for v in found}))} has results."
    groups: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in compared:
        groups.setdefault(tuple(sorted(verdict.level)), []).append(verdict)
    sentences = []
    for level, members in sorted(groups.items(), key=lambda item: (len(item[0]) > 1, -len(item[1]))):
        everywhere = len(groups) == 1 and len(members) > 1
        sizes = [size_text(verdict.size) for verdict in members]
        number = "both" if len(members) == 2 else f"all {len(members)}"
        where = f"{number} message sizes compared" if everywhere else _and(sizes)
        if len(level) == 1:
            sentences.append(f"{level[0]} writes and reads fastest at {where}{_behind(members)}.")
        else:
            sentences.append(f"No clear difference between {_and(list(level))} at {where}{_behind(members)}.")
    return " ".join([*sentences, *_left_out(found)])


def _left_out(found: Sequence[Verdict]) -> list[str]:
    """Say which snapshots are in no time, where polls and deletes cost more, and which backends have no result."""
    parts = {
        "Dropped snapshots, which are in none of these times: ": _where(found, "dropping"),
        "Looking for data and deleting it takes longer than the transfers themselves: ": _where(found, "outweighed"),
        "No result: ": _where(found, "without"),
    }
    return [f"{start}{places}." for start, places in parts.items() if places]


def _where(found: Sequence[Verdict], what: str) -> str:
    """Return `redis at 4 KB and 40 KB; node-local at 4 KB` for the backends in `what` of the verdicts."""
    sizes: dict[str, list[str]] = {}
    for verdict in found:
        for name in getattr(verdict, what):
            sizes.setdefault(name, []).append(size_text(verdict.size))
    names: dict[tuple[str, ...], list[str]] = {}
    for name, where in sorted(sizes.items()):
        names.setdefault(tuple(where), []).append(name)
    return "; ".join(f"{_and(group)} at {_and(list(where))}" for where, group in names.items())


def _behind(members: Sequence[Verdict]) -> str:
    """Say how far the next backend is behind: `; the next, redis, takes 1.6 to 1.8 times as long`."""
    factors = sorted(verdict.factor for verdict in members if verdict.factor)
    nexts = {verdict.slower[0] for verdict in members if verdict.slower}
    if not factors:
        return ""
    name = f"the next, {nexts.pop()}," if len(nexts) == 1 else "the next"
    least, most = _number(factors[0]), _number(factors[-1])
    return f"; {name} takes {least if least == most else f'{least} to {most}'} times as long"


def _and(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
