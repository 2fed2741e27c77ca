"""Where the operands of kernels are: one seam over numpy, CuPy (NVIDIA, AMD) and dpnp (Intel)."""

from functools import cache

from simai_rules.kernels.devices.device import Device


def open_device(name: str, local_rank: int = 0) -> Device:
    """Return the device that a config calls `name` (`cpu`, `cuda`, `cuda:1`, `xpu`, `xpu:1`, `sycl-cpu`).

    Without a number, the ranks of a node take one GPU after another of those that they see, as the training does:
    a rank to which the launcher shows one GPU has that one, and ranks that all see four do not crowd on the first.

    Raises MissingProgram where its package is not installed, UserError where there is no such device here.
    """
    kind, _, number = name.partition(":")
    # One object for each, whoever asks: a second queue would not be waited for with the first.
    return _opened(kind, int(number) if number else None, 0 if number else local_rank)


@cache
def _opened(kind: str, wanted: int | None, local_rank: int) -> Device:
    if kind == "cpu":
        from simai_rules.kernels.devices.host import Host

        return Host()
    if kind == "cuda":
        from simai_rules.kernels.devices.cuda import Cuda

        return Cuda(wanted, local_rank)
    from simai_rules.kernels.devices.sycl import Sycl

    return Sycl(kind, "cpu" if kind == "sycl-cpu" else "gpu", wanted, local_rank)
