"""What an inference does beside a training: how often, and how often it looks for newer weights."""

from simai_rules.config.base import NaturalInt, PositiveInt
from simai_rules.config.components import ComponentConfig
from simai_rules.config.distributions import Distribution
from simai_rules.config.models import Device


class InferenceConfig(ComponentConfig):
    """An inference with the newest weights that the training has published, until the training ends.

    Its net is the training's; what it infers from are random samples made once.
    """

    ranks_per_node: NaturalInt = 0
    """0: the point has no inference."""
    run_time: Distribution | None = None
    """Seconds per iteration; without it, an iteration is one batch."""
    take_every: PositiveInt = 10
    """Iterations between two looks for newer weights."""
    batch_size: PositiveInt = 256
    """Samples that the net is given at once."""
    device: Device = "cpu"
