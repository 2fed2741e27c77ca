"""Placement: covers what was asked, never overlaps where there is room, refuses what does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simai_rules.config.backends import FilesystemConfig
from simai_rules.config.experiment import Point
from simai_rules.config.simulation import SimulationConfig
from simai_rules.config.system import SystemConfig
from simai_rules.config.training import TrainingConfig
from simai_rules.launch.placement import ImpossiblePlacement, place


def point(simulation, training, cores, *, oversubscribe=False, reserved=(), **changes):
    return Point(
        **changes,
        experiment="e",
        path="backend~filesystem/elements~1/nodes~1/repeat~0",
        axes={},
        repeat=0,
        server=FilesystemConfig(),
        simulation=SimulationConfig(ranks_per_node=simulation[0], cores_per_rank=simulation[1]),
        training=TrainingConfig(ranks_per_node=training[0], cores_per_rank=training[1]),
        system=SystemConfig(cores=cores, oversubscribe=oversubscribe, reserved_cores=list(reserved)),
    )


ranks_per_node = st.integers(1, 8)
widths = st.integers(1, 4)


@given(ranks_per_node, widths, widths, st.integers(1, 64), st.sets(st.integers(0, 63), max_size=4))
def test_disjoint_cores_that_exist_or_a_refusal(ranks, width, other_width, cores, reserved):
    simulation, training = (ranks, width), (ranks, other_width)
    asked = simulation[0] * simulation[1] + training[0] * training[1]
    usable = set(range(cores)) - reserved
    wanted = point(simulation, training, cores, reserved=reserved)
    if asked > len(usable):
        with pytest.raises(ImpossiblePlacement):
            place(wanted, ("n1", "n2"))
        return
    placements = place(wanted, ("n1", "n2"))
    for name, (ranks, width) in {"simulation": simulation, "training": training}.items():
        placement = placements[name]
        assert [len(own) for own in placement.cores] == [width] * ranks
        assert placement.ranks == 2 * ranks
        assert not placement.shared
    used = [core for placement in placements.values() for own in placement.cores for core in own]
    assert len(used) == len(set(used)) == asked
    assert set(used) <= usable


@given(ranks_per_node, widths, widths, st.integers(4, 16))
def test_shared_cores_are_dealt_out_and_said_to_be_shared(ranks, width, other_width, cores):
    simulation, training = (ranks, width), (ranks, other_width)
    placements = place(point(simulation, training, cores, oversubscribe=True), ("n1",))
    for name, (ranks, width) in {"simulation": simulation, "training": training}.items():
        assert [len(set(own)) for own in placements[name].cores] == [width] * ranks
        assert all(core < cores for own in placements[name].cores for core in own)
    assert placements["simulation"].shared == (simulation[0] * simulation[1] + training[0] * training[1] > cores)


def test_two_ranks_each_on_two_cores_share_them_pairwise():
    placements = place(point((2, 1), (2, 1), 2, oversubscribe=True), ("n1",))
    assert placements["simulation"].cores == placements["training"].cores == ((0,), (1,))
    assert placements["training"].shared


def test_a_refusal_says_what_is_asked_and_what_there_is():
    with pytest.raises(
        ImpossiblePlacement, match=r"asks for 4 cores.*simulation 2 x 1, training 2 x 1.*has 2 for ranks"
    ):
        place(point((2, 1), (2, 1), 2), ("n1",))


def test_a_rank_wider_than_the_node_is_refused_even_if_cores_may_be_shared():
    with pytest.raises(ImpossiblePlacement):
        place(point((1, 4), (1, 1), 2, oversubscribe=True), ("n1",))


@given(ranks_per_node, widths, widths, st.integers(1, 4), st.integers(1, 32))
def test_apart_each_component_has_half_of_the_nodes_and_all_cores_of_them(ranks, width, other_width, half, cores):
    hosts = tuple(f"n{number}" for number in range(2 * half))
    wanted = point((ranks, width), (ranks, other_width), cores, nodes=2 * half, layout="apart")
    if ranks * max(width, other_width) > cores:
        with pytest.raises(ImpossiblePlacement):
            place(wanted, hosts)
        return
    placements = place(wanted, hosts)
    assert placements["simulation"].hosts + placements["training"].hosts == hosts
    for name, own_width in {"simulation": width, "training": other_width}.items():
        assert placements[name].ranks == half * ranks == wanted.nodes_per_component * ranks
        used = [core for own in placements[name].cores for core in own]
        assert sorted(used) == list(range(ranks * own_width))


def test_apart_takes_an_even_number_of_nodes():
    with pytest.raises(ValueError, match="each component half of the nodes, but nodes is 3"):
        point((1, 1), (1, 1), 4, nodes=3, layout="apart")
