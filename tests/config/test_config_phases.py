"""Phases, imbalance and models in a config: messages, estimates, sweeps, and the way through point.json."""

from pathlib import Path

import pytest

from simai_rules.config.estimate import estimate
from simai_rules.config.loader import parse_experiment
from simai_rules.config.models import ModelConfig
from simai_rules.config.points import parse_point, point_json
from simai_rules.config.simulation import SimulationConfig
from simai_rules.errors import ConfigError

KERNEL = {"name": "AXPY", "data_size": [8]}


def points(**keys):
    raw = {"name": "a", "repeats": 1, **keys}
    return list(parse_experiment(raw, Path(), "config.yaml").points.values())


def problems(**keys):
    with pytest.raises(ConfigError) as raised:
        points(**keys)
    return str(raised.value)


def test_a_mix_needs_no_kernels_beside_it():
    assert SimulationConfig(mix=[{"kernels": [KERNEL]}]).kernels == []
    assert len(SimulationConfig().kernels) == 1


@pytest.mark.parametrize(
    ("simulation", "message"),
    [
        ({"kernels": []}, "kernels: [] leaves an iteration without work"),
        ({"mix": [{"weight": 0, "kernels": [KERNEL]}]}, "simulation.mix[0].weight: 0"),
        ({"mix": [{"kernels": []}]}, "simulation.mix[0].kernels: []"),
        ({"mix": [{"kernel": [KERNEL]}]}, "simulation.mix[0].kernel: unknown key. Did you mean 'kernels'?"),
        ({"checkpoint": {"every": 0}}, "simulation.checkpoint.every: 0"),
        ({"start": {"kernels": [{"name": "AXPYY"}]}}, "simulation.start.kernels[0].name: 'AXPYY' is no kernel"),
        ({"imbalance": []}, "simulation.imbalance"),
        ({"imbalance": [1, -1]}, "simulation.imbalance[1]: -1"),
        ({"imbalance": {"uniform": 3}}, "simulation.imbalance"),
        ({"imbalance": [1, 2, 3]}, "3 factors, which do not divide the 4 ranks evenly"),
        ({"kernels": [{"name": "AllToAll", "data_size": [6]}]}, "AllToAll: 4 ranks do not divide its 6 elements"),
    ],
)
def test_what_cannot_be(simulation, message):
    cores = {"ranks_per_node": 4}
    assert message in problems(simulation=simulation | cores, training=cores)


def test_factors_that_divide_the_ranks():
    cores = {"ranks_per_node": 4}
    [point] = points(simulation={"imbalance": [1, 2], **cores}, training=cores)
    assert point.simulation.imbalance == [1, 2]


def test_a_message_that_is_too_small_for_a_sample():
    training = {"model": {"name": "unet", "features": 1, "shape": [8, 8]}}
    assert "rows of its unet = 128 elements, but elements is 127" in problems(elements=127, training=training)
    assert points(elements=128, training=training)


def test_a_model_and_an_imbalance_can_be_axes():
    axes = {
        "training.model.name": ["mlp", "autoencoder"],
        "simulation.imbalance": [1, [1.5], {"lognormal": {"median": 1, "sigma": 0.1}}],
    }
    found = points(sweep={"axes": axes})
    assert len(found) == 6
    assert {point.training.model.name for point in found} == {"mlp", "autoencoder"}
    assert found[1].simulation.imbalance == [1.5]


def test_a_point_comes_back_from_its_file():
    simulation = {
        "mix": [{"weight": 2, "kernels": [KERNEL]}, {"kernels": [KERNEL, KERNEL]}],
        "start": {"kernels": [{**KERNEL, "run_time": 1}]},
        "checkpoint": {"every": 5, "kernels": [KERNEL]},
        "imbalance": {"normal": {"mean": 1, "std": 0.1}},
        "barrier": True,
    }
    model = {"name": "nets.own:Net", "inputs": [3, 4], "options": {"width": 3, "names": ["a"]}, "frozen": ["first"]}
    [point] = points(simulation=simulation, training={"model": model, "publish_every": 5})
    assert parse_point(point_json(point), "point.json") == point


def test_the_estimate_knows_phases():
    def timed(seconds):
        return {"kernels": [{"name": "FFT", "run_time": seconds}]}

    simulation = timed(0.1) | {
        "mix": [{"weight": 3, **timed(0.2)}, {"weight": 1, **timed(0.4)}],
        "checkpoint": {"every": 10, **timed(1.0)},
        "start": timed(2.5),
        "imbalance": [2.0],
        "write_every": 4,
    }
    [point] = points(simulation=simulation, training={"iterations": 100, "run_time": 0.1})
    iteration = 2 * (0.1 + 0.75 * 0.2 + 0.25 * 0.4 + 1.0 / 10)
    found = estimate(point)
    assert found.seconds == pytest.approx(2 * 2.5 + 4 * iteration + 10)
    assert found.snapshots == 1 + int(10 / (4 * iteration))
    unknown = simulation | {"mix": [{"kernels": [KERNEL]}]}
    [point] = points(simulation=unknown, training={"iterations": 100, "run_time": 0.1})
    assert estimate(point).seconds is None


@pytest.mark.parametrize(
    ("model", "inputs", "targets", "row"),
    [
        ({}, (7,), (1,), 8),
        ({"name": "cnn", "features": 2, "outputs": 3, "shape": [4, 5, 6]}, (2, 4, 5, 6), (3,), 243),
        ({"name": "unet", "features": 2, "outputs": 3, "shape": [4, 6]}, (2, 4, 6), (3, 4, 6), 120),
        ({"name": "autoencoder"}, (7,), (7,), 7),
        ({"name": "transformer", "shape": [2, 5], "features": 3}, (10, 3), (10, 3), 33),
        ({"name": "graph", "shape": [4, 4], "features": 2, "outputs": 3}, (16, 2), (16, 3), 80),
        ({"name": "a:B", "inputs": [2, 3]}, (2, 3), (2, 3), 6),
        ({"name": "a.b:C.D", "inputs": [2, 3], "targets": [4]}, (2, 3), (4,), 10),
    ],
)
def test_shapes_of_a_sample(model, inputs, targets, row):
    config = ModelConfig(**model)
    assert (config.input_shape, config.target_shape, config.row) == (inputs, targets, row)
