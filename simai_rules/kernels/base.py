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
from simai_rules.errors import MissingProgram, UserError
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
        """The config's dtype; raises MissingProgram for bfloat16 without the package that has it."""
        return dtype_of(self.config)

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

    Attributes: collective, whether all ranks must call it equally often.

    Raises UserError where the operands are larger than the memory, or the device cannot compute with their type, and
    what else a kernel asks for is not there. With `prepare=False` that is all: nothing is allocated.
    """

    collective = False
    first_rank_only = False
    """Whether the other ranks hold no operands."""

    def __init__(self, setup: Setup, *, prepare: bool = True) -> None:
        self.name: str = setup.config.name
        self.shape, self.dtype, self.device = setup.shape, setup.dtype, setup.device
        self.size = math.prod(self.shape)
        """Elements of one operand of this shape."""
        self.complex = self.dtype.kind == "c"
        self.rank, self.ranks = setup.rank, setup.ranks
        self._device_ns = 0
        self._unread: Callable[[], int] | None = None
        self._host = self.device.is_host
        self._check(setup)
        if prepare:
            self.device.select()
            self._prepare(setup)
            self.device.synchronize()

    def __call__(self) -> None:
        """Do the work once; on a device, wait until it is done, between two of its events."""
        try:
            if self._host:
                self.work()
            else:
                self._unread = self.device.timed(self.work, self._read)
        except self.device.no_room as error:
            raise used_up(self.name, self.device, error) from error

    @property
    def device_ns(self) -> int:
        """What all calls so far took by the device's own events, in ns; 0 on a CPU."""
        self._read()
        return self._device_ns

    def _read(self) -> None:
        """Read the events of the last call."""
        if self._unread is not None:
            self._device_ns += self._unread()
            self._unread = None

    def _check(self, setup: Setup) -> None:
        if problem := undivided(setup.config, self.ranks):
            raise UserError(f"kernel {problem}.")
        if reason := self.device.lacks(self.dtype):
            raise UserError(f"kernel {self.name}: {reason}.")
        there = self.device.memory()
        if self.memory() > there:
            raise UserError(
                f"kernel {self.name}: its operands with data_size {list(self.shape)} of {self.dtype} take "
                f"{self.memory() / 1e9:.3g} GB, but {self.device.place} has {there / 1e9:.3g} GB of memory left. Give "
                "a smaller data_size."
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


def used_up(name: str, device: Device, error: Exception) -> UserError:
    """Return the error for a kernel that a device has no memory for, or for the work area of a call."""
    return UserError(
        f"kernel {name}: the memory of {device.place} is used up ({error}). Give a smaller data_size, or put fewer "
        "ranks on it."
    )


def filled(
    shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator, low: float = -1.0, high: float = 1.0
) -> HostArray:
    """Return a new array of `shape` whose (real and imaginary) parts are uniform in [low, high].

    They are below `high` but for rounding: of 1 - 2^-25, the largest of float32 in [0.5, 1), to 1.
    """
    if dtype.itemsize == 2:  # numpy draws no shorter ones
        return filled(shape, np.dtype(np.float32), rng, low, high).astype(dtype)
    values = np.empty(shape, dtype)
    parts = real_parts(values)
    rng.random(out=parts, dtype=parts.dtype.type)
    parts *= high - low
    parts += low
    return values


def dtype_of(config: KernelConfig) -> np.dtype[Any]:
    """Return the dtype of `config`; raises MissingProgram for bfloat16 where ml_dtypes, which has it, is missing."""
    if config.dtype == "bfloat16":
        try:
            import ml_dtypes  # noqa: F401 - it gives numpy the name
        except ImportError as error:
            raise MissingProgram(
                f"kernel {config.name}: dtype bfloat16 needs the package ml_dtypes, which cannot be loaded ({error}): "
                "pip install ml_dtypes. CuPy 14 multiplies such matrices with it."
            ) from error
    return np.dtype(config.dtype)


def real_parts(values: Any) -> Any:
    """Return a view of real numbers on `values`, with twice as many along the last axis if it is complex."""
    return values.view(values.real.dtype) if values.dtype.kind == "c" else values
