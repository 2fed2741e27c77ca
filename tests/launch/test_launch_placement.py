"""Placement: covers what was asked, never overlaps where there is room, refuses what does not fit."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import AURORA

from simai_rules.config.experiment import Point
from simai_rules.config.system import SystemConfig
from simai_rules.launch.placement import ImpossiblePlacement, Request, place, plan


def point(simulation, training, cores, *, oversubscribe=False, reserved=(), backend="filesystem", **changes):
    """A point with (ranks per node, cores per rank) or the settings of each component."""
    system = {"cores": cores, "oversubscribe": oversubscribe, "reserved_cores": list(reserved)}
    keys = ("ranks_per_node", "cores_per_rank")
    content = {
        "experiment": "e",
        "path": "backend~filesystem/elements~1/nodes~1/repeat~0",
        "axes": {},
        "repeat": 0,
        "nodes": 2,
        "backend": backend,
        "server": {"type": backend},
        "simulation": simulation if isinstance(simulation, dict) else dict(zip(keys, simulation, strict=True)),
        "training": training if isinstance(training, dict) else dict(zip(keys, training, strict=True)),
        "system": cores if isinstance(cores, SystemConfig) else system,
    }
    return Point.model_validate(content | changes)


def used(*placements):
    return [core for placement in placements for own in placement.cores for core in own]


# The planner, which knows of no pattern

HOSTS = ("n0", "n1", "n2")


@st.composite
def systems(draw, oversubscribe=False):
    cores, threads = draw(st.integers(1, 24)), draw(st.integers(1, 2))
    reserved = draw(st.sets(st.integers(0, cores - 1), max_size=cores - 1))
    gpus = [f"{number}.{tile}" for number in range(draw(st.integers(0, 3))) for tile in range(2)]
    cut, gpu_cut = draw(st.integers(0, cores)), draw(st.integers(0, len(gpus)))
    parts = [(range(cut), gpus[:gpu_cut]), (range(cut, cores), gpus[gpu_cut:])]
    numa = [
        {"cores": [core + thread * cores for thread in range(threads) for core in own], "gpus": near}
        for own, near in parts
    ]
    return SystemConfig(
        cores=cores,
        threads_per_core=threads,
        reserved_cores=[core + thread * cores for core in reserved for thread in range(threads)],
        gpus=gpus,
        gpu_variable="ZE_AFFINITY_MASK",
        numa=numa if 0 < cut < cores and draw(st.booleans()) else [],
        oversubscribe=oversubscribe,
    )


nodes = st.sets(st.integers(0, 2), min_size=1).map(lambda found: tuple(sorted(found)))
asked = st.lists(st.tuples(nodes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=3)


def requests_of(wanted):
    return [Request(f"c{number}", *each) for number, each in enumerate(wanted)]


def check_each(system, request, placement):
    """What was asked is there, and nothing else: no core or GPU that is reserved, unknown, or twice in a rank."""
    assert placement.hosts == tuple(HOSTS[node] for node in request.nodes)
    assert [len(set(own)) for own in placement.cores] == [request.cores_per_rank] * request.ranks_per_node
    assert set(used(placement)) <= set(range(system.cores)) - set(system.reserved_cores)
    gpus = [gpu for own in placement.gpus for gpu in own]
    assert len(gpus) == len(set(gpus)) == request.ranks_per_node * request.gpus_per_rank
    assert set(gpus) <= set(system.gpus)


def meeting(requests):
    return [pair for pair in combinations(requests, 2) if set(pair[0].nodes) & set(pair[1].nodes)]


@given(systems(), asked)
def test_never_overlaps_never_exceeds_and_covers_what_was_asked(system, wanted):
    requests = requests_of(wanted)
    try:
        placements = plan(system, HOSTS, requests)
    except ImpossiblePlacement:
        return
    for request in requests:
        check_each(system, request, placements[request.component])
        assert not placements[request.component].shared
        cores = used(placements[request.component])
        assert len(cores) == len(set(cores))
    for one, other in meeting(requests):
        pair = placements[one.component], placements[other.component]
        assert not set(used(pair[0])) & set(used(pair[1]))
        assert not {gpu for own in pair[0].gpus for gpu in own} & {gpu for own in pair[1].gpus for gpu in own}


@given(systems(), asked)
def test_what_fits_on_each_node_is_placed_and_nothing_else(system, wanted):
    requests = requests_of([((0, 1), *rest) for _, *rest in wanted])  # all on the same nodes
    cores = sum(request.wanted_cores for request in requests)
    gpus = sum(request.wanted_gpus for request in requests)
    fits = cores <= system.cores - len({core % system.cores for core in system.reserved_cores})
    if fits and gpus <= len(system.gpus):
        plan(system, HOSTS, requests)
        return
    with pytest.raises(ImpossiblePlacement):
        plan(system, HOSTS, requests)


@given(systems(oversubscribe=True), asked)
def test_where_ranks_may_share_only_what_is_wider_than_a_node_is_refused(system, wanted):
    requests = requests_of([(nodes, *rest, 0) for nodes, *rest, _ in wanted])
    there = system.cores - len({core % system.cores for core in system.reserved_cores})
    if any(request.cores_per_rank > there for request in requests):
        with pytest.raises(ImpossiblePlacement):
            plan(system, HOSTS, requests)
        return
    placements = plan(system, HOSTS, requests)
    for request in requests:
        check_each(system, request, placements[request.component])
    for one, other in meeting(requests):
        pair = placements[one.component], placements[other.component]
        if set(used(pair[0])) & set(used(pair[1])):
            assert pair[0].shared
            assert pair[1].shared


@given(st.integers(1, 6), st.integers(1, 8))
def test_a_rank_has_its_cores_and_gpu_from_one_domain_where_one_has_enough(ranks, width):
    placement = plan(AURORA, HOSTS, [Request("c", (0,), ranks, width, 1)])["c"]
    for cores, (gpu,) in zip(placement.cores, placement.gpus, strict=True):
        domains = [domain for domain in AURORA.numa if gpu in domain.gpus]
        assert set(cores) <= set(domains[0].cores)


def test_aurora_one_to_one_gives_each_component_a_socket_and_leaves_the_reserved_cores_alone():
    wanted = [
        Request("simulation", (0, 1), 6, 8, 1),
        Request("training", (0, 1), 6, 8, 1),
        Request("server", (0,), 1, 2),
    ]
    found = plan(AURORA, ("a", "b"), wanted)
    assert [own for (own,) in found["simulation"].gpus] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    assert [own for (own,) in found["training"].gpus] == ["3.0", "3.1", "4.0", "4.1", "5.0", "5.1"]
    assert sorted(used(found["simulation"])) == list(range(1, 49))
    assert sorted(used(found["training"])) == list(range(53, 101))
    assert used(found["server"]) == [49, 50]
    assert found["server"].hosts == ("a",)
    assert found["training"].gpu_variable == "ZE_AFFINITY_MASK"
    assert not {0, 52, 104, 156} & set(used(*found.values()))


def test_a_component_without_gpus_leaves_the_cores_beside_them_to_the_other():
    found = plan(AURORA, ("a",), [Request("simulation", (0,), 12, 4), Request("training", (0,), 12, 4, 1)])
    for cores, (gpu,) in zip(found["training"].cores, found["training"].gpus, strict=True):
        assert (min(cores) > 52) == (gpu > "3")
    assert not set(used(found["simulation"])) & set(used(found["training"]))


def test_many_to_one_is_the_same_call():
    found = plan(
        AURORA, ("a", "b", "c"), [Request("simulation", (0, 1), 12, 8, 1), Request("training", (2,), 12, 8, 1)]
    )
    # The binding that ALCF recommends for 12 ranks per node, on both
    expected = tuple(tuple(range(first, first + 8)) for first in (*range(1, 49, 8), *range(53, 101, 8)))
    assert found["simulation"].cores == found["training"].cores == expected
    assert (found["simulation"].ranks, found["training"].hosts) == (24, ("c",))


# Explicit lists


def test_lists_are_taken_as_they_are_and_others_keep_off_them_and_off_their_hyperthreads():
    lists = Request("a", (0,), 2, 1, cores=((4, 5), (6, 107)), gpus=(("5.1",), ("0.0",)))
    found = plan(AURORA, HOSTS, [Request("b", (0,), 1, 4, 1), lists])
    assert found["a"].cores == ((4, 5), (6, 107))
    assert found["a"].gpus == (("5.1",), ("0.0",))
    assert found["b"].cores == ((1, 2, 7, 8),)  # 3 is the other half of 107
    assert found["b"].gpus == (("0.1",),)


def test_cores_of_a_list_have_their_gpus_near_them():
    found = plan(AURORA, HOSTS, [Request("a", (0,), 1, 1, 1, cores=((60, 61),))])
    assert found["a"].gpus == (("3.0",),)
    found = plan(AURORA, HOSTS, [Request("a", (0,), 1, 2, gpus=(("4.0",),))])
    assert found["a"].cores == ((53, 54),)


def test_all_that_is_wrong_with_lists_is_told_at_once():
    wrong = Request("a", (0,), 2, 1, cores=((0, 300), (1, 1)), gpus=(("0.0",), ("9.9",)))
    other = Request("b", (0,), 1, 1, cores=((1, 2),), gpus=(("0.0",),))
    with pytest.raises(ImpossiblePlacement) as caught:
        plan(AURORA, HOSTS, [wrong, other])
    for text in (
        "a.cores[0] names core 0, which is reserved",
        "a.cores[0] names core 300; there are 1-51,53-103,105-155,157-207",
        "a.cores[1] names a core twice",
        "a.gpus[1] names 9.9",
        "a.cores[1] and b.cores[0] both have 1",
        "a.gpus[0] and b.gpus[0] both have 0.0",
    ):
        assert text in str(caught.value)


def test_lists_may_overlap_on_nodes_apart_and_where_ranks_may_share():
    one, other = Request("a", (0,), 1, 1, cores=((1,),)), Request("b", (1,), 1, 1, cores=((1,),))
    assert not plan(AURORA, HOSTS, [one, other])["a"].shared
    sharing = AURORA.model_copy(update={"oversubscribe": True})
    found = plan(sharing, HOSTS, [one, Request("b", (0,), 1, 1, cores=((1,),))])
    assert found["a"].cores == found["b"].cores == ((1,),)
    assert found["a"].shared


# Points


def test_two_ranks_each_on_two_cores_share_them_pairwise():
    placements = place(point((2, 1), (2, 1), 2, oversubscribe=True), ("n1", "n2"))
    assert placements["simulation"].cores == placements["training"].cores == ((0,), (1,))
    assert placements["training"].shared


def test_a_refusal_says_what_is_asked_and_what_there_is():
    with pytest.raises(
        ImpossiblePlacement,
        match=r"^Point backend~.* asks for 4 cores.*simulation 2 x 1, training 2 x 1.*has 2 for ranks",
    ):
        place(point((2, 1), (2, 1), 2), ("n1", "n2"))


def test_too_many_gpus_are_refused():
    wanted = {"ranks_per_node": 4, "gpus_per_rank": 2}
    with pytest.raises(ImpossiblePlacement, match=r"16 GPUs per node \(simulation 8, training 8\).*has 12 \(0.0, 0.1,"):
        place(point(wanted, wanted, AURORA), ("n1", "n2"))
    with pytest.raises(ImpossiblePlacement, match=r"has 0 \(none; gpus in system.yaml\)"):
        place(point(wanted, wanted, 64), ("n1", "n2"))


def test_another_number_of_nodes_than_the_points_is_refused():
    with pytest.raises(ImpossiblePlacement, match="is for 2 nodes, but 1 are there: n1"):
        place(point((1, 1), (1, 1), 4), ("n1",))


@pytest.mark.parametrize(
    ("layout", "nodes", "simulation", "training", "expected"),
    [
        ("beside", 3, "all", "all", ("abc", "abc")),
        ("beside", 3, 2, 2, ("ab", "ab")),
        ("beside", 4, 0.5, 0.5, ("ab", "ab")),
        ("beside", 3, ["c", 0], ["c", 0], ("ac", "ac")),
        ("apart", 4, "all", "all", ("ab", "cd")),
        ("apart", 3, "all", 1, ("bc", "a")),
        ("apart", 4, 0.25, "all", ("a", "bcd")),
        ("apart", 4, 1, 1, ("a", "b")),
        ("apart", 4, [3], 2, ("d", "ab")),
        ("apart", 3, ["b"], "all", ("b", "ac")),
        ("apart", 3, ["c", "a"], ["b"], ("ac", "b")),
    ],
)
def test_nodes_of_the_components_in_the_order_of_the_allocation(layout, nodes, simulation, training, expected):
    sizes = [len(each) for each in expected]
    ranks = {"simulation": sizes[1], "training": sizes[0]}  # so that both have as many
    if layout == "beside":
        ranks = dict.fromkeys(ranks, 1)
    wanted = point(
        {"nodes": simulation, "ranks_per_node": ranks["simulation"]},
        {"nodes": training, "ranks_per_node": ranks["training"]},
        8,
        layout=layout,
        nodes=nodes,
    )
    placements = place(wanted, tuple("abcd"[:nodes]))
    assert tuple("".join(placements[name].hosts) for name in ("simulation", "training")) == expected
    assert placements["simulation"].ranks == placements["training"].ranks == wanted.ranks_of("simulation")


def test_a_node_that_is_not_there_is_named():
    with pytest.raises(ImpossiblePlacement, match=r"simulation.nodes names z, but the nodes of the point are a, b"):
        place(point({"nodes": ["z"]}, {"nodes": ["z"]}, 4), ("a", "b"))
    with pytest.raises(ImpossiblePlacement, match=r"simulation.nodes names a node twice, by number and by name"):
        place(point({"nodes": ["a", 0]}, {"nodes": ["a", 0]}, 4), ("a", "b"))


# The server


def server_of(backend="redis", cores=8, hosts="abcd", *, each=None, **changes):
    each = each or {}
    wanted = point(each, each, cores, backend=backend, nodes=len(hosts), **changes)
    return place(wanted, tuple(hosts))["server"]


def test_a_server_with_a_process_that_works_has_a_core_of_its_own():
    assert server_of().hosts == ("a",)
    assert server_of().cores == ((2,),)
    assert server_of("filesystem").cores == ((),)
    assert server_of(server={"type": "redis", "io_threads": 3}).cores == ((2, 3, 4),)
    assert server_of(staging={"server_cores": 2}).cores == ((2, 3),)
    assert server_of(staging={"server_cores": 0}).cores == ((),)


def test_servers_on_every_node():
    assert server_of("redis-cluster").hosts == tuple("abcd")
    assert server_of("redis-cluster", server={"type": "redis-cluster", "masters": 6}).cores == ((2, 3),)
    assert server_of(server={"type": "redis", "per": "node"}).hosts == tuple("abcd")


def test_the_node_of_the_server():
    assert server_of(layout="apart", staging={"server_nodes": "simulation"}).hosts == ("a",)
    assert server_of(layout="apart", staging={"server_nodes": "training"}).hosts == ("c",)
    wanted = point({}, {}, 8, backend="redis", nodes=4, staging={"server_nodes": "own"})
    placements = place(wanted, tuple("abcd"))
    assert placements["server"].hosts == ("a",)
    assert placements["simulation"].hosts == placements["training"].hosts == tuple("bcd")
    assert placements["server"].cores == ((0,),)
    with pytest.raises(ValueError, match="own needs a node that no component uses"):
        point({"nodes": [0, 1]}, {"nodes": [0, 1]}, 8, staging={"server_nodes": "own"})


def test_a_server_without_a_core_left_shares_or_is_refused():
    assert server_of(cores=4, each={"ranks_per_node": 1}).cores == ((2,),)
    with pytest.raises(ImpossiblePlacement, match=r"asks for 5 cores.*server 1 x 1.*has 4"):
        server_of(cores=4, each={"ranks_per_node": 2})
    system = SystemConfig(cores=4, oversubscribe=True)
    found = place(point((2, 1), (2, 1), system, backend="redis"), ("a", "b"))
    assert found["server"].cores == ((),)  # wherever there is time
    assert found["server"].shared
    assert not found["simulation"].shared  # they are as if it were not there
    assert sorted(used(found["simulation"], found["training"])) == [0, 1, 2, 3]
