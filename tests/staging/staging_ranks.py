"""A rank of an MPI launch: it reads what another process has written, answers, and reads what its neighbour answers.

Arguments: the path of server.json, and the beginning of the keys.
"""

import sys

from mpi4py import MPI

from simai_rules.staging.datastore import DataStore


def main(server_json, key):
    world = MPI.COMM_WORLD
    with DataStore(f"rank {world.rank}", server_json, timeout=60) as store:
        data = store.stage_read(f"{key}/question")
        store.stage_write(
            f"{key}/answer of {world.rank}", {"ranks": world.size, "sum": float(data.sum()), "data": data}
        )
        neighbour = store.stage_read(f"{key}/answer of {(world.rank + 1) % world.size}")
        assert (neighbour["data"] == data).all()
        world.Barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
