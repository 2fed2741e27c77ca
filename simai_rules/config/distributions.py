"""Distributions for run times and counts: a number, a normal, a lognormal, or a measured histogram.

In a config file: `0.031`, `{normal: {mean: 0.031, std: 0.002}}`, `{lognormal: {median: 0.031, sigma: 0.1}}` or
`{histogram: iteration_times.csv}` (columns value,probability). When a point is resolved, a histogram's file is replaced
by its numbers, so that a changed measurement reruns the points that use it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from simai_rules.config.base import NonNegative, Positive, Says, Strict, as_number

__all__ = ["Distribution", "Histogram", "HistogramChoice", "LognormalChoice", "NonNegative", "NormalChoice", "Positive"]

# A point's config travels on a command line, where one argument holds 128 KiB.
MAX_HISTOGRAM_BINS = 1000
# How far the probabilities of a histogram may be off 1 (they are often rounded to a few digits).
PROBABILITY_TOLERANCE = 1e-3
# Without the conversion of text to numbers: a histogram is read from a file or from point.json, thousands at a time.
Bin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Normal(Strict):
    """A normal distribution, cut off below at a tenth of its mean because a duration cannot be negative."""

    mean: Positive
    std: NonNegative


class Lognormal(Strict):
    """exp(N(log(median), sigma)): the median in the unit of the value, sigma dimensionless."""

    median: Positive
    sigma: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), BeforeValidator(as_number)]


class Histogram(Strict):
    """A measured histogram: `values[i]` is drawn with `probabilities[i]`; the probabilities add up to 1."""

    values: Annotated[list[Bin], Field(min_length=1, max_length=MAX_HISTOGRAM_BINS)]
    probabilities: Annotated[list[Bin], Field(min_length=1, max_length=MAX_HISTOGRAM_BINS)]

    @model_validator(mode="after")
    def _fit_together(self) -> "Histogram":
        if len(self.values) != len(self.probabilities):
            raise ValueError(f"{len(self.values)} values but {len(self.probabilities)} probabilities")
        total = sum(self.probabilities)
        if abs(total - 1) > PROBABILITY_TOLERANCE:
            raise ValueError(f"the probabilities add up to {total:g}, not to 1; divide each of them by their sum")
        if not any(value * probability for value, probability in zip(self.values, self.probabilities, strict=True)):
            raise ValueError("every value that can be drawn is 0")
        return self


class NormalChoice(Strict):
    """`{normal: {mean, std}}`."""

    normal: Normal


class LognormalChoice(Strict):
    """`{lognormal: {median, sigma}}`."""

    lognormal: Lognormal


def _file_or_bins(value: Any) -> str:
    return "<file>" if isinstance(value, str) else "<bins>"


class HistogramChoice(Strict):
    """`{histogram: file.csv}` in a config file; the numbers themselves in a resolved point."""

    histogram: Annotated[
        Annotated[Histogram, Tag("<bins>")] | Annotated[str, Field(min_length=1), Tag("<file>")],
        Discriminator(_file_or_bins),
        Says("the name of a CSV file with the columns value,probability"),
    ]


_TAGS = {"normal": "<normal>", "lognormal": "<lognormal>", "histogram": "<histogram>"}


def _kind(value: Any) -> str | None:
    """Return the tag of the alternative that `value` is meant to be; tags in '<>' never show in an error's path."""
    if isinstance(value, Strict):
        value = dict(value)
    if isinstance(value, Mapping):
        return next((tag for key, tag in _TAGS.items() if key in value), None)
    return "<number>"


DISTRIBUTION_TEXT = (
    "a number > 0, {normal: {mean: …, std: …}}, {lognormal: {median: …, sigma: …}} or {histogram: file.csv}"
)
Distribution = Annotated[
    Annotated[Positive, Tag("<number>")]
    | Annotated[NormalChoice, Tag("<normal>")]
    | Annotated[LognormalChoice, Tag("<lognormal>")]
    | Annotated[HistogramChoice, Tag("<histogram>")],
    Discriminator(_kind),
    Says(DISTRIBUTION_TEXT),
]
