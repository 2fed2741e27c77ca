"""Simulation: kernels that imitate the computing of a real one, and the verbs of a DataStore."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simai_rules.components.component import Component
from simai_rules.components.kernel_run import KernelRun
from simai_rules.components.phases import Done, Phases, factor_of, run_all
from simai_rules.components.together import Together
from simai_rules.config.kernels import KernelConfig
from simai_rules.config.messages import checked
from simai_rules.config.simulation import SimulationConfig
from simai_rules.errors import ConfigError, UserError
from simai_rules.kernels.check import check_kernels
from simai_rules.kernels.pace import Paced

if TYPE_CHECKING:
    from simai_rules.events.recorder import Recorder
    from simai_rules.staging.info import ServerInfo


class _Iteration(NamedTuple):
    """What was done in an iteration, the wait for the other ranks after it, and the checkpoint after that."""

    kernels: Done
    barrier: Paced | None
    checkpoint: Done


class Simulation(Component):
    """One rank of a simulation: in each iteration its kernels run one after another, and a branch of its mix.

    Its BLAS uses the threads that the environment says (OMP_NUM_THREADS and its like, set before Python starts; the
    launcher does). Without a launcher, set them to 1 or to the cores that are yours: BLAS takes all cores otherwise,
    and ranks on one node then fight for them.

        simulation = Simulation(name="sim", server_info=server.get_server_info())
        simulation.add_kernel("MatMulSimple2D", run_time=0.031, data_size=[256, 256])
        simulation.run(nsteps=10)
        simulation.stage_write("key", array)

    server_info, timeout: as for Component. rank, seed, repeat: what the operands and all that is drawn depend on: the
    same numbers give the same sequence. comm: the communicator of mpi4py of all ranks, if there are several. claim:
    called with the path of each folder that a kernel is about to make. recorder: gets an event per kernel ("compute")
    and iteration, barrier, start and checkpoint.
    """

    def __init__(
        self,
        name: str = "SIM",
        server_info: ServerInfo | dict[str, Any] | str | Path | None = None,
        *,
        rank: int = 0,
        seed: int = 0,
        repeat: int = 0,
        comm: Any | None = None,
        claim: Callable[[Path], None] | None = None,
        recorder: Recorder | None = None,
        timeout: float = 120.0,
    ) -> None:
        super().__init__(name, server_info, timeout=timeout)
        self.rank = rank
        self.iteration = 0
        """Iterations done."""
        self._seed, self._repeat = seed, repeat
        self._recorder = recorder
        self._comm, self._claim = comm, claim
        self._together = Together(comm, timeout)
        self._barrier = False
        self._factor = 1.0
        self._phases = Phases(None, self._make, seed, repeat)
        self._prepared = self._begun = False

    def add_kernel(
        self,
        name: str,
        *,
        run_time: Any = None,
        run_count: Any = None,
        data_size: Sequence[int] | None = None,
        **further: Any,
    ) -> None:
        """Add the kernel `name` (see simai_rules.kernels) to each iteration.

        run_time (seconds) or run_count (calls; 1 if neither is given): a number, or a distribution such as
        `{"normal": {"mean": 0.031, "std": 0.002}}`. data_size and further options (dtype, device, …): see KernelConfig.

        Raises ConfigError for an unknown name or an option that is not valid, UserError where the kernel cannot be
        made.
        """
        options = {"run_time": run_time, "run_count": run_count, "data_size": data_size, **further}
        given = {key: value for key, value in options.items() if value is not None}
        if data_size is not None:
            given["data_size"] = list(data_size)
        kernel = checked(f"kernel {name!r}", KernelConfig, {"name": name} | given)
        self._phases.steps.append(self._make(kernel, f"kernel {len(self._phases.steps)}"))
        self._prepared = False

    def init_from_dict(self, config: dict[str, Any]) -> None:
        """Add what `{"kernels": [{"name": "MatMulSimple2D", "run_time": 0.031}, …]}` says.

        All keys of a SimulationConfig are taken; those that concern a coupled run mean nothing here.

        Raises ConfigError that lists all problems.
        """
        self.configure(checked("the dict", SimulationConfig, config))

    def init_from_json(self, path: str | Path) -> None:
        """Add what a JSON file with the content that init_from_dict takes says; raises ConfigError."""
        try:
            config = json.loads(Path(path).read_text())
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
        self.configure(checked(str(path), SimulationConfig, config))

    def configure(self, config: SimulationConfig) -> None:
        """Add what `config`, which was checked already, says: its kernels come after those that are there.

        Its mix, start, checkpoint, imbalance and barrier take the place of those that are there. Raises UserError with
        every reason why a kernel cannot be made here, before any of them is.
        """
        check_kernels(config.all_kernels(), self._comm)
        self._factor = factor_of(config.imbalance, seed=self._seed, repeat=self._repeat, rank=self.rank)
        self._barrier = config.barrier
        before = self._phases.steps
        self._phases = Phases(config, self._make, self._seed, self._repeat)
        self._phases.steps[:0] = before
        self._prepared = self._begun = False

    @property
    def collective(self) -> bool:
        """Whether the ranks have to run equally many iterations, because they wait for each other in them."""
        return self._barrier or any(kernel.collective for kernel in self._phases.all())

    def any_rank(self, mine: bool) -> bool:
        """Return whether it is true on any rank; all of them have to call it, after an iteration.

        The event is agree: a rank waits here for one that was longer about what came after its last iteration.
        """
        answer, asked = self._together.any(mine)
        if self._recorder is not None and not self._together.alone:
            self._recorder.record("agree", asked.start_ns, asked.elapsed_ns, iteration=self.iteration - 1)
        return answer

    def prepare(self) -> None:
        """Calibrate the kernels that run by time, outside of any iteration; `run` does it if nobody has.

        Raises UserError where one call of a kernel takes longer than its run_time.
        """
        for kernel in self._phases.all():
            kernel.prepare()
        self._prepared = True

    def begin(self) -> None:
        """Run what comes once, before the first iteration; `run` does it if nobody has. Raises the errors of `run`."""
        if not self._prepared:
            self.prepare()
        self._begun = True
        if self._phases.start:
            self._record_phase("start", run_all(self._phases.start), -1)

    def run(self, nsteps: int = 1) -> list[float]:
        """Run `nsteps` iterations and return the seconds that each took, its barrier included, a checkpoint not.

        Raises UserError where there is no kernel, or one call of a kernel takes longer than its run_time.
        """
        if not (self._phases.steps or self._phases.mix.branches):
            raise UserError(f"{self.name} has no kernel to run. Add one: add_kernel('MatMulSimple2D', run_time=0.03).")
        if not self._prepared:
            self.prepare()
        if not self._begun:
            self.begin()
        iterations = [self._iterate(self.iteration + number) for number in range(1, nsteps + 1)]
        # Recording comes after all of them. Its code and data are cold after a kernel: in between it costs more
        # than iterations may err.
        return [self._record(done) for done in iterations]

    def close(self) -> None:
        """Remove what the kernels made, and end the connection to the staging server."""
        for kernel in self._phases.all():
            kernel.close()
        super().close()

    def _iterate(self, number: int) -> _Iteration:
        """Run the iteration `number`, counted from 1."""
        kernels = run_all(self._phases.iteration())
        barrier = self._together.barrier() if self._barrier else None
        return _Iteration(kernels, barrier, run_all(self._phases.checkpoint) if self._phases.due(number) else [])

    def _record(self, done: _Iteration) -> float:
        """Note an iteration; return its seconds, from its first kernel's start to the end of the last or barrier."""
        last = done.barrier or done.kernels[-1][1]
        start = done.kernels[0][1].start_ns
        elapsed = last.start_ns + last.elapsed_ns - start
        if self._recorder is not None:
            self._record_kernels(done.kernels, self.iteration)
            if done.barrier is not None:
                self._recorder.record("barrier", last.start_ns, last.elapsed_ns, iteration=self.iteration)
            self._recorder.record("iteration", start, elapsed, iteration=self.iteration)
        if done.checkpoint:
            self._record_phase("checkpoint", done.checkpoint, self.iteration)
        self.iteration += 1
        return elapsed / 1e9

    def _record_phase(self, phase: str, done: Done, iteration: int) -> None:
        if self._recorder is None:
            return
        first, last = done[0][1], done[-1][1]
        self._record_kernels(done, iteration)
        self._recorder.record(
            phase, first.start_ns, last.start_ns + last.elapsed_ns - first.start_ns, iteration=iteration
        )

    def _record_kernels(self, done: Done, iteration: int) -> None:
        if self._recorder is not None:
            for kernel, paced in done:
                self._recorder.record(
                    "compute",
                    paced.start_ns,
                    paced.elapsed_ns,
                    iteration=iteration,
                    kernel=kernel.name,
                    calls=paced.calls,
                    work_ns=paced.work_ns,
                    device_ns=paced.device_ns,
                    flops=kernel.flops * paced.calls,
                    nbytes=kernel.nbytes * paced.calls,
                )

    def _make(self, config: KernelConfig, purpose: str) -> KernelRun:
        return KernelRun(
            config,
            seed=self._seed,
            repeat=self._repeat,
            rank=self.rank,
            purpose=f"{self.name} {purpose}",
            factor=self._factor,
            comm=self._comm,
            claim=self._claim,
        )
