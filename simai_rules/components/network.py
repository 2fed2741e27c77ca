"""The net of a training and the data that it learns from, in torch on the CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simai_rules.config.components import ModelConfig
from simai_rules.errors import UserError


def feed_forward(config: ModelConfig, seed: int) -> nn.Module:
    """Return a net of `features` inputs, the hidden layers (tanh) and one output; its weights depend on `seed` only."""
    widths = [config.features, *config.hidden, 1]
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        return nn.Sequential(*layers[:-1])


class DataSet:
    """The newest `max_samples` rows of what was staged: inputs (rows, features) and targets (rows, 1), float32."""

    def __init__(self, config: ModelConfig, seed: int, rank: int) -> None:
        self._width = config.features + 1
        self._batch = config.batch_size
        self._most = config.max_samples
        self._rows = torch.empty((0, self._width))
        self._random = torch.Generator().manual_seed(seed * 1_000_003 + rank)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, array: NDArray[Any]) -> int:
        """Cut `array` into rows, add the newest of them, and return how many; the rest after the last row is left out.

        Floats are taken as they are; integers are scaled by their type's largest value.

        Raises UserError where the array holds no whole row, or is neither of floats nor of integers.
        """
        values = np.asarray(array).reshape(-1)
        rows = values.size // self._width
        if rows == 0 or values.dtype.kind not in "fiu":
            raise UserError(
                f"An array of {values.size} values of {values.dtype} cannot be learned from: a row is {self._width} "
                f"floats or integers ({self._width - 1} features and a target). Stage more, or set the model's "
                "features."
            )
        kept = min(rows, self._most)
        newest = values[(rows - kept) * self._width : rows * self._width].astype(np.float32)
        if values.dtype.kind in "iu":
            newest /= np.float32(np.iinfo(values.dtype).max)
        added = torch.from_numpy(newest.reshape(kept, self._width))
        self._rows = torch.cat([self._rows, added])[-self._most :]
        return kept

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of a random batch; of all rows where there are no more than a batch."""
        rows = self._rows
        if len(rows) > self._batch:
            rows = rows[torch.randint(len(rows), (self._batch,), generator=self._random)]
        return rows[:, :-1], rows[:, -1:]
