"""Copies between the memory of the host and that of a device, and within the device.

`data_size` and `dtype` say what is copied: N elements. flops: 0. bytes: N·itemsize, 2·N·itemsize within the device
(read and written in the same memory).
"""

from simai_rules.kernels.base import Kernel, Setup, filled


class CopyHostToDevice(Kernel):
    """Copy an array from the host, in pageable or in `pinned` memory, into one of the device.

    flops: 0; bytes: N·itemsize.
    """

    def _prepare(self, setup: Setup) -> None:
        values = filled(self.shape, self.dtype, setup.rng)
        self.values = self.device.host_memory(values, pinned=setup.config.pinned)
        self.array = self._array(setup)

    def _array(self, setup: Setup) -> object:  # noqa: ARG002
        return self.device.zeros(self.shape, self.dtype)

    def work(self) -> None:
        """Copy once."""
        self.device.copy_in(self.array, self.values)

    def flops(self) -> float:
        """0."""
        return 0.0

    def nbytes(self) -> int:
        """N·itemsize."""
        return self.size * self.dtype.itemsize

    def memory(self) -> int:
        """The array on the device, as large as that on the host."""
        return self.size * self.dtype.itemsize


class CopyDeviceToHost(CopyHostToDevice):
    """Copy an array of the device to the host, into pageable or into `pinned` memory.

    flops: 0; bytes: N·itemsize.
    """

    def _array(self, setup: Setup) -> object:
        return self.device.array(filled(self.shape, self.dtype, setup.rng))

    def work(self) -> None:
        """Copy once."""
        self.device.copy_out(self.values, self.array)


class CopyDeviceToDevice(Kernel):
    """Copy an array of the device into another one there.

    flops: 0; bytes: 2·N·itemsize.
    """

    def _prepare(self, setup: Setup) -> None:
        self.source = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self.target = self.device.zeros(self.shape, self.dtype)

    def work(self) -> None:
        """Copy once."""
        self.device.copy(self.target, self.source)

    def flops(self) -> float:
        """0."""
        return 0.0

    def nbytes(self) -> int:
        """2·N·itemsize."""
        return 2 * self.size * self.dtype.itemsize

    def memory(self) -> int:
        """Both arrays."""
        return 2 * self.size * self.dtype.itemsize
