"""What a training does: how long, how often it looks for new data, and with which model."""

from typing import Literal

from simai_rules.config.base import NaturalInt, PositiveInt
from simai_rules.config.components import ComponentConfig
from simai_rules.config.distributions import Distribution
from simai_rules.config.models import ModelConfig

Task = Literal["train", "infer"]


class TrainingConfig(ComponentConfig):
    """A training that reads what the simulation staged, and tells it to stop after its own last iteration."""

    task: Task = "train"
    """What an iteration does: optimizer steps, or the net alone."""
    iterations: PositiveInt = 500
    run_time: Distribution | None = None
    """Seconds per iteration; without it, an iteration is one optimizer step."""
    read_every: PositiveInt = 10
    """Iterations between two looks for new snapshots."""
    data: Literal["store", "synthetic"] = "store"
    """What is learned: the snapshots, or random numbers made once; snapshots are read all the same."""
    publish_every: NaturalInt = 0
    """Iterations after which rank 0 stages the weights, for whoever infers with them; 0: never."""
    model: ModelConfig = ModelConfig()
