"""The loop of a simulation rank in the pattern one-to-one: compute, stage a snapshot now and then, until told stop."""

from __future__ import annotations

import time

from simai_rules.components.coupling import check_point, ready_key, settle, snapshot_key, stop_key
from simai_rules.components.payload import Payload
from simai_rules.components.ranks import Ranks
from simai_rules.components.simulation import Simulation
from simai_rules.config.experiment import Point
from simai_rules.errors import UserError
from simai_rules.events.recorder import Recorder
from simai_rules.process import started_ns
from simai_rules.staging.info import ServerInfo

_LOOK_EVERY_S = 0.005


def run(point: Point, info: ServerInfo, ranks: Ranks, recorder: Recorder) -> None:
    """Run simulation rank `ranks.rank` of `point` until its training rank says stop, or for max_iterations.

    Events: init (from the start of the process); wait, for the training to begin; per iteration compute (per kernel),
    iteration and poll (of the stop key); per snapshot write, and wait: for room, so that no more than
    staging.in_flight snapshots lie unread.

    Raises UserError where the point cannot be run so, StagingError where staging fails.
    """
    check_point(point, ranks)
    config = point.simulation
    with Simulation(
        "simulation",
        info,
        rank=ranks.rank,
        seed=point.seed,
        repeat=point.repeat,
        recorder=recorder,
        timeout=point.staging.timeout,
    ) as simulation:
        simulation.add_configured(config.kernels)
        simulation.prepare()
        writer = _Writer(point, simulation, recorder)
        settle()
        begin = started_ns()
        recorder.record("init", begin, time.perf_counter_ns() - begin)
        writer.wait_for_training()
        if point.warmup == 0:
            recorder.phase = "measured"
        for iteration in range(config.max_iterations):
            simulation.run()
            if (iteration + 1) % config.write_every == 0 and not writer.write(iteration):
                break
            if writer.told_to_stop(iteration):
                break


class _Writer:
    """Stages one snapshot after another, and sees to it that no more than `in_flight` of them lie unread."""

    def __init__(self, point: Point, simulation: Simulation, recorder: Recorder) -> None:
        self._point, self._recorder = point, recorder
        self._store = simulation.store
        self._rank = simulation.rank
        self._payload = Payload(
            elements=point.elements,
            dtype=point.dtype,
            features=point.training.model.features,
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

    def write(self, iteration: int) -> bool:
        """Stage the next snapshot, and return True; False if the training said stop while this one waited for room."""
        step = self._step
        value = self._payload.snapshot(step)
        if step >= self._point.staging.in_flight and not self._room(step, iteration):
            return False
        self._store.stage_write(snapshot_key(self._rank, step), value)
        self._recorder.add(self._store.last, iteration=iteration, step=step)
        self._step += 1
        if self._step >= self._point.warmup:
            self._recorder.phase = "measured"
        return True

    def _room(self, step: int, iteration: int) -> bool:
        """Wait until there is room for snapshot `step`; False if the training says stop first.

        Without it, a training that is slower than the simulation would let the staging area fill up, which on /dev/shm
        is the node's memory.
        """
        limits = self._point.staging
        oldest = snapshot_key(self._rank, step - limits.in_flight)
        full = self._store.poll_staged_data(oldest)
        self._recorder.add(self._store.last, iteration=iteration, step=step)
        if not full:
            return True
        start = time.perf_counter_ns()
        room = True
        while self._store.poll_staged_data(oldest):
            if self._store.poll_staged_data(stop_key(self._rank)):
                room = False
                break
            if time.perf_counter_ns() - start > limits.timeout * 1e9:
                raise UserError(
                    f"{limits.in_flight} snapshots are staged, and for {limits.timeout:g} s the training has not read "
                    f"the oldest, '{oldest}'. Either it is too slow for this simulation (raise simulation.write_every "
                    "or lower training.read_every), or it has failed (see its log)."
                )
            time.sleep(_LOOK_EVERY_S)
        waited = time.perf_counter_ns() - start
        self._recorder.record("wait", start, waited, iteration=iteration, step=step, key=oldest, wait_ns=waited)
        return room
