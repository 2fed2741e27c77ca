"""All that keeps kernels from being made is told at once, and nothing is allocated to find it out."""

import os

import pytest

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.check import check_kernels

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


def test_kernels_that_fit_alone_but_not_together():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    elements = memory // 12 // 2 + 10**6  # AXPY holds three arrays of float32
    one = KernelConfig(name="AXPY", data_size=[elements])
    check_kernels([one])
    with pytest.raises(UserError, match=r"the kernels AXPY, AXPY take .* GB together, but this node has"):
        check_kernels([one, one])
