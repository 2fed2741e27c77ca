"""Waiting for the other ranks of a simulation, with a deadline."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from simai_rules.errors import UserError
from simai_rules.kernels.pace import Paced


class Together:
    """All ranks of the communicator `comm` of mpi4py (None: this one alone); nobody waits for longer than `timeout` s.

    Each method has to be called by all ranks; UserError is raised where one of them does not come in time.
    """

    def __init__(self, comm: Any | None, timeout: float) -> None:
        self.alone = comm is None or comm.Get_size() == 1
        self._comm, self._timeout = comm, timeout

    def barrier(self) -> Paced:
        """Wait for all ranks; return when that began and how long it took."""
        start = time.perf_counter_ns()
        if self._comm is not None and not self.alone:
            self._finish(self._comm.Ibarrier(), start)
        return Paced(start, time.perf_counter_ns() - start, 1)

    def any(self, mine: bool) -> tuple[bool, Paced]:
        """Return whether it is true on any rank, and when asking them began and how long it took."""
        start, result = time.perf_counter_ns(), np.array([mine], np.int32)
        if self._comm is not None and not self.alone:
            from mpi4py import MPI

            self._finish(self._comm.Iallreduce(np.array([mine], np.int32), result, MPI.MAX), start)
        return bool(result[0]), Paced(start, time.perf_counter_ns() - start, 1)

    def _finish(self, request: Any, start: int) -> None:
        """Look until `request` is done, as MPI's own blocking calls do."""
        deadline = start + round(self._timeout * 1e9)
        while not request.Test():
            if time.perf_counter_ns() > deadline:
                raise UserError(
                    f"The other ranks did not come within {self._timeout:g} s (staging.timeout). Either "
                    "one of them is much slower than this one (see simulation.imbalance and the kernels' run times), "
                    "and the timeout is to be raised, or it has stopped (see its log)."
                )
