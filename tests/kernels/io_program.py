"""WriteWithMPI and ReadWithMPI on the ranks of an mpiexec, with every option; run by test_kernels_io.py.

Rank 0 prints what was tried. The first argument is an existing folder.
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from simai_rules.config.kernels import KernelConfig
from simai_rules.kernels.base import filled
from simai_rules.kernels.registry import make

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
SHAPE = (8, 6)
OPTIONS = (
    {},
    {"collective": True},
    {"chunks": [2, 3]},
    {"collective": True, "chunks": [4, 6], "compression": "gzip"},
    {"collective": True, "drop_cache": True},
)


def whole(dtype):
    """The file's content: each rank has filled its rows from the seed that is its number."""
    rows = (SHAPE[0] // size, SHAPE[1])
    return np.concatenate([filled(rows, np.dtype(dtype), np.random.default_rng(number)) for number in range(size)])


def check(name, dtype, options, folder):
    claimed = []
    settled = {"fsync": True} if name == "WriteWithMPI" else {}
    config = KernelConfig(name=name, data_size=list(SHAPE), dtype=dtype, folder=folder, **options, **settled)
    made = make(config, np.random.default_rng(rank), comm, claimed.append)
    assert made.collective
    assert made.agree(rank) == size - 1
    assert made.nbytes() == whole(dtype).nbytes // size
    for _ in range(2):
        made()
    comm.Barrier()
    rows = SHAPE[0] // size
    np.testing.assert_array_equal(made.values, whole(dtype)[rank * rows : (rank + 1) * rows])
    if rank == 0:
        with h5py.File(made.file.path) as file:
            np.testing.assert_array_equal(file["data"][...], whole(dtype))
            assert file["data"].compression == options.get("compression")
            assert list(file["data"].chunks or []) == options.get("chunks", [])
    assert [path == made.file.path.parent for path in claimed] == ([True] if rank == 0 else [])
    assert len(set(comm.allgather(str(made.file.path)))) == 1
    comm.Barrier()
    made.close()


def main() -> None:
    folder, tried = sys.argv[1], 0
    for name in ("WriteWithMPI", "ReadWithMPI"):
        for dtype in ("float32", "complex128"):
            for options in OPTIONS:
                check(name, dtype, options, folder)
                tried += 1
    comm.Barrier()
    if rank == 0:
        print(json.dumps({"tried": tried, "left": [path.name for path in Path(folder).iterdir()]}))


if __name__ == "__main__":
    main()
