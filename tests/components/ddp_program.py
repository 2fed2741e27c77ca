"""A training of several ranks, run by test_components_ddp.py under mpiexec; rank 0 prints what all of them saw."""

import gc
import json

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from simai_rules.components.ai import AI
from simai_rules.components.ranks import Ranks
from simai_rules.components.weights import named_arrays
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


class Partly(nn.Module):
    """A net of the user's own: some of its weights are never used, and a batch norm has buffers."""

    def __init__(self):
        super().__init__()
        self.used, self.unused, self.norm = nn.Linear(3, 1), nn.Linear(3, 1), nn.BatchNorm1d(3)

    def forward(self, inputs):
        return self.used(self.norm(inputs))


SGD = {"optimizer": "sgd", "learning_rate": 0.01}
MODELS = {
    "graph": {"name": "graph", "features": 1, "outputs": 1, "shape": [2], "hidden": [4, 4], "frozen": ["first"]},
    "cnn": {"name": "cnn", "features": 1, "outputs": 2, "shape": [2], "hidden": [4, 4]},
    "unet": {"name": "unet", "features": 1, "outputs": 1, "shape": [2], "hidden": [4, 4]},
    "autoencoder": {"name": "autoencoder", "features": 4, "hidden": [3, 2]},
    "transformer": {"name": "transformer", "features": 2, "shape": [1], "hidden": [4], "heads": 2},
}
"""On the numbers of the same rows: 60 samples of 4 for each rank."""
PARTLY = {"name": "ddp_program:Partly", "inputs": [3], "targets": [1], "batch_size": 60}


def of_a_model(ranks: Ranks | None, arrays: list[np.ndarray], model: dict) -> dict:
    """Weights and loss after some steps, on the samples of `arrays` in one batch."""
    size = sum(array.size for array in arrays) // 4
    with AI(model={**SGD, "batch_size": size, **model}, seed=5, ranks=ranks) as ai:
        ai.add_data(np.concatenate(arrays))
        ai.train(run_count=4)
        return {"weights": weights(ai), "loss": ai.loss, "names": list(named_arrays(ai.net))}


def distributed_nets_at_the_end() -> list[int]:
    """Return a list that gets how many there are whenever the process group is left."""
    counts: list[int] = []
    leave = dist.destroy_process_group

    def counting() -> None:
        counts.append(sum(type(each) is DistributedDataParallel for each in gc.get_objects()))
        leave()

    dist.destroy_process_group = counting
    return counts


def main() -> None:
    ranks = Ranks.from_environment()
    at_the_end = distributed_nets_at_the_end()
    with AI(model=ModelConfig(features=4, hidden=[16], batch_size=ROWS), seed=3, ranks=ranks) as ai:
        ai.add_data(rows(ranks.rank))
        first = (ai.train(), ai.loss)[1]
        ai.train(run_count=STEPS - 1)
        by_count = {"weights": weights(ai), "first": first, "loss": ai.loss}
        if ranks.rank == 1:  # ranks do not read equally many snapshots, and one of them is slower
            ai.add_data(rows(7, 1000))
        times = [ai.train(run_time=0.2 + 0.05 * ranks.rank) for _ in range(5)]
        inferred = ai.infer(run_count=ranks.rank + 1)[1]
        mine = {"by_count": by_count, "times": times, "inferred": inferred, "weights": weights(ai)}
        threads = torch.get_num_threads()
    models = {name: of_a_model(ranks, [rows(ranks.rank)], model) for name, model in MODELS.items()}
    models["partly"] = of_a_model(ranks, [rows(ranks.rank)], PARTLY)
    group = {"in_group": dist.is_initialized(), "distributed_at_the_end": at_the_end}
    every = ranks.comm.gather(mine | group | {"threads": threads, "models": models})
    if ranks.rank == 0:
        arrays = [rows(rank) for rank in range(ranks.size)]
        models = {name: of_a_model(None, arrays, model) for name, model in MODELS.items()}
        print(json.dumps({"ranks": every, "joined": joined(ranks.size) | {"models": models}}))
    ranks.finalize()


if __name__ == "__main__":
    main()
