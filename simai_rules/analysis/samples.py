"""The numbers of one point that the figures and the recommendation need, without its raw events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simai_rules.analysis.summary import after_warmup, has_word, numbers, words

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

PARTS = (
    "compute",
    "checkpoint",
    "barrier",
    "train",
    "infer",
    "serialize",
    "write transport",
    "wait",
    "read transport",
    "deserialize",
    "poll and delete",
    "publish and take",
)
EXCHANGE = PARTS[PARTS.index("serialize") :]


@dataclass(frozen=True)
class Transfers:
    """The measured, intact transfers of one verb: seconds without waiting and bytes, both of shape (transfers,)."""

    seconds: NDArray[np.float64]
    nbytes: NDArray[np.int64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """MB/s of each transfer (1 MB = 1e6 bytes)."""
        rates: NDArray[np.float64] = self.nbytes / self.seconds / 1e6
        return rates


@dataclass(frozen=True)
class Samples:
    """One point: its writes, its reads, and its mean rank-seconds per exchanged snapshot, by part (see PARTS)."""

    write: Transfers
    read: Transfers
    parts: dict[str, float]


def samples_of(tables: Mapping[str, pa.Table]) -> Samples:
    """Collect the samples of a point from the events of its components, by name: simulation, training, inference."""
    simulation, training = _Events(tables["simulation"]), _Events(tables["training"])
    inference = [_Events(table) for name, table in tables.items() if name == "inference"]
    write, read = simulation.transfers("write"), training.transfers("read")
    per_write, per_read = 1e-9 / max(len(write.seconds), 1), 1e-9 / max(len(read.seconds), 1)
    checkpoint = simulation.total("checkpoint", "duration_ns")
    parts = {
        # The kernels of a checkpoint are compute events inside of it.
        "compute": max(simulation.total("compute", "duration_ns") - checkpoint, 0.0) * per_write,
        "checkpoint": checkpoint * per_write,
        "barrier": sum(simulation.total(verb, "duration_ns") for verb in ("barrier", "agree")) * per_write,
        "train": training.total("train", "duration_ns") * per_read,
        "infer": sum(each.total("infer", "duration_ns") for each in (training, *inference)) * per_read,
        "serialize": simulation.total("write", "serialize_ns") * per_write,
        "write transport": simulation.total("write", "transport_ns") * per_write,
        # A training rank waits for its data, and before an iteration for the ranks that are still reading theirs.
        "wait": simulation.total("wait", "duration_ns") * per_write
        + (
            training.total("read", "wait_ns")
            + training.total("wait", "duration_ns")
            + training.total("train", "wait_ns")
        )
        * per_read,
        "read transport": training.total("read", "transport_ns") * per_read,
        "deserialize": training.total("read", "deserialize_ns") * per_read,
        "poll and delete": simulation.total("poll", "duration_ns") * per_write
        + (training.total("poll", "duration_ns") + training.total("delete", "duration_ns")) * per_read,
        "publish and take": training.total("publish", "duration_ns") * per_read
        + sum(each.total(verb, "duration_ns") for each in inference for verb in ("take", "poll")) * per_read,
    }
    return Samples(write, read, parts)


class _Events:
    """The measured events of a component, by operation; reads and writes that are not intact are left out."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._operation, self._operations = words(table, "operation")
        # Events of before the first iteration belong to no snapshot.
        self._chosen = after_warmup(table) & has_word(table, "status", "ok")

    def _of(self, operation: str, column: str) -> NDArray[np.int64]:
        code = self._operations.index(operation) if operation in self._operations else -1
        chosen: NDArray[np.int64] = numbers(self._table, column)[self._chosen & (self._operation == code)]
        return chosen

    def total(self, operation: str, column: str) -> float:
        return float(self._of(operation, column).sum())

    def transfers(self, operation: str) -> Transfers:
        nanoseconds = self._of(operation, "serialize_ns") + self._of(operation, "transport_ns")
        nanoseconds += self._of(operation, "deserialize_ns")
        nbytes = self._of(operation, "nbytes")
        timed = (nanoseconds > 0) & (nbytes > 0)
        return Transfers(nanoseconds[timed] / 1e9, nbytes[timed])
