"""The ledger: nodes are held by living processes only, and never twice."""

import json
import subprocess
import sys

import pytest

from simai_rules.errors import UserError
from simai_rules.launch.allocation import Allocation, Ledger, NoFreeNodes, allocation_of, state_folder
from simai_rules.process import Process


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def nothing(*_):
    pass


def test_local_allocation_is_this_machine():
    assert len(allocation_of(None).nodes) == 1


def test_a_host_file_names_each_node_once(tmp_path):
    file = tmp_path / "hosts"
    file.write_text("# first the node of the server\nlocalhost\n\n127.0.0.1  # by address\nlocalhost\n")
    allocation = allocation_of(str(file))
    assert allocation.nodes == ("localhost", "127.0.0.1")
    assert allocation.name == allocation_of(str(file)).name != allocation_of(None).name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("# nothing\n", "names no node"),
        ("localhost\nno-such-node.invalid\n" + "x" * 300, r"no-such-node.invalid, x+, of which no address is known"),
    ],
)
def test_a_host_file_that_is_of_no_use(tmp_path, content, message):
    file = tmp_path / "hosts"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message):
        allocation_of(str(file))


def test_nodes_are_taken_and_given_back():
    ledger = Ledger(Allocation("a", ("n1", "n2", "n3")), [Process.current()])
    assert ledger.take(2, 0, nothing, nothing) == ["n1", "n2"]
    assert ledger.take(1, 0, nothing, nothing) == ["n3"]
    ledger.give_back()
    assert ledger.take(3, 0, nothing, nothing) == ["n1", "n2", "n3"]


def test_too_large_a_wish_is_refused_at_once():
    with pytest.raises(NoFreeNodes, match=r"asks for 3 nodes; the allocation 'a' has 2 \(n1, n2\)"):
        Ledger(Allocation("a", ("n1", "n2")), [Process.current()]).take(3, 60, nothing, nothing)


def test_a_node_held_by_a_living_process_stays_taken_and_that_of_a_dead_one_is_free():
    ledger = Ledger(Allocation("a", ("n1",)), [Process.current()])
    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ledger.path.write_text(json.dumps({"n1": [list(Process.of(holder.pid))]}))
    told = []
    with pytest.raises(NoFreeNodes, match=str(holder.pid)):
        ledger.take(1, 0.3, told.append, nothing)
    assert len(told) == 1
    holder.kill()
    holder.wait()
    assert ledger.take(1, 0, nothing, nothing) == ["n1"]


def test_a_node_is_free_only_when_all_its_holders_have_ended():
    guardian = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    dead = [1, Process.current().start]
    ledger = Ledger(Allocation("a", ("n1",)), [Process.current()])
    ledger.path.write_text(json.dumps({"n1": [dead, list(Process.of(guardian.pid))]}))
    with pytest.raises(NoFreeNodes):
        ledger.take(1, 0.2, nothing, nothing)
    guardian.kill()
    guardian.wait()
    assert ledger.take(1, 0, nothing, nothing) == ["n1"]


def test_waiting_can_be_ended():
    ledger = Ledger(Allocation("a", ("n1",)), [Process.current()])
    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ledger.path.write_text(json.dumps({"n1": [list(Process.of(holder.pid))]}))

    def stop():
        raise UserError("told to end")

    try:
        with pytest.raises(UserError, match="told to end"):
            ledger.take(1, 60, nothing, stop)
    finally:
        holder.kill()
        holder.wait()


def test_a_ledger_cut_short_counts_as_empty():
    ledger = Ledger(Allocation("a", ("n1",)), [Process.current()])
    ledger.path.write_text('{"n1": [12')
    assert ledger.take(1, 0, nothing, nothing) == ["n1"]


def test_many_processes_never_hold_a_node_at_the_same_time(tmp_path):
    code = (
        "import tempfile, sys, time; tempfile.tempdir = sys.argv[1]\n"
        "from simai_rules.launch.allocation import *\n"
        "ledger = Ledger(Allocation('a', ('n1', 'n2')), [Process.current()])\n"
        "import os\n"
        "for _ in range(5):\n"
        "    node, = ledger.take(1, 60, lambda _: None, lambda: None)\n"
        "    flag = os.path.join(sys.argv[1], node)\n"
        "    os.close(os.open(flag, os.O_CREAT | os.O_EXCL))\n"
        "    time.sleep(0.01)\n"
        "    os.unlink(flag)\n"
        "    ledger.give_back()\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]


def test_state_folder_of_somebody_else_is_refused(own_state):
    folder = state_folder()
    folder.chmod(0o755)
    with pytest.raises(UserError, match="not a private folder"):
        state_folder()
    folder.rmdir()
    folder.symlink_to(own_state)
    with pytest.raises(UserError, match="not a private folder"):
        state_folder()
