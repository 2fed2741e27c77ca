"""Nets that imitate the usual ones of scientific machine learning, each with the number of its weights as a formula."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from simai_rules.config.models import ModelConfig

_KERNEL = 3


def _of_dimension(name: str, dimensions: int) -> Any:
    """Return torch's class of that name for images of 1 to 3 dimensions, such as Conv2d."""
    return getattr(nn, f"{name}{dimensions}d")


class ConvolutionalNet(nn.Sequential):
    """Convolutions of 3^d points, each after the first with stride 2, the mean over the image, a linear layer.

    Weights, with h = hidden and d = len(shape): sum of (h[i-1]·3^d + 1)·h[i], h[-1] being F, plus (h[last] + 1)·O.
    """

    def __init__(self, config: ModelConfig) -> None:
        dimensions = len(config.shape)
        convolution = _of_dimension("Conv", dimensions)
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise([config.features, *config.hidden])):
            layers += [convolution(inputs, outputs, _KERNEL, stride=2 if level else 1, padding=1), nn.GELU()]
        mean = _of_dimension("AdaptiveAvgPool", dimensions)(1)
        super().__init__(*layers, mean, nn.Flatten(), nn.Linear(config.hidden[-1], config.outputs))


class UNet(nn.Module):
    """Levels of two convolutions each, halved by means on the way down and doubled on the way up, with skips across.

    Weights, with block(i, o) = (i·3^d + 1)·o + (o·3^d + 1)·o: on the way down block(h[i-1], h[i]), h[-1] being F; on
    the way up from h[i] to h[i-1] (h[i]·2^d + 1)·h[i-1] + block(2·h[i-1], h[i-1]); at the end (h[0] + 1)·O.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dimensions, hidden = len(config.shape), config.hidden
        convolution, transposed = _of_dimension("Conv", dimensions), _of_dimension("ConvTranspose", dimensions)

        def block(inputs: int, outputs: int) -> nn.Module:
            first = convolution(inputs, outputs, _KERNEL, padding=1)
            return nn.Sequential(first, nn.GELU(), convolution(outputs, outputs, _KERNEL, padding=1), nn.GELU())

        self.down = nn.ModuleList(block(inputs, outputs) for inputs, outputs in pairwise([config.features, *hidden]))
        self.halve = _of_dimension("AvgPool", dimensions)(2)
        upwards = list(pairwise(reversed(hidden)))
        self.enlarge = nn.ModuleList(transposed(inputs, outputs, 2, stride=2) for inputs, outputs in upwards)
        self.up = nn.ModuleList(block(2 * outputs, outputs) for _, outputs in upwards)
        self.last = convolution(hidden[0], config.outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Turn (samples, F, *shape) into (samples, O, *shape)."""
        skips = []
        for level, block in enumerate(self.down):
            image = block(self.halve(image) if level else image)
            skips.append(image)
        skips.pop()
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            image = block(torch.cat([skips.pop(), enlarge(image)], dim=1))
        return self.last(image)


class Autoencoder(nn.Sequential):
    """Linear layers (GELU) from F over `hidden`, the last of which is the code, and back in the opposite order.

    Weights: with w = [F, *hidden], the sum of (w[i] + 1)·w[i+1] and of (w[i+1] + 1)·w[i].
    """

    def __init__(self, config: ModelConfig) -> None:
        widths = [config.features, *config.hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([*widths, *widths[-2::-1]]):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        super().__init__(*layers[:-1])


class Transformer(nn.Module):
    """Predicts each next token from those before it: attention of `heads` heads and a feed-forward part of width 4·h.

    Weights, with h = hidden[0], n layers and T tokens: (F + 1)·h + T·h + n·(12·h² + 13·h) + (h + 1)·F.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, tokens = config.hidden[0], math.prod(config.shape)
        self.embedding = nn.Linear(config.features, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in config.hidden
        )
        self.last = nn.Linear(width, config.features)
        self.mask: Tensor
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(tokens), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn (samples, T, F) into the same shape: token i of the result foretells token i + 1."""
        values = self.embedding(tokens) + self.positions
        for layer in self.layers:
            values = layer(values, src_mask=self.mask, is_causal=True)
        return self.last(values)


class GraphNet(nn.Module):
    """Message passing on a mesh of `shape`, whose points have edges to their neighbours along each axis.

    In each layer a point gets the mean of its neighbours' messages, linear (GELU) in both ends' values, and is updated
    from its value and that mean. Weights, with w = [hidden[0], *hidden]: (F + 1)·w[0], per layer (2·w[i] + 1)·w[i+1]
    and (w[i] + w[i+1] + 1)·w[i+1], (hidden[last] + 1)·O.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.hidden[0], *config.hidden]
        self.first = nn.Linear(config.features, widths[0])
        self.messages = nn.ModuleList(nn.Linear(2 * inputs, outputs) for inputs, outputs in pairwise(widths))
        self.updates = nn.ModuleList(nn.Linear(inputs + outputs, outputs) for inputs, outputs in pairwise(widths))
        self.last = nn.Linear(widths[-1], config.outputs)
        edges = mesh_edges(config.shape)
        degrees = torch.bincount(edges[1], minlength=math.prod(config.shape)).clamp(min=1)
        self.edges: Tensor
        self.degrees: Tensor
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("degrees", degrees.unsqueeze(1).float(), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Turn (samples, points, F) into (samples, points, O)."""
        sources, targets = self.edges
        gelu = nn.functional.gelu
        values = gelu(self.first(values))
        for message, update in zip(self.messages, self.updates, strict=True):
            sent = gelu(message(torch.cat([values[:, sources], values[:, targets]], dim=2)))
            gathered = sent.new_zeros(len(values), len(self.degrees), sent.shape[2]).index_add(1, targets, sent)
            values = gelu(update(torch.cat([values, (gathered / self.degrees).to(values.dtype)], dim=2)))
        return self.last(values)


def mesh_edges(shape: list[int]) -> Tensor:
    """Return the directed edges between neighbours of a mesh, both ways: (2, edges), points numbered in C order."""
    points = torch.arange(math.prod(shape)).reshape(shape)
    ways = []
    for axis, length in enumerate(shape):
        low = points.narrow(axis, 0, length - 1).reshape(-1)
        high = points.narrow(axis, 1, length - 1).reshape(-1)
        ways += [torch.stack([low, high]), torch.stack([high, low])]
    return torch.cat(ways, dim=1)
