"""What a step of a training does: the net forward, the loss, gradients averaged over the ranks, the optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from simai_rules.components.device import wait_for
from simai_rules.components.process_group import ProcessGroup
from simai_rules.config.models import ModelConfig
from simai_rules.errors import UserError

_LOSSES: dict[str, type[nn.Module]] = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}
_OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


class Learner:
    """How `net`, which is moved to `device`, is trained; `group` connects it to the other ranks.

    A call returns when the device has done its work.
    """

    def __init__(self, config: ModelConfig, net: nn.Module, device: torch.device, group: ProcessGroup) -> None:
        self._device = device
        self.net = net.to(device)
        """The net itself, without what distributes it."""
        # The buffers of our own nets never change.
        self._distributed = group.distribute(self.net, device, share_buffers=config.by_import_path)
        trained = [weight for weight in self.net.parameters() if weight.requires_grad]
        self._optimizer = _OPTIMIZERS[config.optimizer](trained, lr=config.learning_rate) if trained else None
        self._criterion = _LOSSES[config.loss]()
        mixed = config.precision != "float32"
        self._dtype: torch.dtype | None = getattr(torch, config.precision) if mixed else None
        # The gradients of float16 would be too small for its range without being scaled.
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self._loss: Tensor | None = None

    @property
    def loss(self) -> float | None:
        """The loss of the last step on this rank's batch; None before the first."""
        return None if self._loss is None else float(self._loss)

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take an optimizer step; raises UserError where there is nothing to train."""
        if self._optimizer is None:
            raise UserError("The model has no weights to train: either it has none, or model.frozen names all of them.")
        if not self._distributed.training:
            self._distributed.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self._precision():
            loss = self._criterion(self._distributed(inputs), targets)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._loss = loss.detach()
        wait_for(self._device)

    def infer(self, inputs: Tensor) -> Tensor:
        """Return what the net makes of `inputs`."""
        if self.net.training:
            self.net.eval()  # no dropout, and a batch norm's means stay
        with torch.inference_mode(), self._precision():
            result: Tensor = self.net(inputs)
        wait_for(self._device)
        return result

    def _precision(self) -> Any:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None)
