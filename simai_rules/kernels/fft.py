"""The Fourier transform: arithmetic and memory access in strides."""

import math

from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, Setup, filled
from simai_rules.kernels.devices.host import NUMPY2


class FFT(Kernel):
    """The Fourier transform over all axes of an array of shape `data_size` (N elements); real input: rfftn.

    flops: 5·N·log2(N), real input half of it (the customary count, FFTW's "mflops", www.fftw.org/speed; the exact one
    depends on N's factors); bytes: 2·itemsize·N per axis (each axis is a pass that reads and writes everything).

    Raises UserError for single precision with numpy before 2.0, which would silently compute in double.
    """

    def _prepare(self, setup: Setup) -> None:
        single = self.dtype.itemsize == (8 if self.complex else 4)
        if single and self._host and not NUMPY2:
            raise UserError(
                f"kernel FFT: numpy before 2.0 transforms {self.dtype} in double precision. Take dtype "
                f"{'complex128' if self.complex else 'float64'}, or numpy >= 2."
            )
        self.x = self.device.array(filled(self.shape, self.dtype, setup.rng))
        self._fft = self.device.fft
        self.result = self._fft(self.x, None)

    def work(self) -> None:
        """Transform once."""
        self.result = self._fft(self.x, self.result)

    def flops(self) -> float:
        """5·N·log2(N), half of it for real input."""
        return (5.0 if self.complex else 2.5) * self.size * math.log2(self.size)

    def nbytes(self) -> int:
        """2·itemsize·N per axis."""
        return 2 * self.dtype.itemsize * self.size * len(self.shape)

    def memory(self) -> int:
        """Of x and its transform, which are equally large (of a real one half is kept).

        CuPy makes each transform in a new array while the last one is there, with a work area as large.
        """
        return (2 if self._host else 4) * self.size * self.dtype.itemsize
