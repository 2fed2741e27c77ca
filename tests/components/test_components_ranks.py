"""Which rank a process is, the node it is on, and the others that it joins."""

import json
import os
import platform
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from coupled_runs import finish, remove_shared_memory, start_ranks

from simai_rules.components.ranks import note_shared_memory
from simai_rules.config.system import LauncherConfig
from simai_rules.launch.launcher import find_launcher, rank_environment
from simai_rules.launch.placement import Placement

SHOW = """
import json, os, sys
from simai_rules.components.ranks import Ranks
ranks = Ranks.from_environment()
mpi = "mpi4py.MPI" in sys.modules
heavy = [name for name in ("numpy", "torch") if name in sys.modules]
mine = [ranks.rank, ranks.size, ranks.local_rank, ranks.host, ranks.cores, sorted(os.sched_getaffinity(0)), mpi, heavy]
every = ranks.comm.gather(mine) if ranks.comm else [mine]
if ranks.rank == 0:
    print(json.dumps(every))
ranks.finalize()
"""
FAIL = """
import sys
from simai_rules.components.ranks import Ranks
from simai_rules.errors import UserError
try:
    Ranks.from_environment()
except UserError as error:
    sys.exit(f"told: {error}")
"""


def alone(program, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "SIMAI_"))}
    return subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, timeout=60
    )


def cores():
    return sorted(os.sched_getaffinity(0))


def test_a_process_of_its_own_loads_no_mpi_and_keeps_its_cores():
    [[rank, size, local, host, bound, affinity, mpi, heavy]] = json.loads(alone(SHOW).stdout)
    assert (rank, size, local, host, bound) == (0, 1, 0, os.uname().nodename, [])
    assert affinity == cores()
    assert not mpi
    assert heavy == []


def test_ranks_of_a_launcher():
    last = cores()[-1]
    placed = [[cores()[0]], [last], cores()]
    process = start_ranks([sys.executable, "-c", SHOW], 3, SIMAI_CORES=json.dumps(placed))
    [(code, output)] = finish(process)
    assert code == 0, output
    every = json.loads(output.splitlines()[0])
    assert [rank[:3] for rank in every] == [[0, 3, 0], [1, 3, 1], [2, 3, 2]]
    assert [rank[4] for rank in every] == [rank[5] for rank in every] == placed
    assert all(rank[6] for rank in every)


def test_ranks_know_the_names_of_their_nodes_which_may_be_one_machine():
    hosts = (platform.node(), "localhost")
    placement = Placement("simulation", hosts, ((), ()), shared=False)
    ended = subprocess.run(
        find_launcher(LauncherConfig()).command(placement, [sys.executable, "-c", SHOW]),
        env=os.environ | rank_environment(placement),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    expected = [[rank, 4, rank % 2, hosts[rank // 2]] for rank in range(4)]
    assert [rank[:4] for rank in json.loads(ended.stdout.splitlines()[0])] == expected


@pytest.mark.parametrize("first", ["1", "none"])
def test_one_rank_can_end_all(first, tmp_path):
    program = f"""
import os, time
first = {first!r}
from pathlib import Path
from simai_rules.components.ranks import Ranks, end_all_ranks
if os.environ["PMI_RANK"] == first:
    end_all_ranks(Path({str(tmp_path)!r}))  # while the other one initializes MPI
if Ranks.from_environment().rank == 1:
    end_all_ranks(Path({str(tmp_path)!r}))
time.sleep(600)
"""
    [(code, _)] = finish(start_ranks([sys.executable, "-c", program], 2), seconds=60)
    assert code != 0
    assert remove_shared_memory(tmp_path)


def test_a_launcher_of_another_mpi():
    ended = alone(FAIL, SIMAI_SIZE="2")  # as if each rank had found itself alone in its world
    assert ended.returncode == 1
    assert "told: 2 ranks were started, but MPI knows of 1: the launcher and mpi4py belong to different" in ended.stderr


def test_shared_memory_is_noted(tmp_path):
    note_shared_memory(tmp_path)
    assert (tmp_path / "segments" / str(os.getpid())).read_text() == ""
    theirs = f"/dev/shm/simai-test-{uuid.uuid4().hex}"
    program = f"""
import mmap
from pathlib import Path
from simai_rules.components.ranks import Ranks, note_shared_memory
def use(path):
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)
before = use({theirs!r} + "-1")
ranks = Ranks.from_environment()
after = use({theirs!r} + "-2")
note_shared_memory(Path({str(tmp_path)!r}))
ranks.finalize()
"""
    others = [Path(f"{theirs}-{number}") for number in (1, 2)]
    for path in others:
        path.write_bytes(bytes(4096))
    try:
        [(code, output)] = finish(start_ranks([sys.executable, "-c", program], 2))
    finally:
        for path in others:
            path.unlink()
    assert code == 0, output
    noted = {line for file in (tmp_path / "segments").iterdir() for line in file.read_text().splitlines()}
    assert noted
    assert all(line.startswith(("/dev/shm/", "/tmp/hydra_hwloc_xmlfile_")) for line in noted)
    assert not any(line.startswith(theirs) for line in noted)  # what other programs have made, and a rank uses
    assert not any(Path(line).exists() for line in noted)  # after an orderly end MPI has removed them itself
