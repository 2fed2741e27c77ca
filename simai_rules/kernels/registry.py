"""The kernels by name."""

import numpy as np

from simai_rules.config.components import KernelConfig
from simai_rules.kernels.base import Kernel
from simai_rules.kernels.elementwise import GenerateRandomNumber, InplaceCompute, ScatterAdd
from simai_rules.kernels.fft import FFT
from simai_rules.kernels.linear import AXPY, MatMulGeneral, MatMulSimple2D

KERNELS: dict[str, type[Kernel]] = {
    kernel.__name__: kernel
    for kernel in (MatMulSimple2D, MatMulGeneral, FFT, AXPY, InplaceCompute, GenerateRandomNumber, ScatterAdd)
}


def make(config: KernelConfig, rng: np.random.Generator) -> Kernel:
    """Return the kernel that `config` describes, its operands filled by `rng`; raises UserError if it cannot be."""
    return KERNELS[config.name](config, rng)
