"""A coupled experiment whose values would not reach their reader is refused before anything runs."""

import json
from pathlib import Path

import pytest

from simai_rules.cli import main
from simai_rules.config.loader import parse_experiment
from simai_rules.errors import ConfigError


def points_of(**config):
    """The points of an experiment with one repeat."""
    return list(parse_experiment({"name": "x", "repeats": 1, **config}, Path(), "config.yaml").points)


def refused(**config):
    with pytest.raises(ConfigError) as caught:
        points_of(**config)
    return str(caught.value)


APART = {"layout": "apart", "nodes": 2}
LOCAL_KEYS = {"backends": {"redis-cluster": {"keys": "local"}}}


@pytest.mark.parametrize("config", [{"backend": "node-local"}, {"backend": "redis-cluster", **LOCAL_KEYS}])
def test_values_that_stay_on_their_node_are_not_for_other_nodes(config):
    text = refused(**APART, **config)
    assert f"a value on the backend {config['backend']} can be read on its writer's node alone" in text
    assert "Choose layout: beside, or a backend that all nodes can read, such as filesystem or redis" in text
    assert points_of(**config, nodes=2)  # each beside its reader


@pytest.mark.parametrize("backend", ["filesystem", "redis", "redis-cluster"])
def test_values_that_all_nodes_read_can_cross_them(backend):
    assert points_of(**APART, backend=backend)


INFERENCE = {"training": {"publish_every": 5}, "inference": {"ranks_per_node": 1}}


def test_an_inference_needs_published_weights():
    text = refused(inference={"ranks_per_node": 1})
    assert "training.publish_every is 0: give the number of iterations" in text
    assert points_of(**INFERENCE)


def test_weights_that_stay_on_their_node_are_for_an_inference_there():
    text = refused(**INFERENCE, backend="node-local", nodes=2)
    assert "Give inference.nodes: [0], or a backend that all nodes can read" in text
    assert points_of(**(INFERENCE | {"inference": {"ranks_per_node": 1, "nodes": [0]}}), backend="node-local", nodes=2)
    assert points_of(**INFERENCE, backend="filesystem", nodes=2)


@pytest.mark.parametrize("layout", [{}, APART])
def test_values_that_nobody_else_reads_are_for_no_coupled_run(layout):
    text = refused(backend="null", **layout)
    assert "a value on the backend null can be read by its own writer alone" in text
    assert "'python -m benchmarks.staging null' measures this one" in text


def test_an_option_on_an_axis_counts_for_its_own_points():
    text = refused(
        **APART, backend="redis-cluster", sweep={"axes": {"backends.redis-cluster.keys": ["spread", "local"]}}
    )
    assert "config.yaml has 1 problem:" in text
    assert "local" in text


def test_in_a_sweep_the_points_that_cannot_be_are_named():
    axes = {"layout": ["beside", "apart"], "backend": ["node-local", "redis"]}
    text = refused(nodes=2, sweep={"axes": axes})
    assert "config.yaml has 1 problem:" in text
    assert "node-local" in text
    exclude = [{"layout": "apart", "backend": "node-local"}]
    assert len(points_of(nodes=2, sweep={"axes": axes, "exclude": exclude})) == 3


def test_the_command_line_refuses_it_too(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"name": "x", "backend": "node-local", **APART}))
    assert main(["points", str(config)]) == 1
    assert "can be read on its writer's node alone" in capsys.readouterr().err
