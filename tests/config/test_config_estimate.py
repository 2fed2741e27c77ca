"""Estimates, against sums done by hand and against sampling."""

from pathlib import Path

import pytest

from simai_rules.config.estimate import Request, estimate, request, seconds_needed, staged_bytes_per_node
from simai_rules.config.loader import parse_experiment
from simai_rules.config.points import parse_point, point_json


def point(**keys):
    raw = {"name": "a", "repeats": 1, **keys}
    return next(iter(parse_experiment(raw, Path(), "config.yaml").points.values()))


def simulation(run_time=0.03, **keys):
    return {"kernels": [{"name": "MatMulSimple2D", "run_time": run_time}], **keys}


def test_the_nekrs_case():
    guess = estimate(
        point(
            elements=1_000_000,
            nodes=2,
            simulation=simulation(0.03147, ranks_per_node=3, write_every=100),
            training={"iterations": 500, "run_time": 0.061, "ranks_per_node": 3},
        )
    )
    # 30.5 s of training, a snapshot each 3.147 s, the first one before the training starts
    assert guess.simulation_ranks == guess.training_ranks == 6
    assert guess.message_bytes == 4_000_000
    assert guess.snapshots == 10
    assert guess.bytes_moved == 10 * 4_000_000 * 6 * 2
    assert guess.seconds == pytest.approx(33.647)


def test_several_kernels_add_up():
    kernels = [{"name": "FFT", "run_time": 0.1}, {"name": "AXPY", "run_time": {"normal": {"mean": 0.2, "std": 0}}}]
    guess = estimate(
        point(simulation={"kernels": kernels, "write_every": 2}, training={"iterations": 10, "run_time": 0.1})
    )
    assert guess.seconds == pytest.approx(0.6 + 1.0)
    assert guess.snapshots == 2


def test_max_iterations_ends_the_snapshots():
    training = {"iterations": 1000, "run_time": 1}
    assert (
        estimate(point(simulation=simulation(1, write_every=10, max_iterations=55), training=training)).snapshots == 5
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"simulation": simulation(None), "training": {"run_time": 1}},
        {"simulation": {"kernels": [{"name": "FFT", "run_count": 3}]}, "training": {"run_time": 1}},
        {"simulation": simulation(1), "training": {}},
    ],
)
def test_unknown_run_times_are_not_invented(keys):
    guess = estimate(point(**keys))
    assert (guess.snapshots, guess.bytes_moved, guess.seconds) == (None, None, None)
    assert guess.message_bytes == 4_000_000


def test_staged_bytes_per_node():
    one = point(
        elements=1000,
        nodes=4,
        dtype="float64",
        staging={"in_flight": 5},
        simulation=simulation(ranks_per_node=2),
        training={"ranks_per_node": 2},
    )
    assert staged_bytes_per_node(one) == 1000 * 8 * 5 * 2


def requested(**keys):
    return request(point(**keys))


TIMES = {
    "simulation": {"kernels": [{"name": "MatMulSimple2D", "run_time": 0.1}], "write_every": 10},
    "training": {"iterations": 590, "run_time": 0.1},
}


def test_the_walltime_has_room_for_start_and_staging():
    # 60 s × 1.5 + 60 s for the server + 60 s for the job: 3.5 min; 60 snapshots of 4 B come to nothing.
    assert requested(elements=8, **TIMES) == Request(nodes=1, minutes=4)
    # 60 snapshots of 1 GB, written and read at 100 MB/s by one rank: 1200 s × 1.5 more.
    assert requested(elements=250_000_000, **TIMES).minutes == 34


def test_minutes_stand_instead_of_the_estimate():
    assert requested(minutes=7, **TIMES).minutes == 7
    assert requested(minutes=7).minutes == 7
    assert requested().minutes is None


def test_what_has_to_be_left_is_less_than_what_was_asked_for():
    known, unknown = point(**TIMES), point()
    assert seconds_needed(known) == 80
    assert request(known).minutes * 60 > 80 + 60
    assert seconds_needed(unknown) is None
    assert seconds_needed(unknown, minutes=10) == 480


def test_minutes_and_queues_run_no_point_again(tmp_path):
    (tmp_path / "system.yaml").write_text("name: a\nqueues: {debug: {max_minutes: 60}}\n")
    one = point(system=str(tmp_path / "system.yaml"))
    (tmp_path / "system.yaml").write_text("name: a\n")
    assert point_json(one) == point_json(point(system=str(tmp_path / "system.yaml"), minutes=9))
    assert parse_point(point_json(one), "test").system.name == "a"
