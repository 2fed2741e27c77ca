"""AI: a net that learns from what was staged, or infers, at a given pace, and the verbs of a DataStore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.components.component import Component
from simai_rules.components.ranks import Ranks
from simai_rules.config.messages import checked
from simai_rules.config.models import ModelConfig
from simai_rules.config.training import Task
from simai_rules.errors import MissingProgram, UserError
from simai_rules.kernels.pace import Pace, Paced

try:
    import torch
except ImportError as error:
    raise MissingProgram(
        f"The training needs torch, which cannot be imported ({error}). Install it: pip install 'simai-rules[torch]'."
    ) from error

from simai_rules.components.data_set import DataSet
from simai_rules.components.device import find_device
from simai_rules.components.learning import Learner
from simai_rules.components.network import build
from simai_rules.components.process_group import ProcessGroup
from simai_rules.components.weights import publish, take_newest, write_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simai_rules.staging.info import ServerInfo
    from simai_rules.staging.operation import Operation

_CALIBRATION_STEPS = 10
"""Of a training on several ranks, which have to take equally many."""


class AI(Component):
    """One rank of a training or of an inference.

        ai = AI(name="ai", server_info=server.get_server_info(), model=ModelConfig(features=7))
        ai.add_data(ai.stage_read("key"))
        seconds, steps = ai.train(run_time=0.061)

    Where `ranks` are several, gradients are averaged over them (DDP over gloo, nccl or xccl), and `train` is called by
    all of them equally often; their data may differ in size. Call `close`, or use the object in a `with`, to end the
    process group.

    server_info, timeout: as for Component. model: the net, its data and how it learns, a ModelConfig or its dict.
    seed: what weights and batches depend on. rendezvous: a folder in which the ranks meet, see ProcessGroup. torch uses
    as many threads as `ranks` says that this rank has cores; without that, what the environment says (OMP_NUM_THREADS)
    or all cores.
    """

    def __init__(
        self,
        name: str = "AI",
        server_info: ServerInfo | dict[str, Any] | str | Path | None = None,
        *,
        model: ModelConfig | dict[str, Any] | None = None,
        seed: int = 0,
        ranks: Ranks | None = None,
        rendezvous: Path | None = None,
        timeout: float = 120.0,
    ) -> None:
        super().__init__(name, server_info, timeout=timeout)
        ranks = ranks or Ranks()
        if ranks.cores:
            torch.set_num_threads(len(ranks.cores))
        self.config = checked(f"model of {name}", ModelConfig, model or {})
        device = find_device(self.config.device, ranks.local_rank)
        self.data = DataSet(self.config, seed, ranks.rank, device)
        net = build(self.config, seed)  # before the ranks meet: what cannot be made is told at once
        # A rank may rightly wait for the others as long as they may wait for their data.
        self._group = ProcessGroup(ranks, rendezvous, 2 * timeout, self.config.device)
        self._learner = Learner(self.config, net, device, self._group)
        self.net = self._learner.net
        """The net itself, without what distributes it."""
        self.version = 0
        """Of its weights: how often it has published them, or which published ones it has taken."""
        self._training = Pace(self._step, self._too_long("a training step"))
        self._inference = Pace(self._forward, self._too_long("an inference"))

    @property
    def loss(self) -> float | None:
        """The loss of the last training step on this rank's batch; None before the first."""
        return self._learner.loss

    def add_data(self, array: NDArray[Any]) -> int:
        """Make the rows of a staged array part of the data set and return how many were added.

        A row is a sample, `config.row` numbers; what its eviction says of them are kept, max_samples at most. Raises
        UserError where the array holds no row.
        """
        return self.data.add(array)

    def publish(self, key: str = "model") -> Operation:
        """Stage the weights as named arrays under `key`, for others to take, as the next `version` (1, 2, …).

        Returns what staging them took.
        """
        self.version += 1
        return publish(self.store, key, self.net, self.version)

    def take_newest(self, key: str = "model", *, timeout: float | None = None) -> bool:
        """Take the newest published weights of `key`; say whether they are newer than those that it has.

        Waits up to `timeout` seconds (None: those of the component) for the first ones; then StagingTimeout is raised.
        Raises UserError where they are those of another model.
        """
        before = self.version
        self.version = take_newest(self.store, key, self.net, before, self._timeout if timeout is None else timeout)
        return self.version > before

    def save(self, path: str | Path) -> None:
        """Write the weights into a safetensors file, for `model.weights`; raises UserError where it cannot be."""
        write_weights(path, self.net)

    def train(self, run_time: float | None = None, run_count: int | None = None) -> tuple[float, int]:
        """Train for `run_time` seconds or `run_count` optimizer steps (1 by default): return seconds and steps done.

        All ranks take the same number of steps: in `run_time` as many as the slowest rank can. The time that a rank
        waits for the others to begin is not part of it.

        Raises UserError where there is no data yet, or one step takes longer than run_time.
        """
        paced = self.train_paced(run_time, run_count)
        return paced.elapsed_ns / 1e9, paced.calls

    def train_paced(self, run_time: float | None = None, run_count: int | None = None) -> Paced:
        """Do what `train` does, and say also when the first step began."""
        self._require_data()
        if run_time is None:
            return self._training.for_count(run_count or 1)
        self._calibrate(self._training, run_time, together=True)
        if self._group.alone:
            return self._training.for_time(run_time)
        return self._training.for_time(run_time, self._group.least(self._training.fitting(run_time)))

    def prepare(self, run_time: float | None = None, task: Task = "train") -> None:
        """Take the first steps of `task`, which are slow, and learn how long one takes if there is a run_time.

        All ranks call it; `train` and `infer` do it if nobody has. Raises their errors.
        """
        self._require_data()
        pace = self._training if task == "train" else self._inference
        if run_time is None:
            pace.for_count(1)
        else:
            self._calibrate(pace, run_time, together=task == "train")

    def infer(self, run_time: float | None = None, run_count: int | None = None) -> tuple[float, int]:
        """Run the net on batches for `run_time` seconds or `run_count` times (1 by default): return seconds and times.

        No rank waits for another. Raises UserError where there is no data yet, or one batch takes longer than run_time.
        """
        paced = self.infer_paced(run_time, run_count)
        return paced.elapsed_ns / 1e9, paced.calls

    def infer_paced(self, run_time: float | None = None, run_count: int | None = None) -> Paced:
        """Do what `infer` does, and say also when the first batch began."""
        self._require_data()
        if run_time is None:
            return self._inference.for_count(run_count or 1)
        self._calibrate(self._inference, run_time, together=False)
        return self._inference.for_time(run_time)

    def close(self) -> None:
        """End the process group and the connection to the staging server."""
        self._learner.close()
        self._group.close()
        super().close()

    def _calibrate(self, pace: Pace, run_time: float, *, together: bool) -> None:
        """Learn how long a call takes, once. If the ranks do it together, they call equally often and judge alike."""
        if pace.calibrated:
            return
        if together and not self._group.alone:
            pace.prepare(run_time, _CALIBRATION_STEPS, self._group.most)
        else:
            pace.prepare(run_time)

    def _step(self) -> None:
        self._learner.step(*self.data.batch())

    def _forward(self) -> None:
        self._learner.infer(self.data.batch()[0])

    def _require_data(self) -> None:
        if len(self.data) == 0:
            raise UserError(f"{self.name} has no data yet. Give it some before it trains or infers: add_data(array).")

    def _too_long(self, what: str) -> Any:
        def error(call: float, target: float) -> UserError:
            return UserError(
                f"{what} of {self.name} with batch_size {self.config.batch_size} and hidden layers "
                f"{self.config.hidden} takes {call * 1e3:.3g} ms, longer than its run_time of {target * 1e3:.3g} ms. "
                "Lower model.batch_size or model.hidden, or give a longer run_time."
            )

        return error
