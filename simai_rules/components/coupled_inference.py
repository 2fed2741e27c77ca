"""The loop of an inference rank: infer, take newer weights of the training now and then, until told to stop."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count

from simai_rules.components.ai import AI
from simai_rules.components.coupling import INFERENCE_STOP, check_point, inference_ready_key, run_times, settle
from simai_rules.components.ranks import Ranks
from simai_rules.config.experiment import Point
from simai_rules.events.recorder import Recorder
from simai_rules.staging.info import ServerInfo


def run(point: Point, info: ServerInfo, ranks: Ranks, recorder: Recorder) -> None:
    """Run inference rank `ranks.rank` of `point` until the training says stop.

    Events: init (from the start of the process, torch's import included); take (of newer weights: its parts are those
    of reading them, the rest of its duration is looking for them and giving them to the net; step is their version);
    per iteration infer, iteration and poll (of the stop key). The first weights, with which the training begins, count
    as warm-up.

    Raises UserError where the point cannot be run so, StagingError where staging fails.
    """
    check_point(point, "inference", ranks)
    config = point.inference
    target = run_times(config.run_time, point, "inference", ranks.rank)
    with AI(
        "inference",
        info,
        model=point.training.model.model_copy(update={"device": config.device, "batch_size": config.batch_size}),
        seed=point.seed,
        ranks=replace(ranks, comm=None),  # no rank waits for another
        timeout=point.staging.timeout,
    ) as ai:
        ai.data.add_synthetic()
        ai.prepare(target.mean() if target else None, "infer")
        settle(recorder)
        ai.stage_write(inference_ready_key(ranks.rank), "ready")
        _take(ai, recorder, -1)
        recorder.phase = "measured"
        for iteration in count():
            start = time.perf_counter_ns()
            paced = ai.infer_paced(target() if target else None)
            recorder.record("infer", paced.start_ns, paced.elapsed_ns, iteration=iteration, calls=paced.calls)
            recorder.record("iteration", start, time.perf_counter_ns() - start, iteration=iteration)
            if (iteration + 1) % config.take_every == 0:
                _take(ai, recorder, iteration)
            stop = ai.store.poll_staged_data(INFERENCE_STOP)
            recorder.add(ai.store.last, iteration=iteration)
            if stop:
                break


def _take(ai: AI, recorder: Recorder, iteration: int) -> None:
    start = time.perf_counter_ns()
    newer = ai.take_newest()
    duration = time.perf_counter_ns() - start
    moved = ai.store.last
    if newer:
        whole = replace(moved, verb="take", start_ns=start, duration_ns=duration)
        recorder.add(whole, iteration=iteration, step=ai.version)
    else:
        recorder.record("poll", start, duration, iteration=iteration, key=moved.key, transport_ns=moved.transport_ns)
