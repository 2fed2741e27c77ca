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
        own = config.by_import_path
        self._distributed = group.distribute(
            self.net,
            device,
            share_buffers=own,  # those of our nets never change
            some_unused=own and not group.alone and _leaves_some_unused(self.net, config, device),
        )
        trained = [weight for weight in self.net.parameters() if weight.requires_grad]
        self._optimizer = _OPTIMIZERS[config.optimizer](trained, lr=config.learning_rate) if trained else None
        self._criterion = _LOSSES[config.loss]()
        mixed = config.precision != "float32"
        self._dtype: torch.dtype | None = getattr(torch, config.precision) if mixed else None
        # The gradients of float16 would be too small for its range without being scaled.
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self._loss: Tensor | None = None
        self._what = f"{config.name} with batch_size {config.batch_size}"
        self._others = "" if group.alone else " Where another rank has failed, its own message says why."

    @property
    def loss(self) -> float | None:
        """The loss of the last step on this rank's batch; None before the first."""
        return None if self._loss is None else float(self._loss)

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take an optimizer step; raises UserError where there is nothing to train, or torch cannot do it."""
        if self._optimizer is None:
            raise UserError("The model has no weights to train: either it has none, or model.frozen names all of them.")
        if not self._distributed.training:
            self._distributed.train()
        self._optimizer.zero_grad(set_to_none=True)
        try:
            with self._precision():
                loss = self._criterion(self._distributed(inputs), targets)
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
            wait_for(self._device)
        except (RuntimeError, MemoryError) as error:
            raise self._failed("A training step", error) from error
        self._loss = loss.detach()

    def infer(self, inputs: Tensor) -> Tensor:
        """Return what the net makes of `inputs`; raises UserError where torch cannot do it."""
        if self.net.training:
            self.net.eval()  # no dropout, and a batch norm's means stay
        try:
            with torch.inference_mode(), self._precision():
                result: Tensor = self.net(inputs)
            wait_for(self._device)
        except (RuntimeError, MemoryError) as error:
            raise self._failed("An inference", error) from error
        return result

    def close(self) -> None:
        """Let go of what connects the net to the other ranks; comes before the end of their group.

        DDP's own part of it is freed with Python's interpreter locked. Were it the last to know the group, it would
        wait there for gloo's threads, and they for the interpreter: pytorch/pytorch issue 56297.
        """
        self._distributed = self.net

    def _failed(self, what: str, error: Exception) -> UserError:
        return UserError(
            f"{what} of {self._what} on {self._device} failed ({_text(error)}). "
            "Where memory is short, lower model.batch_size or the model's sizes; where model.name is an import path, "
            f"see the class.{self._others}"
        )

    def _precision(self) -> Any:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _leaves_some_unused(net: nn.Module, config: ModelConfig, device: torch.device) -> bool:
    """Say whether weights to be trained have no part in the result: DDP would wait for their gradients.

    What fails here is told by the first step.
    """
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            net(torch.zeros(2, *config.input_shape, device=device)).float().sum().backward()
    except RuntimeError:
        return False
    unused = any(weight.requires_grad and weight.grad is None for weight in net.parameters())
    net.zero_grad(set_to_none=True)
    for name, buffer in net.named_buffers():  # such as the means of a batch norm
        buffer.copy_(buffers[name])
    return unused
