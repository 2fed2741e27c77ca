"""A measured histogram from a CSV file with the columns value,probability."""

import csv
from pathlib import Path

from pydantic import ValidationError

from simai_rules.config.distributions import MAX_HISTOGRAM_BINS, PROBABILITY_TOLERANCE, Histogram
from simai_rules.config.messages import explain, show
from simai_rules.errors import ConfigError

HEADER = ["value", "probability"]


def read_histogram(path: Path) -> Histogram:
    """Read `path`: a header `value,probability` and one line per bin, values in the unit of the key (s or calls).

    Blank lines are skipped. Raises ConfigError that names the file and the line.
    """
    values: list[float] = []
    probabilities: list[float] = []
    for line, row in _rows(path):
        value, probability = _numbers(path, line, row)
        values.append(value)
        probabilities.append(probability)
    _check_bins(path, values, probabilities)
    try:
        return Histogram(values=values, probabilities=probabilities)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Histogram)[0][1]}") from None


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such histogram file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a CSV file: {error}") from None
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        raise ConfigError(f"{path}: is empty; it takes the header value,probability and one line per bin")
    line, header = rows[0]
    if header != HEADER:
        raise ConfigError(
            f"{path}, line {line}: the header is {show(','.join(header))}; it has to be value,probability"
        )
    return rows[1:]


def _numbers(path: Path, line: int, row: list[str]) -> tuple[float, float]:
    try:
        value, probability = map(float, row)
    except ValueError:
        raise ConfigError(f"{path}, line {line}: {show(','.join(row))} is not two numbers, value,probability") from None
    if not (0 <= value < float("inf") and 0 <= probability < float("inf")):
        raise ConfigError(f"{path}, line {line}: {show(','.join(row))} has a number that is not finite and >= 0")
    return value, probability


def _check_bins(path: Path, values: list[float], probabilities: list[float]) -> None:
    if not values:
        raise ConfigError(f"{path}: has a header but no bins; it takes one line value,probability per bin")
    if len(values) > MAX_HISTOGRAM_BINS:
        raise ConfigError(
            f"{path}: has {len(values)} bins, at most {MAX_HISTOGRAM_BINS} are allowed. Rebin it, for example with "
            f"numpy.histogram(data, bins={MAX_HISTOGRAM_BINS // 2})"
        )
    total = sum(probabilities)
    if abs(total - 1) > PROBABILITY_TOLERANCE:
        counts = " (these look like counts)" if total > 1.5 else ""
        raise ConfigError(
            f"{path}: the probabilities add up to {total:g}, not to 1{counts}. Divide each of them by their sum"
        )
