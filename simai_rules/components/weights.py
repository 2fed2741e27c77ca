"""Weights as named arrays: in a file (safetensors), and in the store, where a trainer publishes ever newer ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from simai_rules.errors import UserError
from simai_rules.files import replacing
from simai_rules.staging.backends.files import FileValue, fill
from simai_rules.staging.codec import decode, encode
from simai_rules.staging.errors import StagingError

if TYPE_CHECKING:
    from simai_rules.staging.datastore import DataStore
    from simai_rules.staging.operation import Operation

_VERSION = "__version__"


def named_arrays(net: nn.Module) -> dict[str, Any]:
    """Return the weights and persistent buffers of `net` by name, in main memory."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}


def write_weights(path: str | Path, net: nn.Module) -> None:
    """Write the weights of `net` into a safetensors file; raises UserError where it cannot be written."""
    buffers, nbytes = encode(named_arrays(net))
    with replacing(Path(path)) as temporary, temporary.open("wb", buffering=0) as file:
        fill(file.fileno(), buffers, nbytes)


def read_weights(path: str | Path) -> Mapping[str, Any]:
    """Return the named arrays of a safetensors file; raises UserError where it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        incoming = FileValue(descriptor, str(Path(path).parent), Path(path).name)
        try:
            value, _ = decode(incoming)
        finally:
            incoming.close()
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror}. Correct model.weights.") from error
    except StagingError as error:
        raise UserError(f"{path} is no safetensors file of weights: {error}. Correct model.weights.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a single value and no named weights. Correct model.weights.")
    return value


def load(net: nn.Module, arrays: Mapping[str, Any], source: str) -> None:
    """Give `net` the weights `arrays`, which came from `source`; raises UserError where they are another net's."""
    own = net.state_dict()
    given = {name: torch.as_tensor(array) for name, array in arrays.items()}
    problems = [f"{name} is missing" for name in own if name not in given]
    problems += [f"{name} is not the model's" for name in given if name not in own]
    problems += [
        f"{name} has the shape {list(given[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        if given and all(name.startswith("module.") for name in given):
            more += " (they were saved with DDP around the net: save net.module.state_dict())"
        raise UserError(
            f"The weights of {source} are not those of this model: {'; '.join(problems[:3])}{more}. Give both the same "
            "name, features, hidden and shape."
        )
    net.load_state_dict(given)


def publish(store: DataStore, key: str, net: nn.Module, version: int) -> Operation:
    """Stage the weights of `net` under `key`; a reader finds all of them or all of the last ones, never a mixture.

    The number `version` is staged as well, under `key`/version, by which readers see whether there are newer ones.
    Returns what staging the weights took.
    """
    store.stage_write(key, {_VERSION: version, **named_arrays(net)})
    moved = store.last
    store.stage_write(f"{key}/version", version)
    return moved


def take_newest(store: DataStore, key: str, net: nn.Module, have: int, timeout: float) -> int:
    """Give `net` the newest published weights if they are newer than version `have`; return the version it has then.

    Waits up to `timeout` seconds for the first ones, then StagingTimeout is raised. Raises UserError where they are
    those of another model.
    """
    if store.stage_read(f"{key}/version", timeout=timeout) <= have:
        return have
    arrays = dict(store.stage_read(key))
    version = int(arrays.pop(_VERSION))
    load(net, arrays, f"the key {key!r}")
    return version
