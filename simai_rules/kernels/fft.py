"""The Fourier transform: arithmetic and memory access in strides."""

import math
from typing import Any

import numpy as np

from simai_rules.config.components import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, filled

# numpy 2 transforms single precision as such and takes an existing output.
_NUMPY2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


class FFT(Kernel):
    """The Fourier transform over all axes of an array of shape `data_size` (N elements); real input: rfftn.

    flops: 5·N·log2(N), real input half of it (the customary count, FFTW's "mflops", www.fftw.org/speed; the exact one
    depends on N's factors); bytes: 2·itemsize·N per axis (each axis is a pass that reads and writes everything).

    Raises UserError for single precision with numpy before 2.0, which would silently compute in double.
    """

    def _prepare(self, config: KernelConfig, rng: np.random.Generator) -> None:  # noqa: ARG002
        single = self.dtype.itemsize == (8 if self.complex else 4)
        if single and not _NUMPY2:
            raise UserError(
                f"kernel FFT: numpy {np.__version__} transforms {self.dtype} in double precision. Take dtype "
                f"{'complex128' if self.complex else 'float64'}, or numpy >= 2."
            )
        self.x = filled(self.shape, self.dtype, rng)
        self._transform: Any = np.fft.fftn if self.complex else np.fft.rfftn
        self.result = self._transform(self.x)
        self._options = {"out": self.result} if _NUMPY2 else {}

    def __call__(self) -> None:
        """Transform once."""
        self._transform(self.x, **self._options)

    def flops(self) -> float:
        """5·N·log2(N), half of it for real input."""
        return (5.0 if self.complex else 2.5) * self.size * math.log2(self.size)

    def nbytes(self) -> int:
        """2·itemsize·N per axis."""
        return 2 * self.dtype.itemsize * self.size * len(self.shape)
