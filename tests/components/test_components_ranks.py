"""Which rank a process is, and the cores it is bound to."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from coupled_runs import finish, remove_shared_memory, start_ranks

from simai_rules.components.ranks import Ranks, note_shared_memory

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


def test_it_is_bound_where_the_launcher_says_so():
    last = cores()[-1]
    [[*_, bound, affinity, mpi, _]] = json.loads(alone(SHOW, SIMAI_CORES=json.dumps([[last]])).stdout)
    assert bound == affinity == [last]
    assert not mpi


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


def test_without_the_launchers_local_rank_mpi_is_asked():
    program = "import os; os.environ.pop('MPI_LOCALRANKID')\n" + SHOW
    [(code, output)] = finish(start_ranks([sys.executable, "-c", program], 2))
    assert code == 0, output
    assert [rank[2] for rank in json.loads(output.splitlines()[0])] == [0, 1]


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


@pytest.mark.parametrize(
    ("placed", "message"),
    [([], "has no cores: SIMAI_CORES names those of 0 ranks"), ([[10_000]], r"cannot be bound to cores \[10000\]")],
)
def test_cores_that_cannot_be_had(monkeypatch, placed, message):
    from simai_rules.errors import UserError

    monkeypatch.delenv("SIMAI_SIZE", raising=False)
    monkeypatch.setenv("SIMAI_CORES", json.dumps(placed))
    with pytest.raises(UserError, match=message):
        Ranks.from_environment()


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
