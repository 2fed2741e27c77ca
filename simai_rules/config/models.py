"""The model of a training: which net, its sizes, how its data are cut into samples, and how it learns."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from simai_rules.config.base import Positive, PositiveInt, Says, Strict
from simai_rules.config.keys import did_you_mean

MODELS = ("mlp", "cnn", "unet", "autoencoder", "transformer", "graph")
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
Loss = Literal["mse", "mae", "huber"]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]
Device = Literal["cpu", "cuda", "xpu"]
Precision = Literal["float32", "bfloat16", "float16"]
Mesh = Annotated[list[PositiveInt], Field(min_length=1, max_length=3), Says("a list of 1 to 3 whole numbers >= 1")]
Shape = Annotated[list[PositiveInt], Field(max_length=4)]


def _known(name: str) -> str:
    if name in MODELS or IMPORT_PATH.fullmatch(name):
        return name
    raise ValueError(
        f"{name!r} is not known.{did_you_mean(name, MODELS)} Allowed: {', '.join(MODELS)}, or the import path of a "
        "torch.nn.Module, package.module:Class"
    )


class ModelConfig(Strict):
    """A net and how it learns. A staged array is cut into samples, each of them its inputs and then its targets.

    With F = features, O = outputs and S = shape, a sample of each model is:

    - mlp: F inputs, O targets
    - cnn: an image of F channels, O targets
    - unet: an image of F channels, one of O channels
    - autoencoder: F inputs, which are the targets too
    - transformer: product(S) + 1 tokens of F numbers; the targets are the tokens but for the first
    - graph: F numbers for each point of the mesh S, then O numbers for each
    - package.module:Class: arrays of the shapes `inputs` and `targets` (no targets: the inputs are the targets too)
    """

    name: Annotated[
        str, AfterValidator(_known), Says(f"one of {', '.join(MODELS)}, or an import path package.module:Class")
    ] = "mlp"
    """One of mlp, cnn, unet, autoencoder, transformer, graph, or the import path of a torch.nn.Module."""
    features: PositiveInt = 7
    """Inputs of mlp and autoencoder; channels of an image; numbers per token or mesh point."""
    outputs: PositiveInt = 1
    """Targets of mlp and cnn; channels of a unet's result; targets per mesh point of graph."""
    hidden: Annotated[list[PositiveInt], Field(max_length=64)] = [64, 64]
    """Widths of the layers: hidden ones of mlp, levels of cnn and unet, layers of transformer and graph; those of an
    autoencoder up to its code, which is the last."""
    shape: Mesh = [16, 16]
    """Of the image (cnn, unet), the tokens (transformer) or the mesh (graph)."""
    heads: PositiveInt = 4
    """Of a transformer's attention."""
    inputs: Shape = []
    """Shape of a sample's inputs, for a model by import path."""
    targets: Shape = []
    """Shape of a sample's targets, for a model by import path."""
    options: dict[str, Any] = {}
    """Arguments for the class of a model by import path."""
    loss: Loss = "mse"
    optimizer: Optimizer = "adam"
    learning_rate: Positive = 1e-3
    batch_size: PositiveInt = 256
    """Samples of one optimizer step, per rank."""
    max_samples: PositiveInt = 100_000
    """Samples kept as the data set."""
    eviction: Literal["oldest", "random", "reservoir"] = "oldest"
    """What makes room when there are max_samples: the oldest samples; random ones; or, reservoir, each new sample takes
    the place of a random one only so often that all samples ever seen are equally likely to be kept."""
    order: Literal["random", "stream"] = "random"
    """Batches are drawn at random, or (stream) take the samples one after another and begin again after the last."""
    device: Device = "cpu"
    precision: Precision = "float32"
    """Other than float32: mixed precision, with float32 weights."""
    weights: Annotated[str, Field(min_length=1)] | None = None
    """A safetensors file of weights to begin with: fine-tuning, or inference."""
    frozen: list[str] = []
    """Beginnings of the names of weights that are not trained."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelConfig":
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str:
        if self.by_import_path:
            return "" if self.inputs else f"inputs: the model {self.name} needs the shape of a sample's inputs"
        if self.inputs or self.targets or self.options:
            return f"inputs, targets and options are for a model by import path; {self.name} has sizes of its own"
        if not self.hidden and self.name != "mlp":
            return f"hidden: [] leaves the {self.name} without a layer"
        if self.name == "transformer" and (len(set(self.hidden)) > 1 or self.hidden[0] % self.heads):
            return f"hidden: the layers of a transformer are equally wide, and a multiple of heads: {self.heads}"
        parts = 2 ** (len(self.hidden) - 1)
        if self.name == "unet" and any(length % parts for length in self.shape):
            return (
                f"shape: a unet of {len(self.hidden)} levels halves the image {len(self.hidden) - 1} times, so each "
                + (f"length has to be a multiple of {parts}, but shape is {self.shape}")
            )
        return ""

    @property
    def by_import_path(self) -> bool:
        """Whether it is a model of the user's own."""
        return ":" in self.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a sample's inputs."""
        points = math.prod(self.shape)
        match self.name:
            case "mlp" | "autoencoder":
                return (self.features,)
            case "cnn" | "unet":
                return (self.features, *self.shape)
            case "transformer" | "graph":
                return (points, self.features)
        return tuple(self.inputs)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of a sample's targets."""
        match self.name:
            case "mlp" | "cnn":
                return (self.outputs,)
            case "unet":
                return (self.outputs, *self.shape)
            case "graph":
                return (math.prod(self.shape), self.outputs)
            case "autoencoder" | "transformer":
                return self.input_shape
        return tuple(self.targets) or self.input_shape

    @property
    def row(self) -> int:
        """Numbers of a sample in a staged array."""
        inputs = math.prod(self.input_shape)
        if self.name == "autoencoder" or (self.by_import_path and not self.targets):
            return inputs
        if self.name == "transformer":
            return inputs + self.features
        return inputs + math.prod(self.target_shape)
