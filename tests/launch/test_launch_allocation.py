"""The nodes at hand, and the ledger: nodes are held by living processes only, and never twice."""

import itertools
import json
import os
import platform
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simai_rules.config.system import SystemConfig
from simai_rules.errors import UserError
from simai_rules.launch.allocation import Allocation, Ledger, NoFreeNodes, allocation_of, state_folder
from simai_rules.launch.here import has_address_of_this_machine, is_here, this_node
from simai_rules.launch.nodelist import expand_nodelist
from simai_rules.process import Process


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("PBS_", "SLURM", "SIMAI_"))]:
        monkeypatch.delenv(name)
    return tmp_path


def nothing(*_):
    pass


def of_hostfile(file):
    return allocation_of(SystemConfig(hostfile=str(file)))


def test_without_a_job_the_allocation_is_this_machine():
    assert allocation_of(SystemConfig()) == Allocation("local", (platform.node(),))


def test_a_host_file_names_each_node_once(tmp_path):
    file = tmp_path / "hosts"
    file.write_text("# first the node of the server\nlocalhost\n\n127.0.0.1  # by address\nlocalhost\n")
    allocation = of_hostfile(file)
    assert allocation.nodes == ("localhost", "127.0.0.1")
    assert allocation.name == of_hostfile(file).name != allocation_of(SystemConfig()).name


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
        of_hostfile(file)


def test_a_host_file_of_another_machine_is_not_looked_up_to_its_end(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("simai_rules.launch.allocation._resolves", lambda node: asked.append(node))
    (tmp_path / "hosts").write_text("".join(f"n{number}\n" for number in range(10_000)))
    with pytest.raises(UserError, match="names n0, n1, n2, n3, of which no address"):
        of_hostfile(tmp_path / "hosts")
    assert asked == ["n0", "n1", "n2", "n3"]


def test_the_nodes_of_a_pbs_job(tmp_path, monkeypatch):
    file = tmp_path / "nodefile"
    file.write_text(f"{platform.node()}\n{platform.node()}\nlocalhost\nlocalhost\n")
    monkeypatch.setenv("PBS_NODEFILE", str(file))
    names = set()
    for job in ("7.server", "8.server"):
        monkeypatch.setenv("PBS_JOBID", job)
        assert allocation_of(SystemConfig()).nodes == (platform.node(), "localhost")
        names.add(allocation_of(SystemConfig()).name)
    assert len(names) == 2  # a ledger of its own for each job
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1\n")
    assert of_hostfile(hosts).nodes == ("127.0.0.1",)  # what the user names goes before it
    file.unlink()
    with pytest.raises(UserError, match=r"nodefile \(\$PBS_NODEFILE\) cannot be read: No such file"):
        allocation_of(SystemConfig())


def test_the_nodes_of_a_slurm_job_need_no_address(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NODELIST", "no-such-node[2-3],no-such-node1")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    allocation = allocation_of(SystemConfig())
    assert allocation.nodes == ("no-such-node2", "no-such-node3", "no-such-node1")
    assert allocation.name.startswith("slurm-")


def test_node_lists_as_slurm_writes_them():
    assert expand_nodelist("n[1-4,7],x[001-003]-y[1-2]") == (
        *("n1", "n2", "n3", "n4", "n7"),
        *("x001-y1", "x001-y2", "x002-y1", "x002-y2", "x003-y1", "x003-y2"),
    )
    assert expand_nodelist("login,nid[00098-00101]") == ("login", "nid00098", "nid00099", "nid00100", "nid00101")
    assert expand_nodelist("n[8-11]") == ("n8", "n9", "n10", "n11")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n[1-",
        "n[3-1]",
        "n[a-b]",
        "n[]",
        "n1,",
        ",n1",
        "n1,,n2",
        "n[1]]",
        "n[1-999999999]",
        "n[1-999][1-999]",
        "a b",
    ],
)
def test_what_is_no_node_list_is_named(text):
    with pytest.raises(UserError, match="list of nodes"):
        expand_nodelist(text)


widths = st.integers(1, 4)
ranges = st.builds(
    lambda first, more, width: (first, first + more, width), st.integers(0, 120), st.integers(0, 5), widths
)
plain = st.from_regex(r"[a-z][a-z0-9-]{0,3}", fullmatch=True)


@given(
    st.lists(
        st.tuples(plain, st.lists(st.lists(ranges, min_size=1, max_size=3), max_size=2), plain), min_size=1, max_size=3
    )
)
def test_every_node_list_is_what_counting_gives(names):
    """Written out by the text and counted independently by the numbers, with each width as a printf would pad it."""
    texts, expected = [], []
    for before, brackets, after in names:
        inside = [
            ",".join(f"{a:0{width}}-{b:0{width}}" if b > a else f"{a:0{width}}" for a, b, width in bracket)
            for bracket in brackets
        ]
        texts.append(before + "".join(f"[{text}]" for text in inside) + after)
        numbers = [[f"{n:0{width}}" for a, b, width in bracket for n in range(a, b + 1)] for bracket in brackets]
        expected += [before + "".join(chosen) + after for chosen in itertools.product(*numbers)]
    assert expand_nodelist(",".join(texts)) == tuple(dict.fromkeys(expected))


def test_this_node_is_found_by_what_a_launch_says_then_by_name_then_by_address(monkeypatch):
    here = platform.node()
    assert this_node(["elsewhere.invalid", here]) == here
    assert (
        this_node(["elsewhere.invalid", f"{here.partition('.')[0]}.some.domain"])
        == f"{here.partition('.')[0]}.some.domain"
    )
    assert this_node(["elsewhere.invalid", "localhost"]) == "localhost"
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    assert this_node(["n1", "n2", here]) == "n2"
    assert this_node(["n1", here]) == here
    monkeypatch.setenv("SIMAI_NODE", "n1")
    assert this_node(["n1", "n2", here]) == "n1"


def test_a_process_outside_of_the_allocation_is_told(monkeypatch):
    # 192.0.2.0/24 is for documentation: no machine has such an address.
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("192.0.2.1", 0))]
    )
    assert not has_address_of_this_machine("other")
    assert not is_here("other")
    with pytest.raises(UserError, match=r"none of the nodes other, another, neither by name nor by address"):
        this_node(["other", "another"])


def test_nodes_are_taken_and_given_back():
    ledger = Ledger(Allocation("a", ("n1", "n2", "n3")), [Process.current()])
    assert ledger.take(2, 0, nothing, nothing) == ["n1", "n2"]
    assert ledger.take(1, 0, nothing, nothing) == ["n3"]
    ledger.give_back()
    assert ledger.take(3, 0, nothing, nothing) == ["n1", "n2", "n3"]


def test_the_node_that_this_runs_on_is_the_first():
    allocation = Allocation("a", ("n1", "n2", "n3"))
    other, ledger = Ledger(allocation, [Process(os.getppid(), 1)]), Ledger(allocation, [Process.current()])
    assert ledger.take(2, 0, nothing, nothing, first="n2") == ["n2", "n3"]
    with pytest.raises(NoFreeNodes, match="1 free nodes were not to be had within 0 s: 0 are free"):  # n1 is of no use
        other.take(1, 0, nothing, nothing, first="n2")
    with pytest.raises(NoFreeNodes, match=r"has from n2 on, where this runs, 2 \(n2, n3\).*on its first node"):
        ledger.take(3, 60, nothing, nothing, first="n2")


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
