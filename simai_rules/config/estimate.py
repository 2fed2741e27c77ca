"""What a point will take, worked out from its config before anything runs.

With T = training iterations × mean of the training's run_time, t = sum of the means of the kernels' run_time (those of
a mix by their weights, those of a checkpoint by its share, all by the imbalance), and w = write_every, per simulation
rank:

- The training starts when the first snapshot is there, after w·t, and the simulation goes on until the training ends,
  so seconds = start + w·t + T and snapshots = 1 + floor(T / (w·t)), at most max_iterations // w.
- bytes moved = snapshots × elements × bytes per element × simulation ranks × 2 (each is written and read once).

Staging, start-up and waiting for cores come on top, so the seconds are a lower bound. Where a run time is not given (an
iteration takes what its work takes) there is no estimate: None.

What is asked of a batch system has to suffice: see `request`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from simai_rules.config.experiment import Point
from simai_rules.config.moments import mean

ITEM_SIZES = {"float16": 2, "float32": 4, "float64": 8, "int32": 4, "int64": 8}

MARGIN = 1.5
"""Walltime asked for over walltime estimated."""
SLOW_BYTES_PER_S = 100e6
"""Each rank writes and reads at least so much per second: a parallel file system that is busy."""
START_S = 60.0
"""Seconds for snakemake and the ranks to start on a node that has read none of their files yet."""
LEAST_START_S = 20.0
"""Seconds that a start takes at the least."""
SHARE_OF_MINUTES = 0.8
"""Of the walltime in `minutes`; the start of the job has to be in it as well."""


@dataclass(frozen=True)
class Estimate:
    """What one point will take; None where the config does not tell."""

    simulation_ranks: int
    training_ranks: int
    inference_ranks: int
    """0 where the point has no inference."""
    message_bytes: int
    """Bytes of one snapshot of one rank."""
    snapshots: int | None
    """Per simulation rank, warm-up included."""
    bytes_moved: int | None
    """Written and read, all ranks."""
    seconds: float | None


def estimate(point: Point) -> Estimate:
    """Return what `point` will take."""
    simulation_ranks = point.ranks_of("simulation")
    message = point.elements * ITEM_SIZES[point.dtype]
    training = _training_seconds(point)
    between = _seconds_between_snapshots(point)
    snapshots = None if training is None or between is None else _snapshots(point, training, between)
    return Estimate(
        simulation_ranks=simulation_ranks,
        training_ranks=point.ranks_of("training"),
        inference_ranks=point.ranks_of("inference") if "inference" in point.components else 0,
        message_bytes=message,
        snapshots=snapshots,
        bytes_moved=None if snapshots is None else snapshots * message * simulation_ranks * 2,
        seconds=None if training is None or between is None else _start_seconds(point) + between + training,
    )


@dataclass(frozen=True)
class Request:
    """What one point asks of a batch system."""

    nodes: int
    minutes: int | None
    """Walltime; None where neither `minutes` nor the run times in the config say it."""


def request(point: Point) -> Request:
    """Return what to ask for `point`: its `minutes`, else its estimate with margins.

    minutes = MARGIN × (seconds + bytes of a rank / SLOW_BYTES_PER_S) + staging.start_timeout + START_S, rounded up.
    """
    guess = estimate(point)
    minutes = point.minutes
    if minutes is None and guess.seconds is not None and guess.bytes_moved is not None:
        staging = guess.bytes_moved / guess.simulation_ranks / SLOW_BYTES_PER_S
        start = point.staging.start_timeout + START_S
        minutes = math.ceil((MARGIN * (guess.seconds + staging) + start) / 60)
    return Request(point.nodes, minutes)


def seconds_needed(point: Point, minutes: float | None = None) -> float | None:
    """Return the walltime that has to be left for `point` to be started; None where nothing tells.

    That is its estimate with the shortest start; without an estimate, a share of the `minutes` that were asked for.
    """
    seconds = estimate(point).seconds
    if seconds is not None:
        return seconds + LEAST_START_S
    return None if not minutes else SHARE_OF_MINUTES * 60 * minutes


def staged_bytes_per_node(point: Point) -> int:
    """Return the most bytes that the snapshots of one node take while they are staged."""
    return point.staging.in_flight * estimate(point).message_bytes * point.simulation.ranks_per_node


def total(values: Iterable[float | None]) -> tuple[float, int]:
    """Return the sum of the known values and how many are not known."""
    listed = list(values)
    return sum(value for value in listed if value is not None), sum(value is None for value in listed)


def _training_seconds(point: Point) -> float | None:
    run_time = point.training.run_time
    return None if run_time is None else point.training.iterations * mean(run_time)


def _seconds_between_snapshots(point: Point) -> float | None:
    simulation = point.simulation
    weights = [(1.0, simulation.kernels), (1 / simulation.checkpoint.every, simulation.checkpoint.kernels)]
    every = sum(branch.weight for branch in simulation.mix)
    weights += [(branch.weight / every, branch.kernels) for branch in simulation.mix]
    shares = [(weight, kernel.run_time) for weight, kernels in weights for kernel in kernels]
    known = [weight * mean(time) for weight, time in shares if time is not None]
    return simulation.write_every * _factor(point) * sum(known) if len(known) == len(shares) else None


def _start_seconds(point: Point) -> float:
    """Return the known seconds of what runs once, before the first iteration."""
    times = [kernel.run_time for kernel in point.simulation.start.kernels]
    return _factor(point) * sum(mean(time) for time in times if time is not None)


def _factor(point: Point) -> float:
    """Return the imbalance of the slowest rank, which all wait for, or the mean of what is drawn."""
    imbalance = point.simulation.imbalance
    return max(imbalance) if isinstance(imbalance, list) else mean(imbalance)


def _snapshots(point: Point, training: float, between: float) -> int:
    most = point.simulation.max_iterations // point.simulation.write_every
    ratio = training / between if between > 0 else math.inf
    return most if ratio >= most else 1 + min(math.floor(ratio), most - 1)
