"""What all components have."""

from typing import Literal

from simai_rules.config.base import PositiveInt, Strict

DataDtype = Literal["float32", "float64", "float16", "int32", "int64"]


class ComponentConfig(Strict):
    """What every component has: where its ranks go."""

    ranks_per_node: PositiveInt = 1
    cores_per_rank: PositiveInt = 1
    """Cores that a rank is bound to; its BLAS and torch use as many threads and no more."""
