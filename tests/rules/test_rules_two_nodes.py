"""A point on two nodes, which are two names of this machine."""

import json
import platform
import re
import signal
from pathlib import Path

import psutil
import pytest
from experiment import ENDLESS, SMALL, Experiment

from simai_rules.launch.launcher import find_program

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
HOSTS = (platform.node(), "localhost")


def two_nodes(tmp_path, environment, hosts=HOSTS, backends=("filesystem",), options=None, **changes):
    """An experiment on the nodes `hosts`; `options` are those of its backends."""
    axes = {"axes": {"backend": list(backends), "elements": [1000]}}
    changes["backends"] = options or {}
    experiment = Experiment(tmp_path / "e", environment, nodes=2, system="system.yaml", sweep=axes, **changes)
    (experiment.folder / "system.yaml").write_text("name: two\noversubscribe: true\nhostfile: hosts\n")
    (experiment.folder / "hosts").write_text("".join(f"{host}\n" for host in hosts))
    return experiment


def point_of(experiment, backend="filesystem"):
    return experiment.results / f"backend~{backend}/elements~1000/nodes~2/repeat~0"


def ranks_of(point, component):
    return json.loads((point / f"{component}.capsule.json").read_text())["ranks"]


def check_beside(traces, tmp_path, backends, options=None):
    """Run a rank of each component on each node, and look where they were."""
    ranks = {name: SMALL[name] | {"ranks_per_node": 1} for name in ("simulation", "training")}
    experiment = two_nodes(tmp_path, traces.environment, backends=backends, options=options, **ranks)
    points = [point_of(experiment, backend) for backend in backends]
    events = [file for point in points for file in experiment.events(point)]
    code, output = experiment.run("--resources", "nodes=2", "--", *events)
    assert code == 0, output
    for point in points:
        for component in ("simulation", "training"):
            assert [rank["host"] for rank in ranks_of(point, component)] == list(HOSTS)
    assert traces.left_after(10) == []


def test_each_component_runs_on_its_own_half_of_the_nodes(traces, tmp_path):
    experiment = two_nodes(tmp_path, traces.environment, backends=["redis"], layout="apart")
    point = point_of(experiment, "redis")
    code, output = experiment.run("--resources", "nodes=2", "--", *experiment.events(point))
    assert code == 0, output
    info = json.loads((point / "point.json").read_text())
    assert (info["nodes"], info["layout"]) == (2, "apart")
    for component, host in zip(("simulation", "training"), HOSTS, strict=True):
        assert [rank["host"] for rank in ranks_of(point, component)] == [host] * 2
    assert traces.left_after(10) == []


def test_pairs_exchange_on_their_own_node(traces, tmp_path):
    check_beside(traces, tmp_path, ["node-local", "redis"], {"redis": {"per": "node"}})


@pytest.mark.faults
@pytest.mark.parametrize("keys", ["spread", "local"])
def test_pairs_exchange_through_what_all_nodes_share(traces, tmp_path, keys):
    check_beside(traces, tmp_path, ["filesystem", "redis", "redis-cluster"], {"redis-cluster": {"keys": keys}})


def test_a_node_that_no_name_server_knows_is_named(traces, tmp_path):
    experiment = two_nodes(tmp_path, traces.environment, [HOSTS[0], "no-such-node.invalid"], layout="apart")
    code, output = experiment.run("--resources", "nodes=2", "--", *experiment.events(point_of(experiment)))
    assert code != 0
    assert "no-such-node.invalid, of which no address is known" in output
    assert "Traceback" not in output
    assert traces.left_after(10) == []


# What is killed, and what the user is told


def rank_on_the_second_node(traces):
    """A training rank there."""
    for pid, command in traces.commands().items():
        if "components.entry" in " ".join(command) and "training" in command and "python" in Path(command[0]).name:
            process = psutil.Process(pid)
            if process.environ().get("SIMAI_NODE") == HOSTS[1]:
                return process
    raise AssertionError(traces.processes())


def python_of(traces, text):
    for pid, command in traces.commands().items():
        if text in " ".join(command) and "python" in Path(command[0]).name:
            return psutil.Process(pid)
    raise AssertionError(f"no Python with {text}: {traces.processes()}")


VICTIMS = {
    "failing rank": (rank_on_the_second_node, signal.SIGINT, r"rank [23] on localhost: interrupted"),
    # Hydra returns the signal of a rank of its own node, and 255 where that was another's; its log names the node.
    "rank": (rank_on_the_second_node, signal.SIGKILL, "training: (a rank|the launcher)"),
    "keeper": (lambda traces: python_of(traces, "lifecycle.keeper"), signal.SIGKILL, "the node localhost was lost"),
    "serve": (lambda traces: python_of(traces, "simai-rules serve"), signal.SIGKILL, "its process was killed"),
    "snakemake": (lambda traces: python_of(traces, "-m snakemake --profile"), signal.SIGKILL, ""),
}


@pytest.mark.parametrize(
    "victim",
    ["failing rank", *(pytest.param(name, marks=pytest.mark.faults) for name in VICTIMS if name != "failing rank")],
)
def test_nothing_is_left_on_any_node(traces, tmp_path, victim):
    experiment = two_nodes(tmp_path, traces.environment, backends=["node-local"], training=ENDLESS)
    point = point_of(experiment, "node-local")
    snakemake = experiment.start("--resources", "nodes=2", "--", *experiment.events(point))
    experiment.wait_until_coupled(point)
    traces.note_segments()
    find, number, reason = VICTIMS[victim]
    process = find(traces)
    process.send_signal(number)
    # torch, while it is being imported, swallows an interruption; whoever waits presses Ctrl-C again.
    while number == signal.SIGINT and process in psutil.wait_procs([process], timeout=5)[1]:
        process.send_signal(number)
    snakemake.communicate(timeout=90)
    assert snakemake.returncode != 0
    assert traces.left_after(15) == []
    reasons = [json.loads(file.read_text())["reason"] for file in (point / "failures").glob("*.json")]
    assert any(re.search(reason, one) for one in reasons), reasons
