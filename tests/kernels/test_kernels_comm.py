"""The kernels of communication on real MPI ranks (comm_program.py), and alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_making import FOUND, kernel, on_ranks

from simai_rules.config.kernels import COMM
from simai_rules.errors import MissingProgram, UserError


@pytest.mark.parametrize("ranks", [2, 4])
def test_what_ranks_receive_is_what_numpy_says(ranks):
    done = on_ranks(ranks, [str(Path(__file__).with_name("comm_program.py"))])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tried"] == len(COMM) * 4 * 3 * 4
    assert result["communicators"] == 1  # one per run, not one per kernel or call
    assert result["nccl"] == 1


UNDIVIDED = """
import sys
import numpy as np
from mpi4py import MPI
from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.registry import make
for name, size in (("ReduceScatter", [5, 7]), ("AllToAll", [5]), ("WriteWithMPI", [7, 4])):
    try:
        folder = {"folder": "/tmp"} if name == "WriteWithMPI" else {}
        make(KernelConfig(name=name, data_size=size, **folder), np.random.default_rng(0), MPI.COMM_WORLD)
    except UserError as error:
        if MPI.COMM_WORLD.Get_rank() == 0:
            print(error)
"""


def test_ranks_that_do_not_divide_the_data():
    done = on_ranks(2, ["-c", UNDIVIDED])
    assert done.stdout.splitlines() == [
        "kernel ReduceScatter: 2 ranks do not divide its 35 elements. 34 or 36 would do.",
        "kernel AllToAll: 2 ranks do not divide its 5 elements. 4 or 6 would do.",
        "kernel WriteWithMPI: 2 ranks do not divide its 7 rows (the first number of data_size). 6 or 8 would do.",
    ], done.stderr


ALONE = """
import sys
import numpy as np
from simai_rules.config.kernels import COMM, KernelConfig
from simai_rules.kernels.registry import make
for name in sorted(COMM):
    made = make(KernelConfig(name=name, data_size=[4, 6]), np.random.default_rng(1))
    made()
    if name == "Halo":
        inner = made.block[1:-1, 1:-1]
        assert (made.block[0, 1:-1] == inner[-1]).all() and (made.block[1:-1, -1] == inner[:, 0]).all()
    else:
        assert (made.receive == made.send).all(), name
    assert (made.nbytes(), made.flops()) == (0, 0), name
    assert made.agree(5) == made.agree_least(5) == 5
print("all")
"""


def test_one_rank_alone_exchanges_with_itself():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "all\n", done.stderr


ON_A_DEVICE = """
import sys
import numpy as np
from mpi4py import MPI
from simai_rules.config.kernels import COMM, KernelConfig
from simai_rules.kernels.registry import make
comm = MPI.COMM_WORLD
for gpu_aware in [False, True][: 2 if sys.argv[1] == "sycl-cpu" else 1]:
    for name in sorted(COMM):
        options = {"name": name, "data_size": [4, 6], "dtype": "complex64"}
        there = KernelConfig(**options, device=sys.argv[1], gpu_aware=gpu_aware)
        ours, host = (make(one, np.random.default_rng(comm.rank), comm) for one in (there, KernelConfig(**options)))
        for _ in range(3):
            ours()
            host()
        result = "block" if name == "Halo" else "receive"
        np.testing.assert_allclose(ours.device.to_host(getattr(ours, result)), getattr(host, result), rtol=1e-6)
        assert ours.device_ns > 0
if comm.rank == 0:
    print("the same")
"""


@pytest.mark.parametrize("device", FOUND or [pytest.param("", marks=pytest.mark.skip(reason="no device but the CPU"))])
def test_memory_of_a_device_travels_like_that_of_the_host(device):
    done = on_ranks(2, ["-c", ON_A_DEVICE, device])
    assert done.stdout == "the same\n", done.stderr


def test_without_mpi_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(MissingProgram, match=r"pip install 'simai-rules\[mpi\]'"):
        kernel("AllReduce", comm=Unconnected())


def test_nccl_without_a_gpu():
    with pytest.raises(UserError, match="CuPy"):
        kernel("AllReduce", device="cuda", library="nccl")


class Unconnected:
    """The communicator of two ranks that was made by an MPI which cannot be loaded again."""

    def Get_rank(self):  # noqa: N802
        return 0

    def Get_size(self):  # noqa: N802
        return 2


def test_only_collective_kernels_have_to_agree():
    made = kernel("AXPY")
    assert not made.collective
    assert made.agree(3) == made.agree_least(3) == 3
    assert isinstance(made.x, np.ndarray)
