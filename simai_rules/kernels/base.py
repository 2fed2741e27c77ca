"""What every compute kernel is: operands that are allocated and filled once, and a call that is the work alone."""

import math
import os
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simai_rules.config.components import KernelConfig
from simai_rules.errors import UserError

Array = NDArray[Any]


class Kernel(ABC):
    """One kernel on one CPU; calling it does the work once, on operands that were made with it.

    `config.data_size` is the shape of the operands, `config.dtype` their type; `rng` fills them. The number of threads
    is the BLAS library's: whoever starts the process sets OMP_NUM_THREADS and its like (the launcher does).

    Raises UserError where a call would move more than the node's memory.
    """

    def __init__(self, config: KernelConfig, rng: np.random.Generator) -> None:
        self.name: str = config.name
        self.shape = tuple(config.data_size)
        self.dtype = np.dtype(config.dtype)
        self.size = math.prod(self.shape)
        """Elements of one operand of this shape."""
        self.complex = self.dtype.kind == "c"
        self._check()
        self._prepare(config, rng)

    def _check(self) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if self.nbytes() > memory:
            raise UserError(
                f"kernel {self.name}: data_size {list(self.shape)} of {self.dtype} moves {self.nbytes() / 1e9:.3g} GB "
                f"in a call, but this node has {memory / 1e9:.3g} GB of memory. Give a smaller data_size."
            )

    @abstractmethod
    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:
        """Allocate the operands and fill them."""

    @abstractmethod
    def __call__(self) -> None:
        """Do the work once."""

    @abstractmethod
    def flops(self) -> float:
        """Floating-point operations of one call; a complex product counts 6, a complex sum 2."""

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that one call reads and writes if each operand moves once per pass over it."""


def filled(
    shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator, low: float = -1.0, high: float = 1.0
) -> Array:
    """Return a new array of `shape` whose (real and imaginary) parts are uniform in [low, high)."""
    values = np.empty(shape, dtype)
    parts = real_parts(values)
    rng.random(out=parts, dtype=parts.dtype.type)
    parts *= high - low
    parts += low
    return values


def real_parts(values: Array) -> Array:
    """Return a view of real numbers on `values`, with twice as many along the last axis if it is complex."""
    return values.view(values.real.dtype) if values.dtype.kind == "c" else values
