"""`point.json`: a resolved point as a file, written by the rule `configure` and read by all that runs."""

import json
from pathlib import Path

from simai_rules.config.experiment import POINT_FORMAT, Point
from simai_rules.config.messages import checked
from simai_rules.errors import ConfigError

# One argument of a command line holds 131,072 bytes on Linux, and the whole command of a rule is one such argument.
LONGEST = 120_000

NOT_STARTED = "not_started.json"
"""In a point's folder, beside point.json: why it was not started. It has not failed, and the next run starts it."""


def point_json(point: Point) -> str:
    """Return the point as JSON on one line. Equal points give equal text: keys stand in the order of the models.

    Raises ConfigError where it is too long to be an argument of a command.
    """
    # What is asked of a batch system, and what its queues take, changes nothing that is measured.
    text = point.model_dump_json(by_alias=True, exclude={"minutes": True, "system": {"queues"}})
    if len(text) > LONGEST:
        raise ConfigError(
            f"{point.path}: the resolved config has {len(text)} characters, more than the {LONGEST} that fit on a "
            "command line. Rebin its histograms to fewer bins, or round their numbers"
        )
    return text


def read_point(path: Path) -> Point:
    """Read a `point.json`; raises ConfigError where it is not there, cut short, or of another format."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; the rule 'configure' writes it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_point(text, str(path))


def parse_point(text: str, source: str) -> Point:
    """Return the point that `text`, the content of a point.json, holds; `source` names it in errors."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: is not complete JSON ({error}); remove it and run snakemake again") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{source}: does not hold a point; remove it and run snakemake again")
    if raw.get("format") != POINT_FORMAT:
        raise ConfigError(
            f"{source}: has format {raw.get('format')!r}, this version of simai-rules reads {POINT_FORMAT}. "
            "Remove it and run snakemake again, with the same version of simai-rules for all rules"
        )
    return checked(source, Point, raw)
