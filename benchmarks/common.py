"""What the benchmarks share: interleaved comparisons, payloads, a table with targets."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from simai_rules.staging.datastore import DataStore
from simai_rules.staging.servers import ServerManager, server_registry

BACKENDS = ("node-local", "filesystem", "redis")
ROUNDS = 15


def payload(nbytes: int) -> npt.NDArray[np.float32]:
    """Return `nbytes` of incompressible float32."""
    return np.random.default_rng(0).random(nbytes // 4, np.float32)


@contextmanager
def staging(backend: str) -> Iterator[dict[str, Any]]:
    """Start a server of `backend` and give its description; `filesystem` is the disk under the temporary folder."""
    with TemporaryDirectory(prefix="simai-rules-bench-") as folder:
        options = {"folder": folder} if backend == "filesystem" else {}
        with ServerManager("bench", server_registry.create_config(backend, **options)) as server:
            yield server.get_server_info()


@contextmanager
def client(backend: str) -> Iterator[tuple[DataStore, dict[str, Any]]]:
    """Start a server of `backend` and give a client and the server's address."""
    with staging(backend) as info, DataStore("bench", info) as store:
        yield store, info["address"]


@dataclass(frozen=True)
class Comparison:
    """Two ways to do one thing: the median of each in seconds, and of the quotient raw/ours of each round."""

    ours_s: float
    raw_s: float
    ratio: float


def compare(ours: Callable[[int], float], raw: Callable[[int], float], rounds: int = ROUNDS) -> Comparison:
    """Call both in turns, `rounds` times after two for warming up; each gets the round and returns its seconds.

    Who comes first changes from round to round, and the quotients are taken within a round, so that what else the
    machine does meets both alike.
    """
    pairs = []
    for number in range(rounds + 2):
        if number % 2:
            first, second = raw(number), ours(number)
            pairs.append((second, first))
        else:
            pairs.append((ours(number), raw(number)))
    pairs = pairs[2:]
    return Comparison(
        statistics.median(mine for mine, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(other / mine for mine, other in pairs),
    )


@dataclass
class Table:
    """Rows of a benchmark, printed as they come; `failed` counts those that missed their target."""

    columns: tuple[str, ...]
    failed: int = 0
    _widths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._widths = [max(len(column), 12) for column in self.columns]
        self._print(self.columns)

    def add(self, *cells: str, target: str = "", met: bool | None = None) -> None:
        """Print one row; `met` is None where there is no target."""
        verdict = "" if met is None else f"{'pass' if met else 'MISSED'} ({target})"
        self.failed += met is False
        self._print((*cells, verdict))

    def _print(self, cells: tuple[str, ...]) -> None:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, self._widths, strict=True)).rstrip(), flush=True
        )


def size(nbytes: int) -> str:
    """Return a size with its unit (1 MB = 1e6 bytes)."""
    return f"{nbytes / 1e6:g} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:g} KB"


def rate(nbytes: int, seconds: float) -> str:
    """Return a throughput, or for small values the time."""
    return f"{seconds * 1e6:.0f} us" if nbytes < 1e5 else f"{nbytes / seconds / 1e9:.2f} GB/s"
