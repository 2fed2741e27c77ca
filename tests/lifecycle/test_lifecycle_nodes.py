"""A run on two nodes, which are two names of this machine: its keeper, and what is left when parts of it are killed."""

import json
import os
import shutil
import signal
import socket
import time

import pytest
from two_nodes import HOSTS, ServeOnTwo

from simai_rules.config.system import SystemConfig
from simai_rules.launch.launcher import find_program
from simai_rules.lifecycle import keepers
from simai_rules.lifecycle.reports import up
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.staging.server import ServerFailed

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
KEEPER = ("-m simai_rules.lifecycle.keeper",)
PER_NODE = {"type": "redis", "per": "node"}


@pytest.fixture
def start(traces, tmp_path):
    started = []

    def starter(config, **options):
        started.append(ServeOnTwo(traces, tmp_path / "point", config, **options))
        return started[-1]

    yield starter
    for serve in started:
        serve.end()


def test_the_run_has_a_folder_with_a_guardian_on_each_node_and_none_after_it(start, traces):
    serve = start({"type": "node-local"})
    info = serve.wait_for("ready")
    first, second = (RunFolder(type(serve.folder)(folder)) for folder in info.run_folders)
    assert first.run_id == second.run_id == info.run_id
    assert (first.index, second.index) == (0, 1)
    assert info.run_folder == str(first.folder)
    assert first.in_use()
    assert second.in_use()
    assert second.lease["hosts"] == list(HOSTS)
    assert "simai_rules.cli clean" in " ".join(first.lease["clean_others"])
    reports = list(serve.folder.glob("nodes-*"))
    assert [folder.stat().st_mode & 0o777 for folder in reports] == [0o700]
    assert {file.stat().st_mode & 0o777 for file in reports[0].iterdir()} == {0o600}
    serve.process.terminate()
    assert serve.process.wait(30) == 0
    assert traces.left() == []
    assert not list(serve.folder.glob("nodes-*"))
    assert serve.reasons() == {}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (KEEPER, "the node localhost was lost: its keeper ended"),
        (("mpiexec", *KEEPER), "the node localhost was lost: "),
    ],
    ids=["keeper", "launcher"],
)
def test_a_lost_node_is_named_and_nothing_is_left(start, traces, words, reason):
    serve = start({"type": "node-local"})
    serve.wait_for("ready")
    serve.process_of(*words).kill()
    assert reason in serve.wait_for("failed").reason
    assert serve.process.wait(30) == 1
    assert traces.left_after(10) == []
    assert reason in serve.reasons()["server"]


def test_reports_that_somebody_removes_are_the_cause(start, traces):
    serve = start({"type": "filesystem"})
    shutil.rmtree(serve.wait_for("ready").shared_folder)
    assert "somebody has removed" in serve.wait_for("failed").reason
    assert serve.process.wait(30) == 1
    assert traces.left_after(10) == []


def test_a_node_whose_keeper_and_guardian_are_killed_is_cleaned_too(start, traces):
    serve = start({"type": "node-local"})
    info = serve.wait_for("ready")
    guardian = serve.process_of("lifecycle.guardian", info.run_folders[1])
    guardian.kill()
    serve.process_of(*KEEPER).kill()
    assert "localhost" in serve.wait_for("failed").reason
    assert serve.process.wait(30) == 1
    assert traces.left() == []


def test_a_killed_server_leaves_nothing_on_any_node(start, traces):
    serve = start(PER_NODE)
    serve.wait_for("ready")
    serve.process.kill()
    assert traces.left_after(10) == []
    assert "its process was killed" in serve.wait_for("failed").reason
    assert serve.reasons() == {}  # no component was there to be disturbed, and no node was lost
    assert not list(serve.folder.glob("nodes-*"))


def test_where_all_of_the_first_node_is_killed_the_others_end(start, traces):
    serve = start(PER_NODE)
    info = serve.wait_for("ready")
    guardian = serve.process_of("lifecycle.guardian", f"run-{info.run_id}")
    guardian.kill()
    serve.process.kill()
    deadline = time.monotonic() + 20
    while traces.pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces.processes() == []
    again = start(PER_NODE)  # which removes what the first left on its own node
    again.wait_for("ready")
    assert f"removed what the dead run {info.run_id} had left" in again.log.read_text()
    again.process.terminate()
    again.process.wait(30)
    assert traces.left_after(10) == []


def test_a_server_is_where_it_is_placed(start, traces):
    serve = start({"type": "redis"}, layout="apart", staging={"server_nodes": "training"})
    info = serve.wait_for("ready")
    server = serve.process_of("redis-server", f":{info.address['port']}")
    assert server.cwd() == f"{info.run_folders[1]}/redis"
    if len(os.sched_getaffinity(0)) > 1:
        assert len(server.cpu_affinity()) == 1  # with a core of its own beside the training's
    server.kill()
    assert "on the node localhost: redis-server" in serve.wait_for("failed").reason
    assert serve.process.wait(30) == 1
    assert traces.left_after(10) == []


def test_a_part_of_the_server_that_dies_on_another_node_is_named(start):
    serve = start(PER_NODE)
    info = serve.wait_for("ready")
    serve.process_of("redis-server", str(info.address["nodes"][1]["port"])).kill()
    reason = serve.wait_for("failed").reason
    assert "on the node localhost: redis-server" in reason
    assert "was ended by signal 9" in reason
    assert "on the node localhost" in serve.reasons()["server"]


def test_a_node_that_the_launcher_cannot_reach(start, traces, tmp_path):
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host 192.0.2.7 port 22: No route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    path = {"PATH": f"{ssh.parent}{os.pathsep}{os.environ['PATH']}"}
    serve = start({"type": "filesystem"}, hosts=(HOSTS[0], "192.0.2.7"), environment=path, staging={"start_timeout": 3})
    reason = serve.wait_for("failed").reason
    assert "192.0.2.7" in reason
    assert "No route to host" in reason
    assert serve.process.wait(30) == 1
    assert traces.left_after(10) == []


def test_a_part_that_cannot_start_on_another_node_is_not_waited_for(start, traces):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        staging = {"start_timeout": 600, "server_nodes": "training"}
        serve = start({"type": "redis", "port": port}, layout="apart", staging=staging)
        reason = serve.wait_for("failed").reason
    assert f"on the node localhost: port {port} on 127.0.0.1 is in use by another program" in reason
    assert serve.process.wait(30) == 1
    assert traces.left_after(10) == []


def test_a_launcher_that_says_nothing_has_a_deadline(start, traces, tmp_path):
    launcher = tmp_path / "mpiexec"
    launcher.write_text("#!/bin/sh\nexec sleep 600\n")
    launcher.chmod(0o755)
    serve = start(
        {"type": "filesystem"}, launcher={"command": str(launcher), "flavour": "hydra"}, staging={"start_timeout": 2}
    )
    reason = serve.wait_for("failed").reason
    assert "1 of 2 nodes (localhost) did not start in time (staging.start_timeout)" in reason
    serve.process.wait(40)
    assert traces.left_after(10) == []


def test_a_node_that_hangs_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(keepers, "BEAT_S", 0.0)
    run = RunFolder(tmp_path / "run-0123456789abcdef")
    nodes = keepers.Keepers(run, tmp_path / "server.json", ["n0", "n1", "n2"], SystemConfig(), lambda: None)
    nodes.reports.folder.mkdir()
    for index in (1, 2):
        nodes.reports.write(up(index), {})

    def look(times, living):
        for time_ns in times:
            for index in living:
                os.utime(nodes.reports.folder / up(index), ns=(time_ns, time_ns))
            nodes.check()

    look(range(20), [1, 2])
    with pytest.raises(ServerFailed, match="the node n1 was lost: it has shown no life"):
        look(range(20, 40), [2])


def test_a_failure_on_another_node_is_seen_on_the_first(start):
    serve = start({"type": "filesystem"})
    info = serve.wait_for("ready")
    first, second = (RunFolder(type(serve.folder)(folder)) for folder in info.run_folders)
    second.fail("training", "rank 3 on localhost: no memory")
    assert [(failure.component, failure.reason) for failure in first.failures()] == [
        ("training", "rank 3 on localhost: no memory")
    ]
    serve.process.send_signal(signal.SIGTERM)
    serve.process.wait(30)
    noted = json.loads((serve.folder / "failures/training.json").read_text())
    assert noted["reason"] == "rank 3 on localhost: no memory"
