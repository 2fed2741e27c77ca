"""All that keeps kernels from being made is told at once, and nothing is allocated to find it out."""

import pytest
from kernel_making import on_ranks

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.check import check_kernels
from simai_rules.kernels.devices.host import Host

pytest.importorskip("mpi4py.MPI", reason="no MPI library here: pip install 'simai-rules[mpi]'", exc_type=ImportError)


def test_what_can_be_made_passes(tmp_path):
    pytest.importorskip("h5py")
    configs = [
        KernelConfig(name="FFT", data_size=[64, 64]),
        KernelConfig(name="AllToAll", data_size=[8]),
        KernelConfig(name="WriteNonMPI", folder=str(tmp_path)),
    ]
    check_kernels(configs, ranks=4)
    assert list(tmp_path.iterdir()) == []


def test_every_problem_is_told(tmp_path):
    configs = [
        KernelConfig(name="AXPY", data_size=[10**7, 10**7]),
        KernelConfig(name="AllToAll", data_size=[7]),
        KernelConfig(name="ReduceScatter", data_size=[8]),
        KernelConfig(name="no_such_module:f"),
        KernelConfig(name="FFT"),
    ]
    with pytest.raises(UserError) as raised:
        check_kernels(configs, ranks=4)
    first, *others = str(raised.value).splitlines()
    assert first == "3 problems with kernels:"
    assert "AXPY" in others[0]
    assert "kernel AllToAll: 4 ranks do not divide its 7 elements. 4 or 8 would do." in others[1]
    assert "no_such_module" in others[2]


def test_one_problem_is_one_line():
    with pytest.raises(UserError, match=r"^kernel AllToAll: 4 ranks .* would do\.$"):
        check_kernels([KernelConfig(name="AllToAll", data_size=[2])] * 3, ranks=4)


def test_a_device_that_is_not_there_is_told_once_with_all_who_need_it():
    configs = [KernelConfig(name=name, device="cuda:99") for name in ("FFT", "AXPY", "FFT")]
    with pytest.raises(UserError, match=r"^kernels FFT, AXPY: Device cuda"):
        check_kernels(configs)


AXPY_12_MB = KernelConfig(name="AXPY", data_size=[10**6])  # three arrays of float32


def test_kernels_that_fit_alone_but_not_together(monkeypatch):
    monkeypatch.setattr(Host, "memory", lambda self: 20 * 10**6)
    check_kernels([AXPY_12_MB])
    with pytest.raises(UserError) as raised:
        check_kernels([AXPY_12_MB, AXPY_12_MB])
    assert str(raised.value) == (
        "The operands of the kernels AXPY of one rank take 0.024 GB together, but this node has 0.02 GB of memory "
        "left. Give smaller data_sizes."
    )


def test_one_process_stands_for_several_ranks_of_a_node(monkeypatch, tmp_path):
    pytest.importorskip("h5py")
    monkeypatch.setattr(Host, "memory", lambda self: 20 * 10**6)
    check_kernels([AXPY_12_MB], ranks=8)  # one on each node
    with pytest.raises(UserError, match=r"AXPY of 2 ranks take 0\.024 GB .* put fewer ranks there\.$"):
        check_kernels([AXPY_12_MB], ranks=8, ranks_per_node=2)
    of_rank_0 = KernelConfig(name="WriteSingleRank", data_size=[3 * 10**6], folder=str(tmp_path))
    check_kernels([of_rank_0], ranks=8, ranks_per_node=8)


ON_RANKS = """
from mpi4py import MPI
from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels import check
from simai_rules.kernels.devices.host import Host
comm = MPI.COMM_WORLD
Host.memory = lambda self: (20 + comm.rank) * 10**6
try:
    check.check_kernels([KernelConfig(name="AXPY", data_size=[10**6])], comm)
except UserError as error:
    told = comm.gather(str(error))
    if comm.rank == 0:
        print("\\n".join(told))
"""


def test_ranks_that_share_a_node_share_its_memory():
    done = on_ranks(2, ["-c", ON_RANKS])
    expected = (
        "The operands of the kernels AXPY of 2 ranks take 0.024 GB together, but this node has 0.02 GB of memory left. "
        "Give smaller data_sizes, or put fewer ranks there."
    )
    assert done.stdout.splitlines() == [expected] * 2, done.stderr
