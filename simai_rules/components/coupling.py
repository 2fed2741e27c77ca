"""What the components of the pattern one-to-one agree on: keys, and what all do before the first iteration."""

from __future__ import annotations

import gc
import time

from simai_rules.components.ranks import Ranks
from simai_rules.config.distributions import Distribution
from simai_rules.config.experiment import Point
from simai_rules.errors import UserError
from simai_rules.events.recorder import Recorder
from simai_rules.kernels.sampling import Sampler, generator
from simai_rules.process import started_ns


def snapshot_key(rank: int, step: int) -> str:
    """Return the key of snapshot `step` (0, 1, …) of simulation rank `rank`."""
    return f"snapshot/{rank}/{step}"


def stream_name(rank: int) -> str:
    """Return the name of the stream of simulation rank `rank`'s snapshots, where the backend has streams."""
    return f"snapshot/{rank}"


def ready_key(rank: int) -> str:
    """Return the key by which training rank `rank` tells its simulation rank that it is about to begin."""
    return f"ready/{rank}"


def stop_key(rank: int) -> str:
    """Return the key by which training rank `rank` tells its simulation rank to end."""
    return f"stop/{rank}"


INFERENCE_STOP = "stop/inference"
"""The key by which the training tells all inference ranks to end."""


def inference_ready_key(rank: int) -> str:
    """Return the key by which inference rank `rank` tells the training that it is about to begin."""
    return f"ready/inference/{rank}"


def check_point(point: Point, component: str, ranks: Ranks) -> None:
    """Raise UserError where another number of ranks was started than `component` of the point has."""
    expected = point.ranks_of(component)
    if ranks.size != expected:
        raise UserError(
            f"The {component} of this point has {expected} ranks, but {ranks.size} ranks were started. Start them by "
            "'simai-rules run'."
        )


def run_times(run_time: Distribution | None, point: Point, component: str, rank: int) -> Sampler | None:
    """Return what draws the seconds of a rank's iterations; None where `component` has no run_time."""
    if run_time is None:
        return None
    return Sampler(run_time, generator(point.seed, point.repeat, rank, f"{component} amounts"))


def settle(recorder: Recorder) -> None:
    """End the start-up, and record it as the event init, from the start of the process.

    Takes all objects that there are out of the garbage collector's sight. With torch loaded, looking through them all
    takes some 0.1 s, now and then, in the middle of what is measured.
    """
    gc.collect()
    gc.freeze()
    begin = started_ns()
    recorder.record("init", begin, time.perf_counter_ns() - begin)
