"""What both sides of the pattern one-to-one agree on: keys, and what has to hold before the first iteration."""

from __future__ import annotations

import gc

from simai_rules.components.ranks import Ranks
from simai_rules.config.experiment import Point
from simai_rules.errors import UserError


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


def settle() -> None:
    """Take all objects that there are out of the garbage collector's sight, before the first iteration.

    With torch loaded, looking through them all takes some 0.1 s, now and then, in the middle of what is measured.
    """
    gc.collect()
    gc.freeze()
