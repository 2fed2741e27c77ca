"""What a kernel costs beyond the bare call of numpy (or CuPy, dpnp) on the same operands.

For each compute kernel: the time of a bare call, its rates, and the quotient bare/kernel of rounds of calls in turns,
on operands that make a call last 2 ms and more (they are made larger until it does). Where the array module has no one
call for a kernel (the product and sum of AXPY, the passes of the stencil), bare are its calls one after another. On a
device, the bare calls too are waited for. Then what the harness adds to a call: a kernel that does nothing, called by
the pace as an iteration calls it. Exits with 1 if a target is missed: a quotient of 0.98 where a call lasts 1 ms and
more, 5 us of harness per call.

    python -m benchmarks.kernels [--device cpu] [--core 0] [--rounds 75]
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

TARGET, HARNESS_US = 0.98, 5.0
SHORTEST, ROUND = 0.002, 0.004
"""Seconds: of a bare call that is judged, and of the calls of one round."""
CASES = (  # kernel, data_size, dtype; the first number of data_size grows where a call is too short
    ("MatMulSimple2D", [512, 512], "float32"),
    ("MatMulSimple2D", [384, 384], "float64"),
    ("MatMulSimple2D", [256, 256], "complex128"),
    ("MatMulGeneral", [16, 128, 128], "float64"),
    ("FFT", [128, 128, 16], "float64"),
    ("FFT", [512, 512], "complex64"),
    ("AXPY", [1_000_000], "float64"),
    ("InplaceCompute", [500_000], "float64"),
    ("GenerateRandomNumber", [1_000_000], "float64"),
    ("ScatterAdd", [500_000], "float64"),
    ("Stencil", [96, 96, 96], "float64"),
    ("SpMV", [100_000, 27], "float64"),
    ("Sort", [500_000], "float32"),
)
SHORT = ("AXPY", [1000], "float32")
"""What a call of a few us loses, without a target."""


def bare(made: Any) -> Callable[[], object]:
    """Return the calls of the array module that a kernel stands for, on its own operands."""
    import numpy as np

    xp, host = made.device.module, made.device.is_host
    if made.name.startswith("MatMul"):
        return lambda: xp.matmul(made.a, made.b, out=made.c)
    if made.name == "FFT":
        transform = xp.fft.fftn if made.complex else xp.fft.rfftn
        takes_out = xp.__name__ != "cupy"
        return (lambda: transform(made.x, out=made.result)) if takes_out else (lambda: transform(made.x))
    if made.name == "AXPY":
        product, a = xp.zeros_like(made.x), made.a
        return lambda: (xp.multiply(made.x, a, out=product), xp.add(made.y, product, out=made.y))
    if made.name == "InplaceCompute":
        return lambda: xp.sin(made.x, out=made.y)
    if made.name == "GenerateRandomNumber":
        random = np.random.default_rng(1).random
        return (lambda: random(out=made.y)) if host else made.work
    if made.name == "ScatterAdd":
        return (lambda: np.add.at(made.y, made.index, made.values)) if host else made.work
    if made.name == "Sort":
        return lambda: (made.y.__setitem__(..., made.x), made.y.sort())
    if made.name == "SpMV":
        return bare_product(made) if host else made.work
    return bare_stencil(made)


def bare_product(made: Any) -> Callable[[], object]:
    import numpy as np

    rows, k = made.shape
    products, begins = np.zeros_like(made.values), np.arange(0, rows * k, k)

    def multiply() -> None:
        np.take(made.x, made.columns, out=products, mode="clip")
        np.multiply(products, made.values, out=products)
        np.add.reduceat(products, begins, out=made.y)

    return multiply


def bare_stencil(made: Any) -> Callable[[], object]:
    xp, x, inner = made.device.module, made.x, slice(1, -1)
    y, centre = made.y[inner, inner, inner], x[inner, inner, inner]
    low, high = slice(None, -2), slice(2, None)
    west, east = x[low, inner, inner], x[high, inner, inner]
    south, north = x[inner, low, inner], x[inner, high, inner]
    below, above = x[inner, inner, low], x[inner, inner, high]
    product = made.device.zeros(y.shape, made.dtype)

    def apply() -> None:
        xp.add(west, east, out=y)
        xp.add(y, south, out=y)
        xp.add(y, north, out=y)
        xp.add(y, below, out=y)
        xp.add(y, above, out=y)
        xp.multiply(centre, 6, out=product)
        xp.subtract(y, product, out=y)

    return apply


def waited(device: Any, call: Callable[[], object]) -> Callable[[], object]:
    """Return `call` and, on a device, the wait until it is done."""
    return call if device.is_host else lambda: (call(), device.synchronize())


def seconds_of(call: Callable[[], object], calls: int) -> float:
    clock = time.perf_counter
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def measured(name: str, size: list[int], dtype: str, device: str) -> tuple[Any, Callable[[], object], float]:
    """Return a kernel, its bare call and the seconds that this takes: 2 ms and more, but for the case SHORT."""
    import numpy as np

    from simai_rules.config.kernels import KernelConfig
    from simai_rules.kernels.registry import make

    short, size = (name, size, dtype) == SHORT, list(size)
    while True:
        made = make(KernelConfig(name=name, data_size=size, dtype=dtype, device=device), np.random.default_rng(0))
        call = waited(made.device, bare(made))
        call()
        seconds = min(seconds_of(call, 1) for _ in range(5))
        if short or seconds >= SHORTEST:
            return made, call, seconds
        size[0] *= 2


def harness_us(device: str, rounds: int) -> float:
    """Return what an iteration adds to each call of a kernel that does nothing; on a device, its events included."""
    import numpy as np

    from benchmarks.common import compare
    from simai_rules.config.kernels import KernelConfig
    from simai_rules.kernels.pace import Pace
    from simai_rules.kernels.registry import make

    made = make(KernelConfig(name="AXPY", data_size=[1], device=device), np.random.default_rng(0))
    nothing = lambda: None  # noqa: E731
    made.work = nothing  # type: ignore[method-assign]

    def too_long(call: float, target: float) -> RuntimeError:
        return RuntimeError(f"a call of nothing took {call} of {target} s")

    pace = Pace(made, too_long, lambda: made.device_ns)
    pace.calibrate()
    paced = compare(
        lambda _: (done := pace.for_time(1e-4, 500)).work_ns / done.calls / 1e9,
        lambda _: seconds_of(nothing, 500),
        rounds,
    )
    return (paced.ours_s - paced.raw_s) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, xpu or sycl-cpu")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--rounds", type=int, default=75)
    args = parser.parse_args()
    if args.device == "cpu":
        os.sched_setaffinity(0, {args.core})
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = "1"  # read by BLAS when numpy is imported
    from benchmarks.common import Table, compare

    where = f"core {args.core}, one thread" if args.device == "cpu" else args.device
    print(
        f"{where}; a kernel and the bare calls in turns, {args.rounds} rounds; bare/kernel is the median of the rounds"
    )
    table = Table(
        ("kernel".ljust(20), "data_size", "dtype", "bare ms", "kernel ms", "GFLOP/s", "GB/s", "bare/kernel", "target")
    )
    for name, size, dtype in (*CASES, SHORT):
        made, call, seconds = measured(name, size, dtype, args.device)
        calls = max(1, math.ceil(ROUND / seconds))
        found = compare(
            lambda _, made=made, calls=calls: seconds_of(made, calls),
            lambda _, call=call, calls=calls: seconds_of(call, calls),
            args.rounds,
        )
        table.add(
            name,
            "x".join(map(str, made.shape)),
            dtype,
            f"{found.raw_s * 1e3:.4g}",
            f"{found.ours_s * 1e3:.4g}",
            f"{made.flops() / found.ours_s / 1e9:.3g}",
            f"{made.nbytes() / found.ours_s / 1e9:.3g}",
            f"{found.ratio:.4f}",
            target=f">= {TARGET}",
            met=None if (name, size, dtype) == SHORT else found.ratio >= TARGET,
        )
    added = harness_us(args.device, args.rounds)
    table.add(
        "harness",
        "",
        "",
        "",
        "",
        "",
        "",
        f"{added:.2f} us",
        target=f"< {HARNESS_US:g} us a call",
        met=added < HARNESS_US if args.device == "cpu" else None,  # on a device, its events are in it
    )
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
