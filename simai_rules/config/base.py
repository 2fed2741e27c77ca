"""The base of all config models, and the kinds of numbers that they use."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Strict(BaseModel):
    """A config model: unknown keys are refused and values cannot be changed after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Says:
    """What a field takes, in words for an error message; fields without one are described by their type."""

    text: str


def as_number(value: Any) -> Any:
    """Turn text such as '1e6' into a number and refuse true and false.

    YAML 1.1, which Python reads, takes `1e6` without a dot for text, and `yes` for true; the first is always meant as
    a number, the second never.
    """
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    if isinstance(value, str):
        try:
            number = float(value)
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        except ValueError:
            return value
    return value


# The bounds stand before the conversion, so that they become part of pydantic's own (fast) check and of the schema.
PositiveInt = Annotated[int, Field(ge=1, le=2**53), BeforeValidator(as_number)]
NaturalInt = Annotated[int, Field(ge=0, le=2**53), BeforeValidator(as_number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(as_number)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(as_number)]
