"""What every kernel is: operands that are allocated and filled once, and a call that is the work alone."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simai_rules.config.kernels import KernelConfig, undivided
from simai_rules.errors import UserError
from simai_rules.kernels.devices.device import Device

HostArray = NDArray[Any]


@dataclass(frozen=True)
class Setup:
    """What a kernel is made from.

    Attributes: config; rng, which fills its operands; device, where they are; comm, the mpi4py communicator of all
    ranks of the component, or None for a process that no MPI launcher has started; claim, called with the path of each
    folder that is about to be made and has to go with the run; expected, the number of ranks that there will be, where
    a kernel is only checked.
    """

    config: KernelConfig
    rng: np.random.Generator
    device: Device
    comm: Any | None = None
    claim: Callable[[Path], None] | None = None
    expected: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The config's data_size."""
        return tuple(self.config.data_size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The config's dtype."""
        return np.dtype(self.config.dtype)

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return 0 if self.comm is None else int(self.comm.Get_rank())

    @property
    def ranks(self) -> int:
        """How many ranks there are."""
        return self.expected or (1 if self.comm is None else int(self.comm.Get_size()))


class Kernel(ABC):
    """One kernel on one device; calling it does the work once, on operands that were made with it, and waits for it.

    `config.data_size` is the shape of the operands, `config.dtype` their type; the setup's rng fills them. The number
    of threads on a CPU is the BLAS library's: whoever starts the process sets OMP_NUM_THREADS and its like (the
    launcher does).

    Attributes: device_ns, what all calls so far took by the device's own events (0 on a CPU); collective, whether all
    ranks must call it equally often.

    Raises UserError where the operands are larger than the memory, or the device cannot compute with their type, and
    what else a kernel asks for is not there. With `prepare=False` that is all: nothing is allocated.
    """

    collective = False

    def __init__(self, setup: Setup, *, prepare: bool = True) -> None:
        self.name: str = setup.config.name
        self.shape, self.dtype, self.device = setup.shape, setup.dtype, setup.device
        self.size = math.prod(self.shape)
        """Elements of one operand of this shape."""
        self.complex = self.dtype.kind == "c"
        self.rank, self.ranks = setup.rank, setup.ranks
        self.device_ns = 0
        self._host = self.device.is_host
        self._check(setup)
        if prepare:
            self.device.select()
            self._prepare(setup)
            self.device.synchronize()

    def __call__(self) -> None:
        """Do the work once; on a device, wait until it is done, and add what it took there to device_ns."""
        if self._host:
            self.work()
        else:
            self.device_ns += self.device.timed(self.work)

    def _check(self, setup: Setup) -> None:
        if problem := undivided(setup.config, self.ranks):
            raise UserError(f"kernel {problem}.")
        if reason := self.device.lacks(self.dtype):
            raise UserError(f"kernel {self.name}: {reason}.")
        there = self.device.memory()
        if self.memory() > there:
            where = "this node" if self._host else f"device {self.device.name}"
            raise UserError(
                f"kernel {self.name}: its operands with data_size {list(self.shape)} of {self.dtype} take "
                f"{self.memory() / 1e9:.3g} GB, but {where} has {there / 1e9:.3g} GB of memory. Give a smaller "
                "data_size."
            )

    @abstractmethod
    def _prepare(self, setup: Setup) -> None:
        """Allocate the operands and fill them."""

    @abstractmethod
    def work(self) -> None:
        """Do the work once; on a device it may still be running when this returns."""

    @abstractmethod
    def flops(self) -> float:
        """Floating-point operations of one call of this rank; a complex product counts 6, a complex sum 2."""

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that one call of this rank moves: what that means for a kernel, its docstring says."""

    @abstractmethod
    def memory(self) -> int:
        """Bytes that the operands take."""

    def agree(self, number: int) -> int:
        """Return the largest `number` of all ranks, for a kernel that they must call equally often; else `number`."""
        return number

    def agree_least(self, number: int) -> int:
        """Return the smallest `number` of all ranks, for a kernel that they must call equally often; else `number`."""
        return number

    def close(self) -> None:  # noqa: B027 - most kernels have nothing to remove
        """Remove what the kernel made outside of this process's memory."""


def filled(
    shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator, low: float = -1.0, high: float = 1.0
) -> HostArray:
    """Return a new array of `shape` whose (real and imaginary) parts are uniform in [low, high)."""
    values = np.empty(shape, dtype)
    parts = real_parts(values)
    rng.random(out=parts, dtype=parts.dtype.type)
    parts *= high - low
    parts += low
    return values


def real_parts(values: Any) -> Any:
    """Return a view of real numbers on `values`, with twice as many along the last axis if it is complex."""
    return values.view(values.real.dtype) if values.dtype.kind == "c" else values
