"""The loop of a training rank in the pattern one-to-one: read what is new, learn from it, in the end say stop."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from simai_rules.components.ai import AI
from simai_rules.components.coupling import (
    INFERENCE_STOP,
    check_point,
    inference_ready_key,
    ready_key,
    run_times,
    settle,
    stop_key,
)
from simai_rules.components.exchange import Receiver, receiver
from simai_rules.components.ranks import Ranks
from simai_rules.components.together import Together
from simai_rules.config.experiment import Point
from simai_rules.errors import UserError
from simai_rules.events.recorder import Recorder
from simai_rules.staging.info import ServerInfo


def run(point: Point, info: ServerInfo, ranks: Ranks, recorder: Recorder) -> None:
    """Run training rank `ranks.rank` of `point`: wait for the first snapshot, train for `iterations`, say stop.

    Events: init (from the start of the process, torch's import included); per iteration train (with its loss; wait_ns
    is how long the rank waited for the others to begin) or infer, and iteration; publish (of the weights, first of
    those that it begins with: its parts are those of staging them, the rest of its duration is getting them from the
    device and naming the version, its step); per snapshot read (with the status "ok", "stale" or "torn") and delete
    (not of a stream's); per look for a snapshot poll.

    Raises UserError where the point cannot be run so or nothing was measured, StagingError where staging fails.
    """
    check_point(point, "training", ranks)
    config = point.training
    target = run_times(config.run_time, point, "training", ranks.rank)
    with AI(
        "training",
        info,
        model=config.model,
        seed=point.seed,
        ranks=ranks,
        rendezvous=Path(folder) if (folder := info.shared_folder or info.run_folder) else None,
        timeout=point.staging.timeout,
    ) as ai:
        store = ai.store
        if config.data == "synthetic":
            ai.data.add_synthetic()
        settle(recorder)
        _wait_for_inference(point, ai, ranks)
        if ranks.rank == 0 and config.publish_every:
            _publish(ai, recorder, -1)
        ai.stage_write(ready_key(ranks.rank), "ready")
        with receiver(point, store, ranks.rank, recorder) as from_simulation:
            reader = _Reader(point, ai, from_simulation, recorder)
            if point.warmup == 0:
                recorder.phase = "measured"
            reader.read(-1)
            ai.prepare(target.mean() if target else None, config.task)
            work = ai.train_paced if config.task == "train" else ai.infer_paced
            for iteration in range(config.iterations):
                start = time.perf_counter_ns()
                paced = work(target() if target else None)
                end = time.perf_counter_ns()
                recorder.record(
                    config.task,
                    paced.start_ns,
                    paced.elapsed_ns,
                    iteration=iteration,
                    wait_ns=paced.start_ns - start,
                    loss=ai.loss,
                )
                recorder.record("iteration", start, end - start, iteration=iteration)
                if ranks.rank == 0 and config.publish_every and (iteration + 1) % config.publish_every == 0:
                    _publish(ai, recorder, iteration)
                if (iteration + 1) % config.read_every == 0:
                    reader.read_all_new(iteration)
            ai.stage_write(stop_key(ranks.rank), "stop")
            if ranks.rank == 0 and "inference" in point.components:
                ai.stage_write(INFERENCE_STOP, "stop")
        reader.require_measured()


def _wait_for_inference(point: Point, ai: AI, ranks: Ranks) -> None:
    """Wait until all inference ranks are about to begin; their start-up would disturb what is measured."""
    if "inference" not in point.components:
        return
    deadline = time.monotonic() + point.staging.timeout
    for rank in range(point.ranks_of("inference") if ranks.rank == 0 else 0):
        if not ai.poll_staged_data(inference_ready_key(rank), max(0.0, deadline - time.monotonic())):
            raise UserError(
                f"Rank {rank} of the inference did not begin within {point.staging.timeout:g} s (staging.timeout). "
                "Either it needs longer to start (raise the timeout), or it has failed (see its log)."
            )
    Together(ranks.comm, point.staging.timeout).barrier()


def _publish(ai: AI, recorder: Recorder, iteration: int) -> None:
    start = time.perf_counter_ns()
    moved = ai.publish()
    duration = time.perf_counter_ns() - start
    whole = replace(moved, verb="publish", start_ns=start, duration_ns=duration, replaced=None)
    recorder.add(whole, iteration=iteration, step=ai.version)


class _Reader:
    """Makes one snapshot after another part of the data set."""

    def __init__(self, point: Point, ai: AI, from_simulation: Receiver, recorder: Recorder) -> None:
        self._point, self._ai, self._from_simulation, self._recorder = point, ai, from_simulation, recorder
        self._read = self._measured = 0

    def read(self, iteration: int) -> None:
        """Take the next snapshot, waiting for it; its use is outside of the timed part."""
        step, status, snapshot = self._from_simulation.receive(iteration)
        if status == "ok":
            if self._point.training.data == "store":
                self._ai.add_data(snapshot["data"])
            self._measured += step >= self._point.warmup
        self._read += 1
        if step + 1 >= self._point.warmup:
            self._recorder.phase = "measured"

    def read_all_new(self, iteration: int) -> None:
        """Read the snapshots that are there; not more than can be, so that a fast writer does not hold this rank."""
        for _ in range(self._from_simulation.most):
            if not self._from_simulation.poll(iteration):
                break
            self.read(iteration)

    def require_measured(self) -> None:
        """Raise UserError if no snapshot after the warm-up was read whole: there would be nothing to show."""
        if not self._measured:
            raise UserError(
                f"The training read {self._read} snapshots in its {self._point.training.iterations} iterations, of "
                f"which the first {self._point.warmup} are warm-up and none of the others was whole: nothing was "
                "measured. Raise training.iterations, or lower simulation.write_every or training.read_every; where "
                "snapshots were stale or torn, the backend is at fault."
            )
