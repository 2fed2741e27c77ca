"""Whether all kernels of a component can be made, before any of them is: one message with every problem."""

from collections.abc import Sequence

import numpy as np

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.base import Kernel, Setup
from simai_rules.kernels.devices import open_device
from simai_rules.kernels.registry import kernel_class


def check_kernels(configs: Sequence[KernelConfig], ranks: int = 1) -> None:
    """Raise one UserError with all that keeps these kernels from being made by a rank of `ranks` on this node.

    That is: a device or a package that is not there, a dtype that the device lacks, operands that are larger than its
    memory (each kernel's, or those of all together), ranks that do not divide the data, a folder that is not there, an
    import path that leads nowhere. Nothing is allocated. It is to be called in the process that will run the kernels:
    it loads their packages and opens their devices.
    """
    problems = []
    made: list[Kernel] = []
    for config in configs:
        try:
            setup = Setup(config, np.random.default_rng(0), open_device(config.device), expected=ranks)
            made.append(kernel_class(config)(setup, prepare=False))
        except UserError as error:
            problems.append(str(error))
    problems += [] if problems else _too_much_together(made)
    problems = list(dict.fromkeys(problems))
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        raise UserError(f"{len(problems)} problems with kernels:" + "".join(f"\n  {text}" for text in problems))


def _too_much_together(kernels: list[Kernel]) -> list[str]:
    problems = []
    for device in {kernel.device.name: kernel.device for kernel in kernels}.values():
        together = [kernel for kernel in kernels if kernel.device is device]
        total, there = sum(kernel.memory() for kernel in together), device.memory()
        if total > there:
            problems.append(
                f"The operands of the kernels {', '.join(kernel.name for kernel in together)} take {total / 1e9:.3g} "
                f"GB together, but {'this node' if device.is_host else device.name} has {there / 1e9:.3g} GB of "
                "memory. Give smaller data_sizes."
            )
    return problems
