"""How near kernels on a GPU come to what it can do, as measured in the same run.

Each kernel, through the harness, in turns with its ceiling: matrix products with torch's (or, without torch, the array
module's) on matrices of the same size and dtype; what is bound by memory (FFT, AXPY, an all-reduce of one rank) with a
copy within the device, in bytes read and written per second; copies to and from the host with a bare copy of pinned
memory. The fraction is the median of the rounds' quotients. It can exceed 1: an FFT makes fewer passes over memory than
its formula counts, or a small copy stays in a cache.

Times are the host's, from the call to the end of its work; `events ms` is the same by the device's own events.

    python -m benchmarks.gpu [--device cuda] [--size 8192] [--rounds 15]

Without a GPU it says so and exits with 0; with 1 if a kernel could not be measured on a GPU that is there.
`--device sycl-cpu --size 512` tries the script itself where dpnp is and no GPU.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import Table, compare
from benchmarks.kernels import seconds_of, waited
from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.devices import open_device
from simai_rules.kernels.devices.device import Device
from simai_rules.kernels.registry import make

ROUND = 0.05
"""Seconds of the calls of one round."""


class Ceiling(NamedTuple):
    """What a kernel is compared with: its name, a call that waits for its end, and how much a call does."""

    name: str
    call: Callable[[], object]
    amount: float
    """Floating-point operations of a product, bytes of anything else."""


def product_ceiling(device: Device, size: int, dtype: str) -> Ceiling:
    """Return a product of two square matrices by torch where it has this device, else by the array module."""
    kind, _, number = device.name.partition(":")
    try:
        import torch

        there = getattr(torch, kind).is_available()
    except (ImportError, AttributeError):
        there = False
    if there:
        where = torch.device(kind, int(number or 0))
        a, b = (torch.rand(size, size, device=where, dtype=getattr(torch, dtype)) for _ in range(2))
        c = torch.empty_like(a)
        wait = getattr(torch, kind).synchronize
        return Ceiling("torch.matmul", lambda: (torch.matmul(a, b, out=c), wait(where)), 2.0 * size**3)
    made = make(kernel("MatMulSimple2D", [size, size], device, dtype=dtype), np.random.default_rng(1))
    call = waited(device, lambda: device.module.matmul(made.a, made.b, out=made.c))
    return Ceiling(f"{device.module.__name__}.matmul", call, 2.0 * size**3)


def copy_ceiling(device: Device, elements: int) -> Ceiling:
    """Return a copy of so many float32 within the device."""
    source = device.array(np.random.default_rng(1).random(elements, np.float32))
    target = device.zeros((elements,), np.dtype(np.float32))
    return Ceiling("device copy", waited(device, lambda: device.copy(target, source)), 8.0 * elements)


def host_ceiling(device: Device, elements: int, *, to_host: bool) -> Ceiling:
    """Return a bare copy of so many float32 from or to pinned memory of the host."""
    values = device.host_memory(np.random.default_rng(1).random(elements, np.float32), pinned=True)
    array = device.array(values)
    copy = (lambda: device.copy_out(values, array)) if to_host else (lambda: device.copy_in(array, values))
    return Ceiling("pinned copy", waited(device, copy), 4.0 * elements)


def kernel(name: str, data_size: list[int], device: Device, **options: Any) -> KernelConfig:
    return KernelConfig(name=name, data_size=data_size, device=device.name, **options)


def cases(device: Device, size: int) -> list[tuple[str, dict[str, Any], Callable[[], Ceiling]]]:
    """Return kernel, options and ceiling of every row; vectors have size² elements, the cube has size/16 per edge."""
    vector, cube = [size * size], [size // 16] * 3
    nccl = {"library": "nccl"} if device.name.startswith("cuda") else {}

    def product(dtype: str) -> tuple[str, dict[str, Any], Callable[[], Ceiling]]:
        options = {"data_size": [size, size], "dtype": dtype}
        return "MatMulSimple2D", options, lambda: product_ceiling(device, size, dtype)

    def memory(name: str, shape: list[int], **options: Any) -> tuple[str, dict[str, Any], Callable[[], Ceiling]]:
        return name, {"data_size": shape, **options}, lambda: copy_ceiling(device, size * size)

    def host(name: str, *, pinned: bool) -> tuple[str, dict[str, Any], Callable[[], Ceiling]]:
        to_host = name == "CopyDeviceToHost"
        options = {"data_size": vector, "pinned": pinned}
        return name, options, lambda: host_ceiling(device, size * size, to_host=to_host)

    return [
        product("float32"),
        *([product("bfloat16")] if device.name.startswith("cuda") else []),  # dpnp has none
        product("float64"),
        memory("FFT", cube, dtype="complex64"),
        memory("FFT", cube, dtype="complex128"),
        memory("AXPY", vector),
        memory("AXPY", vector, dtype="float64"),
        memory("CopyDeviceToDevice", vector),
        *(host(name, pinned=pinned) for name in ("CopyHostToDevice", "CopyDeviceToHost") for pinned in (True, False)),
        memory("AllReduce", vector, **nccl),
    ]


def amount_of(made: Any) -> float:
    """Return what a call does in the ceiling's unit; a rank alone reduces by a copy, whose own bytes are 0."""
    if made.name.startswith("MatMul"):
        return float(made.flops())
    return float(made.nbytes() or 2 * made.size * made.dtype.itemsize)


def measure(table: Table, config: KernelConfig, ceiling: Ceiling, rounds: int) -> None:
    """Add a kernel's row to `table`."""
    made = make(config, np.random.default_rng(0))
    made()
    ceiling.call()
    amount = amount_of(made)
    calls, others = (max(1, math.ceil(ROUND / seconds_of(call, 2))) for call in (made, ceiling.call))
    events = []

    def ours(_: int) -> float:
        before = made.device_ns
        seconds = seconds_of(made, calls)
        events.append((made.device_ns - before) / calls)
        return seconds

    found = compare(ours, lambda _: seconds_of(ceiling.call, others), rounds)
    unit = "TFLOP/s" if made.name.startswith("MatMul") else "GB/s"
    scale = 1e12 if unit == "TFLOP/s" else 1e9
    table.add(
        f"{made.name}{' pinned' if config.pinned else ''}{f' {config.library}' if made.name == 'AllReduce' else ''}",
        "x".join(map(str, made.shape)),
        config.dtype,
        f"{found.ours_s * 1e3:.4g}",
        f"{statistics.median(events) / 1e6:.4g}",
        f"{amount / found.ours_s / scale:.4g} {unit}",
        f"{ceiling.amount / found.raw_s / scale:.4g} {unit}",
        ceiling.name,
        f"{found.ratio * amount / ceiling.amount:.3f}",
    )
    made.close()


def model(device: Device) -> str:
    """Return the name that the device's maker has given it."""
    if device.name.startswith("cuda"):
        runtime = device.module.cuda.runtime
        return str(runtime.getDeviceProperties(runtime.getDevice())["name"].decode())
    return str(device.queue.sycl_device.name)


def find(names: list[str]) -> Device | str:
    """Return the first of these devices that is there, or why none is."""
    reasons = []
    for name in names:
        try:
            # By the name that its kernels will open it by: they and their ceilings share one queue.
            return open_device(open_device(name, 0).name, 0)
        except UserError as error:
            reasons.append(str(error))
    return "\n".join(reasons)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, xpu or sycl-cpu; without it, the first GPU that is there")
    parser.add_argument("--size", type=int, default=8192, help="edge of the matrices, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    device = find([args.device] if args.device else ["cuda", "xpu"])
    if isinstance(device, str):
        print(f"No GPU was measured:\n{device}")
        return 1 if args.device else 0
    print(f"{device.name}, {model(device)}; a kernel and its ceiling in turns, {args.rounds} rounds, medians")
    columns = ("ms", "events ms", "rate".ljust(14), "ceiling".ljust(14), "which", "fraction", "")
    table = Table(("kernel".ljust(23), "data_size", "dtype", *columns))
    single = device.lacks(np.dtype(np.float64))
    for name, options, ceiling in cases(device, args.size):
        if single and options.get("dtype") in ("float64", "complex128"):
            continue
        try:
            measure(table, kernel(name, device=device, **options), ceiling(), args.rounds)
        except (UserError, ValueError) as error:
            shown = "x".join(map(str, options["data_size"]))
            cells = (name, shown, options.get("dtype", "float32"), "", "", "", "", "", "")
            table.add(*cells, target=str(error), met=False)
    if single:
        print(single)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
