"""Kernels of all families in the iterations of a simulation of several ranks, and what its events say of them."""

import json

import pytest
from kernel_making import on_ranks

pytest.importorskip("h5py", reason="h5py is not installed: pip install 'simai-rules[hdf5]'")

PROGRAM = """
import json, sys
from mpi4py import MPI
from simai_rules.components.simulation import Simulation
from simai_rules.events.recorder import Recorder

comm = MPI.COMM_WORLD
recorder = Recorder("simulation", comm.rank, "here")
kernels = [
    {"name": "AllReduce", "data_size": [1000], "run_time": {"normal": {"mean": 0.004, "std": 0.001}}},
    {"name": "Halo", "data_size": [6, 5, 4], "run_count": {"normal": {"mean": 6, "std": 3}}, "dtype": "float64"},
    {"name": "WriteNonMPI", "data_size": [100, 10], "folder": sys.argv[1], "run_count": 2},
    {"name": "AXPY", "data_size": [1000], "run_count": 3},
]
claimed = []
simulation = Simulation("sim", rank=comm.rank, comm=comm, claim=claimed.append, recorder=recorder)
simulation.init_from_dict({"kernels": kernels, "imbalance": [1.0, 2.0]})
simulation.run(4)
there = [path.is_dir() for path in claimed]
comm.Barrier()
simulation.close()
rows = comm.gather(recorder.columns())
there = comm.gather((there, [path.exists() for path in claimed]))
if comm.rank == 0:
    print(json.dumps({"rows": rows, "there": there}))
"""


def test_ranks_call_what_they_do_together_equally_often(tmp_path):
    done = on_ranks(2, ["-c", PROGRAM, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["there"] == [[[True], [False]]] * 2
    assert list(tmp_path.iterdir()) == []

    def of(rank, kernel, column):
        rows = result["rows"][rank]
        return [value for name, value in zip(rows["kernel"], rows[column], strict=True) if name == kernel]

    for kernel in ("AllReduce", "Halo"):
        assert of(0, kernel, "calls") == of(1, kernel, "calls")
        assert len(of(0, kernel, "calls")) == 4
    assert len(set(of(0, "Halo", "calls"))) > 1
    assert (of(0, "AXPY", "calls"), of(1, "AXPY", "calls")) == ([3] * 4, [6] * 4)  # the imbalance
    for rank in range(2):
        times = zip(of(rank, "AXPY", "work_ns"), of(rank, "AXPY", "duration_ns"), strict=True)
        assert all(0 < work <= whole for work, whole in times)
        assert of(rank, "AXPY", "flops") == [calls * 2000 for calls in of(rank, "AXPY", "calls")]
        assert of(rank, "WriteNonMPI", "nbytes") == [calls * 4000 for calls in of(rank, "WriteNonMPI", "calls")]
        assert of(rank, "AllReduce", "nbytes") == [calls * 4000 for calls in of(rank, "AllReduce", "calls")]
        assert set(of(rank, "AXPY", "device_ns")) == {0}


WRONG = """
import sys
from mpi4py import MPI
from simai_rules.components.simulation import Simulation
from simai_rules.errors import UserError
comm = MPI.COMM_WORLD
simulation = Simulation("sim", rank=comm.rank, comm=comm)
names = [{"name": "AllToAll", "data_size": [3]}, {"name": "nowhere:f"}, {"name": "FFT", "device": "cuda:99"}]
try:
    simulation.init_from_dict({"kernels": names})
except UserError as error:
    if comm.rank == 0:
        print(error)
"""


def test_all_that_is_wrong_is_told_before_anything_runs():
    done = on_ranks(2, ["-c", WRONG])
    first, *others = done.stdout.splitlines()
    assert first == "3 problems with kernels:", done.stderr
    assert "AllToAll: 2 ranks do not divide its 3 elements. 2 or 4 would do." in others[0]
    assert "module nowhere cannot be imported" in others[1]
    assert "cuda" in others[2]
