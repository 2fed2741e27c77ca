"""What kernels ask of a device: an array module like numpy, and the few things in which the array modules differ."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

HostArray = NDArray[Any]
Work = Callable[[], object]


class Device(ABC):
    """One device. Work on it may still be running when a call returns; `timed` and `synchronize` wait for it.

    Attributes: name (as in a config), module (the array module), no_room (what it raises where memory is short), place
    (names the memory that its arrays are in, which other ranks of the node may share), and column_itemsize (bytes of a
    column's number in its sparse matrices).
    """

    name: str
    module: Any
    no_room: tuple[type[Exception], ...] = (MemoryError,)
    place = "this node"
    column_itemsize = 8

    @property
    def is_host(self) -> bool:
        """Whether arrays are numpy's and work is done when a call returns."""
        return False

    def select(self) -> None:  # noqa: B027 - needed where there are several
        """Make it the one that new arrays of this process are on."""

    @abstractmethod
    def memory(self) -> int:
        """Return the bytes of memory that it has left."""

    @abstractmethod
    def lacks(self, dtype: np.dtype[Any]) -> str:
        """Return why arrays of `dtype` cannot be had, or ""."""

    @abstractmethod
    def array(self, values: HostArray) -> Any:
        """Return an array of the device with these values."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return an array of the device, filled with zeros."""

    @abstractmethod
    def to_host(self, array: Any) -> HostArray:
        """Return the values of an array of the device."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work is done."""

    @abstractmethod
    def timed(self, work: Work, meanwhile: Work) -> Callable[[], int]:
        """Do `work`, wait until it is done, and return what tells the nanoseconds between the device's own events.

        `meanwhile` is called when the work has been submitted: reading events takes time, and those of the call before
        can be read while the device is busy.
        """

    @abstractmethod
    def pointer(self, array: Any) -> int:
        """Return the address of an array's first byte."""

    # What the array modules do differently.

    @abstractmethod
    def fft(self, x: Any, result: Any | None) -> Any:
        """Return the transform of `x` over all axes (the half of it for real x), in `result` where that can be."""

    @abstractmethod
    def uniform(self, seed: int) -> Callable[[Any], Any]:
        """Return a function that fills an array of real numbers, uniform in [0, 1), or returns a new one like it."""

    @abstractmethod
    def add_at(self, y: Any, index: Any, values: Any) -> Work:
        """Return work that adds `values` to the places `index` of `y`, of which some repeat; all of one dimension."""

    @abstractmethod
    def csr_product(self, values: Any, columns: Any, starts: HostArray, x: Any, y: Any) -> Work:
        """Return work that makes y the product of x and a sparse matrix in CSR format with equally long rows.

        values, columns: of all nonzeros, row by row; starts: where each row begins, on the host, and the end.
        """

    # Copies between the host and the device.

    @abstractmethod
    def host_memory(self, values: HostArray, *, pinned: bool) -> HostArray:
        """Return an array of the host with these values, in memory that is pinned or pageable."""

    @abstractmethod
    def copy_in(self, array: Any, values: HostArray) -> None:
        """Copy from the host into an array of the device."""

    @abstractmethod
    def copy_out(self, values: HostArray, array: Any) -> None:
        """Copy an array of the device to the host."""

    def copy(self, target: Any, source: Any) -> None:
        """Copy an array of the device into another."""
        target[...] = source
