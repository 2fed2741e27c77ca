"""The kernels by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simai_rules.config.kernels import KernelConfig
from simai_rules.kernels.base import Kernel, Setup, used_up
from simai_rules.kernels.comm import AllGather, AllReduce, AllToAll, Bcast, ReduceScatter, Ring
from simai_rules.kernels.copy import CopyDeviceToDevice, CopyDeviceToHost, CopyHostToDevice
from simai_rules.kernels.devices import open_device
from simai_rules.kernels.devices.device import Device
from simai_rules.kernels.elementwise import GenerateRandomNumber, InplaceCompute
from simai_rules.kernels.fft import FFT
from simai_rules.kernels.halo import Halo
from simai_rules.kernels.io import ReadNonMPI, ReadWithMPI, WriteNonMPI, WriteSingleRank, WriteWithMPI
from simai_rules.kernels.irregular import ScatterAdd, Sort, SpMV
from simai_rules.kernels.linear import AXPY, MatMulGeneral, MatMulSimple2D
from simai_rules.kernels.node import local_rank
from simai_rules.kernels.own import Own
from simai_rules.kernels.stencil import Stencil

_COMPUTE = (
    MatMulSimple2D,
    MatMulGeneral,
    FFT,
    AXPY,
    InplaceCompute,
    GenerateRandomNumber,
    ScatterAdd,
    Stencil,
    SpMV,
    Sort,
)
_IO = (WriteSingleRank, WriteNonMPI, WriteWithMPI, ReadNonMPI, ReadWithMPI)
_COMM = (AllReduce, AllGather, Bcast, ReduceScatter, AllToAll, Halo, Ring)
_COPY = (CopyHostToDevice, CopyDeviceToHost, CopyDeviceToDevice)
KERNELS: dict[str, type[Kernel]] = {kernel.__name__: kernel for kernel in (*_COMPUTE, *_IO, *_COMM, *_COPY)}


def kernel_class(config: KernelConfig) -> type[Kernel]:
    """Return the class of the kernel that `config` names."""
    return Own if config.own else KERNELS[config.name]


def open_on(config: KernelConfig, comm: Any | None) -> Device:
    """Return the device of a kernel on this rank of `comm`; raises what open_device raises."""
    return open_device(config.device, 0 if config.device == "cpu" else local_rank(comm))


def make(
    config: KernelConfig,
    rng: np.random.Generator,
    comm: Any | None = None,
    claim: Callable[[Path], None] | None = None,
) -> Kernel:
    """Return the kernel that `config` describes, its operands filled by `rng`.

    comm: the mpi4py communicator of all ranks of the component, None where there is one alone. Making a collective
    kernel is itself a collective call, and so is making the first one on a device. claim: called with the path of each
    folder that is about to be made and has to go with the run.

    Raises UserError where it cannot be made: the device is not there or cannot compute with the dtype, the operands are
    larger than its memory, the ranks do not divide the data, a package is missing (MissingProgram), or the import path
    of a kernel of the user's own leads nowhere.
    """
    device = open_on(config, comm)
    try:
        return kernel_class(config)(Setup(config, rng, device, comm, claim))
    except device.no_room as error:
        raise used_up(config.name, device, error) from error
