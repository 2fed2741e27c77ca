"""Small kernels of every name, on the devices that are there, and ranks to run them on."""

import os
import subprocess
import sys
from functools import cache
from typing import get_args

import numpy as np
import pytest

from simai_rules.config.kernels import HALF, ComputeName, KernelConfig, KernelDtype
from simai_rules.errors import UserError
from simai_rules.kernels.devices import open_device
from simai_rules.kernels.registry import make
from simai_rules.launch.launcher import find_program

COMPUTE = get_args(ComputeName)
DTYPES = tuple(dtype for dtype in get_args(KernelDtype) if dtype not in HALF)
SHAPES = {"Stencil": (5, 6, 4)}


def kernel(name, data_size=None, dtype="float32", seed=1, comm=None, claim=None, **options):
    size = list(data_size or SHAPES.get(name, (12, 8)))
    config = KernelConfig(name=name, data_size=size, dtype=dtype, **options)
    return make(config, np.random.default_rng(seed), comm, claim)


@cache
def missing(device):
    """Return why `device` is not there, or ""."""
    try:
        open_device(device)
    except UserError as error:
        return str(error)
    return ""


WANTED = ("cuda", "xpu", "sycl-cpu")
FOUND = [
    pytest.param(device, marks=() if device == "sycl-cpu" else pytest.mark.gpu)
    for device in WANTED
    if not missing(device)
]
DEVICES = ["cpu", *FOUND]
MPIEXEC = find_program("mpiexec")


def on_ranks(ranks, command, seconds=200):
    """Run Python with `command` on so many ranks of this machine; return the process that has ended."""
    if MPIEXEC is None:
        pytest.skip("no mpiexec here: pip install 'simai-rules[mpi]'")
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "FI_TCP_IFACE": "lo"}
    return subprocess.run(
        [str(MPIEXEC), "-launcher", "fork", "-n", str(ranks), sys.executable, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
