"""The jobs that a sweep becomes on a machine with a batch system, and whether its queue takes them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from simai_rules.config.estimate import Request, request, seconds_needed
from simai_rules.config.experiment import Point
from simai_rules.config.keys import did_you_mean
from simai_rules.config.messages import counted
from simai_rules.config.profile import GROUP, Profile
from simai_rules.config.system import QueueConfig, SystemConfig


@dataclass(frozen=True)
class Job:
    """One submission: points that run one after another on the nodes of the largest of them."""

    points: int
    nodes: int
    minutes: int

    @property
    def node_hours(self) -> float:
        """What it costs at most."""
        return self.nodes * self.minutes / 60


def jobs_of(points: Iterable[Point], pack: int, min_minutes: int) -> list[Job]:
    """Return the jobs of `points`, `pack` of them in one; those without a walltime are left out.

    min_minutes: the least walltime of a job.

    Snakemake packs in no particular order. Where points differ in size, these are the jobs of the order that asks for
    least; see `worst`.
    """
    asked = sorted(((r.nodes, r.minutes) for r in map(request, points) if r.minutes is not None), reverse=True)
    packs = [asked[start : start + pack] for start in range(0, len(asked), pack)]
    return [Job(len(each), max(n for n, _ in each), max(min_minutes, sum(m for _, m in each))) for each in packs]


def worst(points: Iterable[Point], pack: int, min_minutes: int) -> Job | None:
    """Return the largest job that Snakemake may make of `points`; None where none of them has a walltime."""
    asked: list[Request] = [each for each in map(request, points) if each.minutes is not None]
    if not asked:
        return None
    longest = sorted((each.minutes or 0 for each in asked), reverse=True)[:pack]
    return Job(len(longest), max(each.nodes for each in asked), max(min_minutes, sum(longest)))


def unfit(points: Iterable[Point]) -> list[str]:
    """Return why points cannot be submitted anywhere on their system, each with the remedy."""
    found: list[str] = []
    unknown: list[Point] = []
    short: list[Point] = []
    for point in points:
        minutes, needed = request(point).minutes, seconds_needed(point)
        if minutes is None:
            unknown.append(point)
        elif needed is not None and 60 * minutes < needed:
            short.append(point)
    if unknown:
        found.append(
            f"no walltime can be worked out for {counted(len(unknown), 'point')}, such as {unknown[0].path}, because "
            "the config does not give every run_time. Set 'minutes': the walltime of a point at most"
        )
    if short:
        found.append(
            f"minutes is less than the estimate of {counted(len(short), 'point')}, such as {short[0].path} "
            f"({short[0].minutes} min). Set more, or leave it out"
        )
    return found


def refusals(points: Sequence[Point], profile: Profile, system: SystemConfig) -> list[str]:
    """Return why the batch system would not take the points as they are, each with the remedy."""
    found = unfit(points)
    largest = worst(points, profile.pack, profile.min_minutes)
    if not system.queues or largest is None:
        return found
    if profile.queue not in system.queues:
        known = list(system.queues)
        named = f"{profile.queue!r} is no queue of {system.name}.{did_you_mean(profile.queue or '', known)}"
        found.append(f"{named if profile.queue else 'the profile names no queue.'} There are: {', '.join(known)}")
        return found
    return [*found, *_against_queue(profile, system, points, largest)]


def _against_queue(profile: Profile, system: SystemConfig, points: Sequence[Point], largest: Job) -> Iterator[str]:
    name, queue = profile.queue, system.queues[profile.queue or ""]
    least, most, longest = _limits(system, queue, largest.nodes)
    # Any pack may come to hold small points alone.
    fewest = min(point.nodes for point in points)
    others = [
        other
        for other, each in system.queues.items()
        for low, high, minutes in [_limits(system, each, largest.nodes)]
        if other != name and low <= fewest and largest.nodes <= high and largest.minutes <= minutes
    ]
    elsewhere = f"Queues that take them: {', '.join(others)}" if others else "No queue of this machine takes them"
    if fewest < least:
        yield f"{name} takes jobs from {least} nodes on, and the smallest here has {fewest}. {elsewhere}"
    if largest.nodes > most:
        yield f"{name} takes jobs up to {most} nodes, and the largest here has {largest.nodes}. {elsewhere}"
    if largest.minutes > longest:
        fitting = int(profile.pack * longest // largest.minutes)
        smaller = f"Pack fewer points: at most {fitting} fit. " if profile.pack > 1 and fitting else ""
        yield (
            f"{name} takes jobs up to {longest} minutes, and the longest here has {largest.minutes} "
            f"({counted(largest.points, 'point')}). {smaller}{elsewhere}"
        )
    shortest = min(job.minutes for job in jobs_of(points, profile.pack, profile.min_minutes))
    if shortest < queue.min_minutes:
        yield (
            f"{name} takes jobs from {queue.min_minutes} minutes on, and the shortest here has {shortest}. Set "
            f"{profile.executor}-min-walltime: {queue.min_minutes} in the profile, as 'profile install' does"
        )
    jobs = -(-len(points) // profile.pack)
    at_once = min(jobs, profile.jobs or jobs)
    if queue.max_jobs is not None and at_once > queue.max_jobs:
        wanted, each = -(-len(points) // queue.max_jobs), largest.minutes / largest.points
        one_by_one = f"Submit {'one' if queue.max_jobs == 1 else queue.max_jobs} at a time (jobs: {queue.max_jobs})"
        fitting = wanted if longest == math.inf else min(wanted, max(1, int(longest // each)))
        pack = f"pack the points (group-components: {GROUP}={fitting})"
        yield (
            f"{name} takes {counted(queue.max_jobs, 'job')} per user, queued or running, and {at_once} would be "
            f"submitted. {one_by_one}, {'or' if fitting == wanted else 'and'} {pack}"
        )


def _limits(system: SystemConfig, queue: QueueConfig, nodes: int) -> tuple[int, float, float]:
    """Return the fewest and the most nodes and the longest walltime of `queue`, for jobs of `nodes` nodes.

    A queue that only routes takes what one of the queues behind it takes.
    """
    least, most = queue.min_nodes, queue.max_nodes or math.inf
    longest = queue.max_minutes or math.inf
    routes = [system.queues[name] for name in queue.routes_to if name in system.queues]
    if routes:
        least = max(least, min(route.min_nodes for route in routes))
        most = min(most, max(route.max_nodes or math.inf for route in routes))
        behind = [route for route in routes if route.min_nodes <= nodes <= (route.max_nodes or math.inf)] or routes
        longest = min(longest, max(route.max_minutes or math.inf for route in behind))
    return least, most, longest
