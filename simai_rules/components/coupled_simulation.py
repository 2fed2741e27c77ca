"""The loop of a simulation rank in the pattern one-to-one: compute, stage a snapshot now and then, until told stop."""

from __future__ import annotations

import time
from pathlib import Path

from simai_rules.components.coupling import check_point, ready_key, settle, stop_key
from simai_rules.components.exchange import Sender, sender
from simai_rules.components.payload import Payload, payload_features
from simai_rules.components.ranks import Ranks
from simai_rules.components.simulation import Simulation
from simai_rules.config.experiment import Point
from simai_rules.errors import UserError
from simai_rules.events.recorder import Recorder
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.staging.info import ServerInfo


def run(point: Point, info: ServerInfo, ranks: Ranks, recorder: Recorder) -> None:
    """Run simulation rank `ranks.rank` of `point` until its training rank says stop, or for max_iterations.

    Events: init (from the start of the process); start; wait, for the training to begin; per iteration compute (per
    kernel), barrier, iteration, poll (of the stop key) and, of ranks that run equally many iterations, agree (on the
    stop); checkpoint; per snapshot write (with the status "ok", or "discarded" by a stream that had no room), and wait:
    for room, so that no more than staging.in_flight snapshots, or a stream's queue, lie unread.

    Raises UserError where the point cannot be run so, StagingError where staging fails.
    """
    check_point(point, "simulation", ranks)
    config = point.simulation
    with Simulation(
        "simulation",
        info,
        rank=ranks.rank,
        seed=point.seed,
        repeat=point.repeat,
        comm=ranks.comm,
        claim=RunFolder(Path(info.run_folder)).claim if info.run_folder else None,
        recorder=recorder,
        timeout=point.staging.timeout,
    ) as simulation:
        simulation.configure(config)
        simulation.prepare()
        simulation.begin()
        writer = _Writer(point, simulation, recorder)
        settle(recorder)
        writer.wait_for_training()
        with sender(point, simulation.store, ranks.rank, recorder) as to_training:
            if point.warmup == 0:
                recorder.phase = "measured"
            together = simulation.collective
            for iteration in range(config.max_iterations):
                simulation.run()
                due = (iteration + 1) % config.write_every == 0
                stop = (due and not writer.write(to_training, iteration)) or writer.told_to_stop(iteration)
                if simulation.any_rank(stop) if together else stop:
                    break


class _Writer:
    """Makes one snapshot after another, and listens to what the training says."""

    def __init__(self, point: Point, simulation: Simulation, recorder: Recorder) -> None:
        self._point, self._recorder = point, recorder
        self._store = simulation.store
        self._rank = simulation.rank
        self._payload = Payload(
            elements=point.elements,
            dtype=point.dtype,
            features=payload_features(point.training.model),
            seed=point.seed,
            repeat=point.repeat,
            rank=simulation.rank,
        )
        self._step = 0

    def wait_for_training(self) -> None:
        """Wait until the training is about to begin, so that its start-up (torch takes seconds) is not measured.

        Without it, the first snapshots would fill the staging area, and waiting for room would look like a cost of the
        exchange.
        """
        start, seconds = time.perf_counter_ns(), self._point.staging.timeout
        if not self._store.poll_staged_data(ready_key(self._rank), timeout=seconds):
            raise UserError(
                f"The training did not begin within {seconds:g} s (staging.timeout). Either it needs longer to start "
                "(raise the timeout), or it has failed (see its log)."
            )
        waited = time.perf_counter_ns() - start
        self._recorder.record("wait", start, waited, key=ready_key(self._rank), wait_ns=waited)

    def told_to_stop(self, iteration: int) -> bool:
        """Say whether the training has staged the stop key."""
        stop = self._store.poll_staged_data(stop_key(self._rank))
        self._recorder.add(self._store.last, iteration=iteration)
        return stop

    def write(self, to_training: Sender, iteration: int) -> bool:
        """Send the next snapshot, and return True; False if the training said stop while this one waited for room."""
        if not to_training.send(self._step, self._payload.snapshot(self._step), iteration):
            return False
        self._step += 1
        if self._step >= self._point.warmup:
            self._recorder.phase = "measured"
        return True
