"""The net of a training: one of our own by name, or the user's by import path, with the weights it begins with."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise

import torch
from torch import nn

from simai_rules.components.nets import Autoencoder, ConvolutionalNet, GraphNet, Transformer, UNet
from simai_rules.components.weights import load, read_weights
from simai_rules.config.models import ModelConfig
from simai_rules.errors import UserError


def build(config: ModelConfig, seed: int) -> nn.Module:
    """Return the net that `config` describes, in main memory; what is drawn for it depends on `seed` only.

    Raises UserError where the import path, the file of weights or a name in `frozen` leads nowhere, or the net is too
    large for the memory.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(seed)
        net = _by_name(config) if config.name in NETS else _imported(config)
    if config.weights:
        load(net, read_weights(config.weights), config.weights)
    _freeze(net, config.frozen)
    return net


def parameters(net: nn.Module) -> int:
    """Return the number of weights of `net`."""
    return sum(weight.numel() for weight in net.parameters())


def _feed_forward(config: ModelConfig) -> nn.Module:
    """F inputs, the hidden layers (tanh), O outputs. Weights: sum over the layers of inputs · outputs + outputs."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([config.features, *config.hidden, config.outputs]):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


NETS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "mlp": _feed_forward,
    "cnn": ConvolutionalNet,
    "unet": UNet,
    "autoencoder": Autoencoder,
    "transformer": Transformer,
    "graph": GraphNet,
}


def _by_name(config: ModelConfig) -> nn.Module:
    try:
        return NETS[config.name](config)
    except (RuntimeError, MemoryError) as error:
        raise UserError(
            f"The {config.name} cannot be made ({type(error).__name__}: {' '.join(str(error).split())}). Where "
            "memory is short, lower model.features, model.hidden, model.outputs or model.shape."
        ) from error


def _imported(config: ModelConfig) -> nn.Module:
    """Make the user's net and try it on one sample, so that what does not fit is known before anything is coupled."""
    module, _, name = config.name.partition(":")
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"model.name is {config.name}, but that cannot be imported ({type(error).__name__}: {error}). The module "
            "has to be installed in the environment of the ranks, or lie in a folder of PYTHONPATH or in the one that "
            "snakemake runs in."
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"model.name is {config.name}, which is no class derived from torch.nn.Module.")
    try:
        net = found(**config.options)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{config.name} cannot be made with model.options {config.options}: {type(error).__name__}: {error}"
        ) from error
    training = net.training
    try:
        with torch.no_grad():
            result = net.eval()(torch.zeros(2, *config.input_shape))
    except Exception as error:
        raise UserError(
            f"{config.name} does not take two samples of model.inputs, an array of shape {[2, *config.input_shape]}: "
            f"{type(error).__name__}: {error}"
        ) from error
    net.train(training)
    if not isinstance(result, torch.Tensor):
        raise UserError(f"{config.name} returns a {type(result).__name__}; it has to return one array, a torch.Tensor.")
    shape = tuple(result.shape)
    if shape != (2, *config.target_shape):
        raise UserError(
            f"{config.name} makes of two samples an array of shape {list(shape)}, but model.targets say "
            f"{[2, *config.target_shape]}."
        )
    return net


def _freeze(net: nn.Module, frozen: list[str]) -> None:
    names = [name for name, _ in net.named_parameters()]
    wrong = [start for start in frozen if not any(name.startswith(start) for name in names)]
    if wrong:
        raise UserError(
            f"model.frozen: no weight's name begins with {', '.join(wrong)}. There are: {', '.join(names)}."
        )
    for name, weight in net.named_parameters():
        if name.startswith(tuple(frozen)):
            weight.requires_grad_(False)
