"""A training of several ranks, run by test_components_ddp.py under mpiexec; rank 0 prints what all of them saw."""

import json

import numpy as np
import torch

from simai_rules.components.ai import AI
from simai_rules.components.ranks import Ranks
from simai_rules.config.models import ModelConfig

ROWS = 48
STEPS = 30


def rows(rank: int, count: int = ROWS) -> np.ndarray:
    """Rows of 4 inputs in [-1, 1) and their mean's sine, others for each rank."""
    rng = np.random.default_rng(rank)
    inputs = rng.uniform(-1, 1, (count, 4))
    return np.concatenate([inputs, np.sin(inputs.sum(axis=1, keepdims=True))], axis=1).astype(np.float32)


def weights(ai: AI) -> list[float]:
    return torch.cat([weight.detach().flatten() for weight in ai.net.parameters()]).tolist()


def joined(size: int) -> dict:
    """What one process makes of the data of all ranks in one batch."""
    ai = AI(model=ModelConfig(features=4, hidden=[16], batch_size=ROWS * size), seed=3)
    ai.add_data(np.concatenate([rows(rank) for rank in range(size)]))
    first = (ai.train(), ai.loss)[1]
    ai.train(run_count=STEPS - 1)
    return {"weights": weights(ai), "first": first, "loss": ai.loss}


GRAPH = {"name": "graph", "features": 1, "outputs": 1, "shape": [2], "hidden": [4, 4], "optimizer": "sgd"}
"""On the numbers of the same rows: 60 samples of 4."""


def of_a_graph(ranks: Ranks | None, arrays: list[np.ndarray]) -> dict:
    """Weights and loss of a graph network after some steps, on the samples of `arrays` in one batch."""
    size = sum(array.size for array in arrays) // 4
    with AI(model={**GRAPH, "batch_size": size, "frozen": ["first"]}, seed=5, ranks=ranks) as ai:
        ai.add_data(np.concatenate(arrays))
        ai.train(run_count=4)
        return {"weights": weights(ai), "loss": ai.loss}


def main() -> None:
    ranks = Ranks.from_environment()
    with AI(model=ModelConfig(features=4, hidden=[16], batch_size=ROWS), seed=3, ranks=ranks) as ai:
        ai.add_data(rows(ranks.rank))
        first = (ai.train(), ai.loss)[1]
        ai.train(run_count=STEPS - 1)
        by_count = {"weights": weights(ai), "first": first, "loss": ai.loss}
        if ranks.rank == 1:  # ranks do not read equally many snapshots, and one of them is slower
            ai.add_data(rows(7, 1000))
        times = [ai.train(run_time=0.02 + 0.005 * ranks.rank) for _ in range(5)]
        inferred = ai.infer(run_count=ranks.rank + 1)[1]
        mine = {"by_count": by_count, "times": times, "inferred": inferred, "weights": weights(ai)}
        threads = torch.get_num_threads()
    graph = of_a_graph(ranks, [rows(ranks.rank)])
    group_left = torch.distributed.is_initialized()
    every = ranks.comm.gather(mine | {"threads": threads, "group_left": group_left, "graph": graph})
    if ranks.rank == 0:
        graph = of_a_graph(None, [rows(rank) for rank in range(ranks.size)])
        print(json.dumps({"ranks": every, "joined": joined(ranks.size) | {"graph": graph}}))
    ranks.finalize()


if __name__ == "__main__":
    main()
