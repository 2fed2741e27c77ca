"""Simulation: kernels that imitate the computing of a real one, and the verbs of a DataStore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.components.component import Component
from simai_rules.components.kernel_run import KernelRun
from simai_rules.config.base import Strict
from simai_rules.config.components import KernelConfig
from simai_rules.config.messages import checked
from simai_rules.errors import ConfigError, UserError
from simai_rules.kernels.pace import Paced

if TYPE_CHECKING:
    from simai_rules.events.recorder import Recorder
    from simai_rules.staging.info import ServerInfo


class _Kernels(Strict):
    """What init_from_dict takes."""

    kernels: list[KernelConfig]


class Simulation(Component):
    """One rank of a simulation: in each iteration all its kernels run one after another.

    Its BLAS uses the threads that the environment says (OMP_NUM_THREADS and its like, set before Python starts; the
    launcher does). Without a launcher, set them to 1 or to the cores that are yours: BLAS takes all cores otherwise,
    and ranks on one node then fight for them.

        simulation = Simulation(name="sim", server_info=server.get_server_info())
        simulation.add_kernel("MatMulSimple2D", run_time=0.031, data_size=[256, 256])
        simulation.run(nsteps=10)
        simulation.stage_write("key", array)

    server_info, timeout: as for Component. rank, seed, repeat: what the operands and the drawn run times depend on.
    recorder: gets an event per kernel and iteration, and one per iteration.
    """

    def __init__(
        self,
        name: str = "SIM",
        server_info: ServerInfo | dict[str, Any] | str | Path | None = None,
        *,
        rank: int = 0,
        seed: int = 0,
        repeat: int = 0,
        recorder: Recorder | None = None,
        timeout: float = 120.0,
    ) -> None:
        super().__init__(name, server_info, timeout=timeout)
        self.rank = rank
        self.iteration = 0
        """Iterations done."""
        self._seed, self._repeat = seed, repeat
        self._recorder = recorder
        self._kernels: list[KernelRun] = []
        self._prepared = False

    def add_kernel(
        self,
        name: str,
        *,
        run_time: Any = None,
        run_count: Any = None,
        data_size: Sequence[int] | None = None,
        dtype: str | None = None,
        ufunc: str | None = None,
    ) -> None:
        """Add the kernel `name` (see simai_rules.kernels) to each iteration.

        run_time (seconds) or run_count (calls; 1 if neither is given): a number, or a distribution such as
        `{"normal": {"mean": 0.031, "std": 0.002}}`. data_size, dtype, ufunc: see KernelConfig.

        Raises ConfigError for an unknown name or an option that is not valid, UserError where the kernel cannot be
        made.
        """
        options = {"run_time": run_time, "run_count": run_count, "data_size": data_size, "dtype": dtype, "ufunc": ufunc}
        given = {key: value for key, value in options.items() if value is not None}
        if data_size is not None:
            given["data_size"] = list(data_size)
        self._add(checked(f"kernel {name!r}", KernelConfig, {"name": name} | given))

    def init_from_dict(self, config: dict[str, Any]) -> None:
        """Add the kernels of `{"kernels": [{"name": "MatMulSimple2D", "run_time": 0.031}, …]}`.

        Raises ConfigError that lists all problems.
        """
        self._add_all("the dict", config)

    def init_from_json(self, path: str | Path) -> None:
        """Add the kernels of a JSON file with the content that init_from_dict takes; raises ConfigError."""
        try:
            config = json.loads(Path(path).read_text())
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
        self._add_all(str(path), config)

    def add_configured(self, kernels: Sequence[KernelConfig]) -> None:
        """Add kernels whose config was checked already."""
        for kernel in kernels:
            self._add(kernel)

    def prepare(self) -> None:
        """Calibrate the kernels that run by time, outside of any iteration; `run` does it if nobody has.

        Raises UserError where one call of a kernel takes longer than its run_time.
        """
        for kernel in self._kernels:
            kernel.prepare()
        self._prepared = True

    def run(self, nsteps: int = 1) -> list[float]:
        """Run `nsteps` iterations and return the seconds that each took.

        Raises UserError where there is no kernel, or one call of a kernel takes longer than its run_time.
        """
        if not self._kernels:
            raise UserError(f"{self.name} has no kernel to run. Add one: add_kernel('MatMulSimple2D', run_time=0.03).")
        if not self._prepared:
            self.prepare()
        iterations = [self._iterate() for _ in range(nsteps)]
        # Recording comes after all of them. Its code and data are cold after a kernel: in between it costs more
        # than iterations may err.
        return [self._record(done) for done in iterations]

    def _iterate(self) -> list[Paced]:
        work = [(kernel.run, kernel.draw()) for kernel in self._kernels]
        return [run(amount) for run, amount in work]

    def _record(self, done: list[Paced]) -> float:
        """Note what the kernels of one iteration took; return its seconds, from the first's start to the last's end."""
        start = done[0].start_ns
        elapsed = done[-1].start_ns + done[-1].elapsed_ns - start
        if self._recorder is not None:
            record = self._recorder.record
            for kernel, (begin, duration, _) in zip(self._kernels, done, strict=True):
                record("compute", begin, duration, iteration=self.iteration, kernel=kernel.name)
            record("iteration", start, elapsed, iteration=self.iteration)
        self.iteration += 1
        return elapsed / 1e9

    def _add_all(self, source: str, config: Any) -> None:
        self.add_configured(checked(source, _Kernels, config).kernels)

    def _add(self, config: KernelConfig) -> None:
        self._prepared = False
        purpose = f"{self.name} kernel {len(self._kernels)}"
        self._kernels.append(KernelRun(config, seed=self._seed, repeat=self._repeat, rank=self.rank, purpose=purpose))
