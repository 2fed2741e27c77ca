"""AI: a feed-forward net that learns from what was staged, at a given pace, and the verbs of a DataStore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.components.component import Component
from simai_rules.components.ranks import Ranks
from simai_rules.config.components import ModelConfig
from simai_rules.config.messages import checked
from simai_rules.errors import MissingProgram, UserError
from simai_rules.kernels.pace import Pace, Paced

try:
    import torch
except ImportError as error:
    raise MissingProgram(
        f"The training needs torch, which cannot be imported ({error}). Install it: pip install 'simai-rules[torch]'."
    ) from error

from simai_rules.components.network import DataSet, feed_forward
from simai_rules.components.process_group import ProcessGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simai_rules.staging.info import ServerInfo

_CALIBRATION_STEPS = 10
"""Of a training on several ranks, which have to take equally many."""


class AI(Component):
    """One rank of a training (Adam, mean squared error) or of an inference.

        ai = AI(name="ai", server_info=server.get_server_info(), model=ModelConfig(features=7))
        ai.add_data(ai.stage_read("key"))
        seconds, steps = ai.train(run_time=0.061)

    Where `ranks` are several, gradients are averaged over them (DDP over gloo), and `train` is called by all of them
    equally often; their data may differ in size. Call `close`, or use the object in a `with`, to end the process group.

    server_info, timeout: as for Component. model: the net, a ModelConfig or its dict. seed: what weights and batches
    depend on. rendezvous: a folder in which the ranks meet, see ProcessGroup. torch uses as many threads as `ranks`
    says that this rank has cores; without that, what the environment says (OMP_NUM_THREADS) or all cores.
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
        self.data = DataSet(self.config, seed, ranks.rank)
        # A rank may rightly wait for the others as long as they may wait for their data.
        self._group = ProcessGroup(ranks, rendezvous, 2 * timeout)
        self.net = feed_forward(self.config, seed)
        """The net itself, without what distributes it."""
        self._distributed = self._group.distribute(self.net)
        self._optimizer = torch.optim.Adam(self.net.parameters(), lr=self.config.learning_rate)
        self._criterion = torch.nn.MSELoss()
        self._loss: torch.Tensor | None = None
        self._training = Pace(self._step, self._too_long("a training step"))
        self._inference = Pace(self._forward, self._too_long("an inference"))

    @property
    def loss(self) -> float | None:
        """The loss of the last training step on this rank's batch; None before the first."""
        return None if self._loss is None else float(self._loss)

    def add_data(self, array: NDArray[Any]) -> int:
        """Make the rows of a staged array part of the data set and return how many were added.

        A row is `features` inputs and one target; the newest `max_samples` rows are kept. Raises UserError where the
        array holds no row.
        """
        return self.data.add(array)

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

    def prepare(self, run_time: float | None = None) -> None:
        """Take the first steps of a training, which are slow, and learn how long one takes if there is a run_time.

        All ranks call it; `train` does it if nobody has. Raises the errors of `train`.
        """
        self._require_data()
        if run_time is None:
            self._training.for_count(1)
        else:
            self._calibrate(self._training, run_time, together=True)

    def infer(self, run_time: float | None = None, run_count: int | None = None) -> tuple[float, int]:
        """Run the net on batches for `run_time` seconds or `run_count` times (1 by default): return seconds and times.

        No rank waits for another. Raises UserError where there is no data yet, or one batch takes longer than run_time.
        """
        self._require_data()
        if run_time is None:
            paced = self._inference.for_count(run_count or 1)
        else:
            self._calibrate(self._inference, run_time, together=False)
            paced = self._inference.for_time(run_time)
        return paced.elapsed_ns / 1e9, paced.calls

    def close(self) -> None:
        """End the process group and the connection to the staging server."""
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
        inputs, targets = self.data.batch()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._criterion(self._distributed(inputs), targets)
        loss.backward()
        self._optimizer.step()
        self._loss = loss.detach()

    def _forward(self) -> None:
        with torch.inference_mode():
            self.net(self.data.batch()[0])

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
