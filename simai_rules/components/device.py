"""The device that a training runs on, in torch."""

from __future__ import annotations

import torch

from simai_rules.config.models import Device
from simai_rules.errors import UserError

# Reductions of numbers in main memory go over gloo on every device.
GROUPS: dict[str, str] = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl", "xpu": "cpu:gloo,xpu:xccl"}
"""What connects the ranks of a training, by device."""
_BUILDS = {"cuda": "NVIDIA or AMD (ROCm)", "xpu": "Intel"}


def find_device(name: Device, local_rank: int) -> torch.device:
    """Return the device of a rank: of several that it sees, ranks of a node take one after another.

    Raises UserError where torch sees none.
    """
    if name == "cpu":
        return torch.device("cpu")
    kind = getattr(torch, name)
    if not kind.is_available():
        raise UserError(
            f"model.device is {name}, but torch {torch.__version__} sees no such device in this process. Either this "
            f"node has no {_BUILDS[name]} GPU, or its driver or a torch built for it is missing, or {_hiding(name)} "
            "hides it. 'simai-rules doctor' says what this machine offers; device: cpu runs everywhere."
        )
    device = torch.device(name, local_rank % kind.device_count())
    kind.set_device(device)
    return device


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def _hiding(name: str) -> str:
    return "CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES" if name == "cuda" else "ZE_AFFINITY_MASK"
