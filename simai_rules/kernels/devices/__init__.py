"""Where the operands of kernels are: one seam over numpy, CuPy (NVIDIA, AMD) and dpnp (Intel)."""

from functools import cache

from simai_rules.kernels.devices.device import Device


@cache
def open_device(name: str) -> Device:
    """Return the device that a config calls `name` (`cpu`, `cuda`, `cuda:1`, `xpu`, `xpu:1`, `sycl-cpu`).

    Raises MissingProgram where its package is not installed, UserError where there is no such device here.
    """
    kind, _, number = name.partition(":")
    if kind == "cpu":
        from simai_rules.kernels.devices.host import Host

        return Host()
    if kind == "cuda":
        from simai_rules.kernels.devices.cuda import Cuda

        return Cuda(int(number or 0))
    from simai_rules.kernels.devices.sycl import Sycl

    return Sycl(name, "cpu" if kind == "sycl-cpu" else "gpu", int(number or 0))
