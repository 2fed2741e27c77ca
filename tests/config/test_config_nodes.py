"""Which nodes of a point a component gets: a number, a share, a list, or what the others leave."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simai_rules.config.loader import parse_experiment
from simai_rules.config.nodes import parse_nodes, select_nodes
from simai_rules.errors import ConfigError


def refused(**config):
    with pytest.raises(ConfigError) as caught:
        parse_experiment({"name": "x", "repeats": 1, **config}, Path(), "config.yaml")
    return str(caught.value)


wishes = st.one_of(
    st.just("all"),
    st.integers(1, 6),
    st.floats(0.01, 0.99),
    st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True),
)


@given(st.integers(1, 8), st.sampled_from(["beside", "apart"]), wishes, wishes, st.booleans())
def test_nodes_exist_and_apart_nobody_shares_one(count, layout, simulation, training, own):
    try:
        chosen = select_nodes(count, layout, {"simulation": simulation, "training": training}, own=own)
    except ValueError:
        return
    for name, wish in {"simulation": simulation, "training": training}.items():
        nodes = chosen[name]
        assert nodes
        assert list(nodes) == sorted(set(nodes))
        assert set(nodes) <= set(range(count))
        if isinstance(wish, list):
            assert set(nodes) == set(wish)
        elif isinstance(wish, int):
            assert len(nodes) == wish
    if own:
        assert not set(chosen["server"]) & {*chosen["simulation"], *chosen["training"]}
    if layout == "apart":
        assert not set(chosen["simulation"]) & set(chosen["training"])


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_numbers_that_fit_are_never_refused(count, simulation, training):
    asked = {"simulation": simulation, "training": training}
    if simulation + training <= count:
        select_nodes(count, "apart", asked)
    else:
        with pytest.raises(ValueError, match=r"nodes is|nodes \d are left"):
            select_nodes(count, "apart", asked)


@pytest.mark.parametrize("value", [0, -1, 1.5, 0.0, True, None, "some", [], [0, 0], [-1], [1.5], [""], {}, [[0]]])
def test_what_is_no_choice_of_nodes_is_explained(value):
    with pytest.raises((ValueError, TypeError), match="It takes all, a number of nodes"):
        parse_nodes(value)
    assert "simulation.nodes: " in refused(simulation={"nodes": value})


def test_text_from_a_command_line_is_a_number():
    assert parse_nodes("2") == 2
    assert parse_nodes("0.5") == 0.5


BESIDE_AND_APART = [
    ({"layout": "apart", "nodes": 3}, "each component half of the nodes, but nodes is 3"),
    (
        {"layout": "apart", "nodes": 2, "simulation": {"nodes": 2}},
        "an equal part of the rest, but nodes is 2, of which 0",
    ),
    ({"layout": "apart", "nodes": 2, "simulation": {"nodes": 3}}, "simulation.nodes is 3, but nodes is 2"),
    (
        {"nodes": 2, "simulation": {"nodes": [2]}},
        "simulation.nodes names the node 2, but nodes is 2: their numbers are 0 to 1",
    ),
    (
        {"layout": "apart", "nodes": 2, "simulation": {"nodes": [0]}, "training": {"nodes": [0]}},
        "their lists of nodes have some in common",
    ),
    (
        {"nodes": 2, "simulation": {"nodes": 1}},
        "both need the same nodes: simulation.nodes is 1, training.nodes is all",
    ),
    ({"simulation": {"ranks_per_node": 2}}, "simulation.ranks_per_node is 2, training.ranks_per_node is 1"),
    (
        {"layout": "apart", "nodes": 3, "simulation": {"nodes": 2}, "training": {"nodes": 1}},
        "simulation has 2 (2 nodes × 1 ranks), training has 1 (1 nodes × 1 ranks)",
    ),
    (
        {
            "nodes": 3,
            "backend": "redis",
            "backends": {"redis": {"per": "node"}},
            "staging": {"server_nodes": "own"},
        },
        "the servers of the backend redis, as it is configured, are each for the ranks of their own node",
    ),
    ({"staging": {"server_nodes": "own"}}, "needs a node that no component uses, but nodes is 1"),
    ({"simulation": {"cores": ["0-3"], "ranks_per_node": 2}}, "cores has 1 entries, but ranks_per_node is 2"),
    ({"simulation": {"gpus": ["0,1"], "gpus_per_rank": 1}}, "does not give each rank the 1 of gpus_per_rank"),
]


@pytest.mark.parametrize(("config", "message"), BESIDE_AND_APART)
def test_what_does_not_go_together_is_explained(config, message):
    assert message in refused(**config)


def test_other_ranks_per_node_are_fine_apart_if_there_are_as_many_in_all():
    config = {
        "layout": "apart",
        "nodes": 3,
        "simulation": {"nodes": 2, "ranks_per_node": 3},
        "training": {"ranks_per_node": 6},
    }
    [point] = parse_experiment({"name": "x", "repeats": 1, **config}, Path(), "config.yaml").points.values()
    assert point.ranks_of("simulation") == point.ranks_of("training") == 6
    assert point.selection() == {"simulation": (0, 1), "training": (2,)}
