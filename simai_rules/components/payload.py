"""What a simulation rank stages: seeded, incompressible, learnable data that says which rank and step it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from simai_rules.kernels.sampling import generator

if TYPE_CHECKING:
    from simai_rules.config.models import ModelConfig

Array = NDArray[Any]
Status = Literal["ok", "stale", "torn"]

SLACK_ROWS = 1021
"""Rows beyond one message: so many steps pass before a window comes again. A prime, so that no period hides in it."""
_CHUNK_ROWS = 65_536
_SLOPE = 1.5


def payload_features(model: ModelConfig) -> int:
    """Return how many inputs the rows of a payload have that is to be learned by `model`.

    A net of one target per sample can learn the rows as they are. The others take the same numbers as noise, cut
    otherwise: rows of a whole image would make the data, which are made in advance, far too many.
    """
    return model.features if model.name == "mlp" and model.outputs == 1 else 7


class Payload:
    """The snapshots of one rank: windows, at an offset that depends on the step, of one array that is made once.

    elements, dtype: the data of each snapshot. features: inputs per row. A row holds `features` inputs, uniform in
    [-1, 1), and the target sin(w · inputs), with |w| = 1.5 the same for all ranks of a seed; what is left after the
    last whole row is the beginning of a further row. Integers are random bits without a meaning.

    Consecutive snapshots differ at every position and share memory, so that none is copied: stage a snapshot before
    anything is written into it.
    """

    def __init__(self, *, elements: int, dtype: str, features: int, seed: int, repeat: int, rank: int) -> None:
        self.elements, self.rank = elements, rank
        self._width = features + 1
        rows = -(-elements // self._width) + SLACK_ROWS
        rng = generator(seed, repeat, rank, "payload")
        kind = np.dtype(dtype)
        if kind.kind == "i":
            limits = np.iinfo(kind)
            self._pool: Array = rng.integers(limits.min, limits.max, rows * self._width, kind, endpoint=True)
        else:
            weights = generator(seed, 0, 0, "target").normal(size=features)
            self._pool = _learnable(rows, kind, _SLOPE * weights / np.linalg.norm(weights), rng)

    def data(self, step: int) -> Array:
        """Return the data of snapshot `step`: a view of shape (elements,)."""
        start = step % (SLACK_ROWS + 1) * self._width
        return self._pool[start : start + self.elements]

    def snapshot(self, step: int) -> dict[str, Any]:
        """Return the value to stage: the data, its rank and step, and its digest (xxh3, 64 bit, hexadecimal)."""
        data = self.data(step)
        return {"data": data, "rank": self.rank, "step": step, "digest": digest(data)}


def digest(data: Array) -> str:
    """Return the xxh3 digest (64 bit) of the bytes of a contiguous array, as 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(data.data.cast("B") if data.size else b"")


def check(snapshot: dict[str, Any], rank: int, step: int) -> Status:
    """Say whether a snapshot is whole and of `rank` and `step`.

    "stale": it is of another rank or step; "torn": its data is not what its digest says.
    """
    if (snapshot["rank"], snapshot["step"]) != (rank, step):
        return "stale"
    return "ok" if digest(np.ascontiguousarray(snapshot["data"])) == snapshot["digest"] else "torn"


def _learnable(rows: int, dtype: np.dtype[Any], weights: NDArray[np.float64], rng: np.random.Generator) -> Array:
    """Return `rows` rows of inputs and target, flat; made in chunks, to need little more memory than the result."""
    working: Any = np.float64 if dtype == np.float64 else np.float32
    pool = np.empty((rows, len(weights) + 1), dtype)
    for first in range(0, rows, _CHUNK_ROWS):
        chunk = 2 * rng.random((min(_CHUNK_ROWS, rows - first), len(weights) + 1), working) - 1
        chunk[:, -1] = np.sin(chunk[:, :-1] @ weights.astype(working))
        pool[first : first + len(chunk)] = chunk
    return pool.reshape(-1)
