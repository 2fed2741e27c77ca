"""Recording timed operations of one rank: a cheap append while the run lasts, columns at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from simai_rules.staging.operation import Operation

Phase = Literal["warmup", "measured"]

FIELDS = (
    "operation",
    "kernel",
    "phase",
    "status",
    "key",
    "start_ns",
    "duration_ns",
    "serialize_ns",
    "transport_ns",
    "wait_ns",
    "deserialize_ns",
    "nbytes",
    "iteration",
    "step",
    "replaced",
    "found",
    "loss",
    "calls",
    "work_ns",
    "device_ns",
    "flops",
)


class Recorder:
    """The events of one rank of a component.

    Times are nanoseconds of `time.perf_counter_ns`, which all processes of a node share. `clock_offset_ns`, added to
    them, gives nanoseconds of the wall clock, by which different nodes are aligned.

    Attributes: phase ("warmup" until the loop sets "measured"), component, rank, host, local_rank.
    """

    def __init__(self, component: str, rank: int, host: str, local_rank: int = 0) -> None:
        self.component, self.rank, self.host, self.local_rank = component, rank, host, local_rank
        self.phase: Phase = "warmup"
        self.clock_offset_ns = time.time_ns() - time.perf_counter_ns()
        self._rows: list[tuple[Any, ...]] = []
        self._append = self._rows.append

    def __len__(self) -> int:
        return len(self._rows)

    def record(
        self,
        operation: str,
        start_ns: int,
        duration_ns: int,
        *,
        iteration: int = -1,
        step: int = -1,
        kernel: str = "",
        key: str = "",
        nbytes: int = 0,
        serialize_ns: int = 0,
        transport_ns: int = 0,
        wait_ns: int = 0,
        deserialize_ns: int = 0,
        replaced: bool | None = None,
        found: bool | None = None,
        status: str = "ok",
        loss: float | None = None,
        calls: int = 0,
        work_ns: int = 0,
        device_ns: int = 0,
        flops: float = 0.0,
    ) -> None:
        """Note one operation; `iteration` and `step` (the snapshot) are -1 where they mean nothing.

        Of a kernel: calls, and what they took by the clock (work_ns, without the busy finish) and by the device's own
        events (device_ns, 0 on a CPU); flops and nbytes are those of all its calls: flops / work_ns are GFLOP/s.
        """
        self._append(
            (
                operation,
                kernel,
                self.phase,
                status,
                key,
                start_ns,
                duration_ns,
                serialize_ns,
                transport_ns,
                wait_ns,
                deserialize_ns,
                nbytes,
                iteration,
                step,
                replaced,
                found,
                loss,
                calls,
                work_ns,
                device_ns,
                flops,
            )
        )

    def add(self, operation: Operation, *, iteration: int = -1, step: int = -1, status: str = "ok") -> None:
        """Note a verb of a DataStore, as its attribute `last` describes it."""
        self._append(
            (
                operation.verb,
                "",
                self.phase,
                status,
                operation.key,
                operation.start_ns,
                operation.duration_ns,
                operation.serialize_ns,
                operation.transport_ns,
                operation.wait_ns,
                operation.deserialize_ns,
                operation.nbytes,
                iteration,
                step,
                operation.replaced,
                operation.found,
                None,
                0,
                0,
                0,
                0.0,
            )
        )

    def columns(self) -> dict[str, list[Any]]:
        """Return the events in the order of recording, one list per name of `FIELDS`."""
        if not self._rows:
            return {name: [] for name in FIELDS}
        return {name: list(column) for name, column in zip(FIELDS, zip(*self._rows, strict=True), strict=True)}
