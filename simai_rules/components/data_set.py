"""The data that a training learns from: the samples that a replay buffer keeps of what was staged."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simai_rules.config.models import ModelConfig
from simai_rules.errors import UserError


class DataSet:
    """At most `max_samples` samples, float32, each a row of `config.row` numbers on `device`.

    Their memory grows with them, and what is there is not moved when it is full: adding costs what is added.
    """

    def __init__(self, config: ModelConfig, seed: int, rank: int, device: torch.device | None = None) -> None:
        self._config = config
        self._room = torch.empty((0, config.row), device=device)
        self._count = 0
        self._oldest = 0
        """Its place in the room; the others follow, round and round."""
        self._random = torch.Generator().manual_seed(seed * 1_000_003 + rank)
        self._seen = 0
        self._next = 0
        """Where the next batch of a stream begins, counted from the oldest sample."""

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Tensor:
        """Return all samples, the oldest first where those are evicted: shape (samples, config.row)."""
        return self._room[self._places(torch.arange(self._count))]

    def add(self, array: NDArray[Any]) -> int:
        """Cut `array` into samples and return how many were taken; the rest after the last whole one is left out.

        Floats are taken as they are; integers are scaled by their type's largest value. Where there are too many, the
        config's eviction says which ones stay.

        Raises UserError where the array holds no whole sample, or is neither of floats nor of integers.
        """
        values = np.asarray(array).reshape(-1)
        width, most = self._config.row, self._config.max_samples
        rows = values.size // width
        if rows == 0 or values.dtype.kind not in "fiu":
            raise UserError(
                f"An array of {values.size} values of {values.dtype} cannot be learned from: a row is {width} floats "
                f"or integers (the inputs and targets of the {self._config.name}). Stage more, or set the model's "
                "features or shape."
            )
        kept = rows if self._config.eviction == "reservoir" else min(rows, most)
        newest = values[(rows - kept) * width : rows * width].astype(np.float32)
        if values.dtype.kind in "iu":
            newest /= np.float32(np.iinfo(values.dtype).max)
        return self._keep(torch.from_numpy(newest.reshape(kept, width)).to(self._room.device))

    def add_synthetic(self) -> None:
        """Fill a batch or two with random samples, uniform in [-1, 1)."""
        count = min(2 * self._config.batch_size, self._config.max_samples)
        self._keep(torch.rand((count, self._config.row), generator=self._random).to(self._room.device) * 2 - 1)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the next batch; of all samples where there are no more than a batch.

        Shapes: (samples, *config.input_shape) and (samples, *config.target_shape).
        """
        count, size = self._count, self._config.batch_size
        if count <= size:
            return split(self.rows(), self._config)
        return split(self._room[self._places(self._choice(count, size))], self._config)

    def _choice(self, count: int, size: int) -> Tensor:
        if self._config.order == "random":
            return torch.randint(count, (size,), generator=self._random)
        chosen = (self._next + torch.arange(size)) % count
        self._next = (self._next + size) % count
        return chosen

    def _places(self, numbers: Tensor) -> Tensor:
        """Return the places of samples, counted from the oldest."""
        return ((numbers + self._oldest) % max(1, len(self._room))).to(self._room.device)

    def _keep(self, added: Tensor) -> int:
        room = self._config.max_samples - self._count
        if self._config.eviction == "oldest":
            self._append(added)
            return len(added)
        first = min(room, len(added))
        self._append(added[:first])
        before, self._seen = self._seen, self._seen + len(added)
        if first == len(added):
            return first
        evicted = self._evicted(len(added) - first, before + first)
        taken = {int(place): first + number for number, place in enumerate(evicted) if place < self._count}
        self._room[list(taken)] = added[list(taken.values())]
        return first + len(taken)

    def _append(self, added: Tensor) -> None:
        """Put samples, no more than max_samples, after the others, and over the oldest where there is no room."""
        most, count = self._config.max_samples, self._count + len(added)
        if min(count, most) > len(self._room):
            room = self._room.new_empty((min(most, max(count, 2 * len(self._room))), self._config.row))
            room[: self._count] = self._room[: self._count]
            self._room = room
        self._room[self._places(self._count + torch.arange(len(added)))] = added
        over = max(0, count - most)
        self._count = count - over
        self._oldest = (self._oldest + over) % most
        self._next = max(0, self._next - over)

    def _evicted(self, count: int, seen: int) -> Tensor:
        """Return which sample each of `count` further ones replaces; none where that is beyond the last.

        reservoir: Vitter, Random Sampling with a Reservoir (1985), algorithm R; `seen` came before the first of them.
        """
        if self._config.eviction == "random":
            return torch.randperm(self._count, generator=self._random)[:count]
        drawn = torch.rand(count, dtype=torch.float64, generator=self._random)
        return (drawn * (seen + 1 + torch.arange(count))).long()


def split(rows: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of samples, `rows` of shape (samples, config.row)."""
    count = len(rows)
    if config.name == "transformer":
        tokens = rows.reshape(count, -1, config.features)
        return tokens[:, :-1], tokens[:, 1:]
    width = torch.Size(config.input_shape).numel()
    inputs = rows[:, :width].reshape(count, *config.input_shape)
    if config.row == width:
        return inputs, inputs
    return inputs, rows[:, width:].reshape(count, *config.target_shape)
