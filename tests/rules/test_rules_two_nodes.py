"""A point on two nodes, which are two names of this machine: each component on a node of its own."""

import json
import platform

import pytest
from experiment import Experiment

from simai_rules.launch.launcher import find_program

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")


def two_nodes(tmp_path, environment, hosts, **changes):
    """An experiment on the nodes `hosts`, with the simulation on the first and the training on the second."""
    experiment = Experiment(tmp_path / "e", environment, nodes=2, layout="apart", system="system.yaml", **changes)
    (experiment.folder / "system.yaml").write_text("name: two\noversubscribe: true\nhostfile: hosts\n")
    (experiment.folder / "hosts").write_text("".join(f"{host}\n" for host in hosts))
    return experiment


def point_of(experiment, backend):
    return experiment.results / f"backend~{backend}/elements~1000/nodes~2/repeat~0"


def test_each_component_runs_on_its_own_half_of_the_nodes(traces, tmp_path):
    hosts = [platform.node(), "localhost"]
    experiment = two_nodes(tmp_path, traces.environment, hosts)
    point = point_of(experiment, "filesystem")
    code, output = experiment.run("--resources", "nodes=2", "--", *experiment.events(point))
    assert code == 0, output
    info = json.loads((point / "point.json").read_text())
    assert (info["nodes"], info["layout"]) == (2, "apart")
    for component in ("simulation", "training"):
        capsule = json.loads((point / f"{component}.capsule.json").read_text())
        assert len(capsule["ranks"]) == 2  # half of the nodes, with two ranks each
    assert traces.left_after(10) == []


def test_a_node_that_no_name_server_knows_is_named(traces, tmp_path):
    experiment = two_nodes(tmp_path, traces.environment, [platform.node(), "no-such-node.invalid"])
    point = point_of(experiment, "filesystem")
    code, output = experiment.run("--resources", "nodes=2", "--", *experiment.events(point))
    assert code != 0
    assert "no-such-node.invalid, of which no address is known" in output
    assert "Traceback" not in output
    assert traces.left_after(10) == []
