"""All kernels of communication on the ranks of an mpiexec, against plain numpy in double precision.

Every rank's operands come from the seed that is its number, so each rank knows what all the others have. Run by
test_kernels_comm.py; rank 0 prints what was tried.
"""

import json
import math
from types import SimpleNamespace

import nccl_standin
import numpy as np
from mpi4py import MPI

from simai_rules.config.kernels import COMM, KernelConfig
from simai_rules.kernels import links
from simai_rules.kernels.base import Setup, filled
from simai_rules.kernels.devices.host import Host
from simai_rules.kernels.registry import KERNELS, make

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
SHAPES = ((12,), (4, 6), (2, 4, 3))
DTYPES = ("float32", "float64", "complex64", "complex128")
WAYS = {  # how arrays travel: of the host; of a device through the host, by their addresses, or by NCCL
    "host": {},
    "through the host": {"device": "cuda"},
    "by address": {"device": "cuda", "gpu_aware": True},
    "nccl": {"device": "cuda", "library": "nccl"},
}


class StandIn(Host):
    """A device whose memory is the host's, which is reached by copies or by addresses alone."""

    name = "cuda"
    is_host = False
    module = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=0)))

    def to_host(self, array):
        return array.copy()


def wide(values):
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def operands(shape, dtype):
    """What each rank has."""
    return [wide(filled(shape, np.dtype(dtype), np.random.default_rng(number))) for number in range(size)]


def expected(name, shape, dtype):
    """What this rank receives."""
    of_rank = operands((math.prod(shape),), dtype)
    part = math.prod(shape) // size
    own = slice(rank * part, (rank + 1) * part)
    return {
        "AllReduce": lambda: sum(of_rank),
        "AllGather": lambda: np.concatenate(of_rank),
        "Bcast": lambda: of_rank[0],
        "ReduceScatter": lambda: sum(of_rank)[own],
        "AllToAll": lambda: np.concatenate([values[own] for values in of_rank]),
        "Ring": lambda: of_rank[rank - 1],
    }[name]()


def nbytes(name, shape, dtype):
    """What a rank has to send at least."""
    whole = math.prod(shape) * np.dtype(dtype).itemsize
    others = whole * (size - 1) // size
    return {"AllReduce": 2 * others, "AllGather": whole * (size - 1), "Bcast": whole, "Ring": whole}.get(name, others)


def check_halo(made, shape, dtype):
    """Every outer layer is the neighbour's, found in the joined periodic grid of all blocks."""
    blocks = operands(shape, dtype)
    grid = np.zeros([ranks * length for ranks, length in zip(made.grid, shape, strict=True)], blocks[0].dtype)

    def corner(number):
        return [place * length for place, length in zip(made.place(number), shape, strict=True)]

    for number, block in enumerate(blocks):
        grid[tuple(slice(at, at + length) for at, length in zip(corner(number), shape, strict=True))] = block
    around = [np.arange(at - 1, at + length + 1) for at, length in zip(corner(rank), shape, strict=True)]
    joined = grid[np.ix_(*[places % length for places, length in zip(around, grid.shape, strict=True)])]
    inner = [slice(1, -1)] * len(shape)
    for axis in range(len(shape)):
        for side in (0, -1):
            place = (*inner[:axis], side, *inner[axis + 1 :])
            np.testing.assert_array_equal(wide(made.block)[place], joined[place], err_msg=f"axis {axis} side {side}")
    np.testing.assert_array_equal(wide(made.block)[tuple(inner)], blocks[rank])
    itemsize = np.dtype(dtype).itemsize
    faces = [math.prod(shape) // length for length, ranks in zip(shape, made.grid, strict=True) if ranks > 1]
    assert made.nbytes() == 2 * sum(faces) * itemsize


def check(name, way, shape, dtype):
    config = KernelConfig(name=name, data_size=list(shape), dtype=dtype, **WAYS[way])
    rng = np.random.default_rng(rank)
    made = make(config, rng, comm) if way == "host" else KERNELS[name](Setup(config, rng, StandIn(), comm))
    for _ in range(3):
        made()
    assert made.collective
    assert made.agree(rank) == size - 1
    assert made.agree_least(rank) == 0
    assert (made.device_ns > 0) == (way != "host")
    if name == "Halo":
        check_halo(made, shape, dtype)
        return
    np.testing.assert_allclose(wide(made.receive), expected(name, shape, dtype), rtol=1e-6, atol=1e-6)
    assert made.receive.dtype == dtype
    assert made.nbytes() == nbytes(name, shape, dtype)
    sums = math.prod(shape) * (size - 1) / size * (2 if made.complex else 1)
    assert made.flops() == (sums if name in ("AllReduce", "ReduceScatter") else 0)


def main() -> None:
    nccl_standin.install()
    tried = 0
    for way in WAYS:
        for name in sorted(COMM):
            for shape in SHAPES:
                for dtype in DTYPES:
                    check(name, way, shape, dtype)
                    tried += 1
    if rank == 0:
        communicators = len(links._communicators)
        print(json.dumps({"tried": tried, "communicators": communicators, "nccl": nccl_standin.made}))


if __name__ == "__main__":
    main()
