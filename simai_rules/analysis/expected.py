"""Which points there should be, and reading them: what the commands summarize, plot and report have in common."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simai_rules.analysis.results import PointResult, experiment_folder, found_points, load
from simai_rules.errors import UserError

Expected = dict[str, dict[str, Any] | None]


@dataclass(frozen=True)
class FoundPoints:
    """The points of an experiment, its folder, its config's text where given, and how many more points lie there."""

    folder: Path
    results: list[PointResult]
    config_text: str
    others: int


def add_point_arguments(parser: argparse.ArgumentParser, positional: bool = False) -> None:
    """Add the folder of the results (`DIR` or `--results DIR`) and the two ways to say which points are expected."""
    text = "folder of an experiment's results, such as results/one_to_one"
    if positional:
        parser.add_argument("results", type=Path, metavar="DIR", help=text)
    else:
        parser.add_argument("--results", type=Path, required=True, metavar="DIR", help=text)
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--expected",
        metavar="FILE",
        help="the points that there should be: a JSON list of their paths, an object with the paths as keys, or one "
        "path per line; - reads standard input (default: all points that are found)",
    )
    either.add_argument(
        "--config", type=Path, metavar="FILE", help="the experiment's config.yaml: its points are the expected ones"
    )


def load_points(results: Path, expected: str | None, config: Path | None) -> FoundPoints:
    """Read the points below `results`, those that are expected or else all.

    Raises UserError where the folder or what is expected cannot be read, or there are no points.
    """
    wanted, text = (_of_config(config), config.read_text()) if config else (_read(expected), "")
    # A folder in which nothing was run yet is an answer too, where it is known what should be there.
    folder = results if wanted and not results.exists() else experiment_folder(results, bool(wanted))
    present = found_points(folder)
    others = len(set(present) - set(wanted)) if wanted is not None else 0
    points = load(folder, wanted)
    if not points:
        raise UserError(f"There are no points: neither in '{folder}' nor among the expected ones.")
    return FoundPoints(folder, points, text, others)


def _of_config(config: Path) -> Expected:
    from simai_rules.config.loader import load_experiment
    from simai_rules.config.points import point_json

    return {path: json.loads(point_json(point)) for path, point in load_experiment(config).points.items()}


def _read(source: str | None) -> Expected | None:
    if source is None:
        return None
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except OSError as error:
        raise UserError(f"Cannot read the expected points from {source}: {error.strerror or error}") from error
    return parse_expected(text, source)


def parse_expected(text: str, source: str) -> Expected:
    """Read paths of points from JSON (a list, or an object with settings or null as values) or from lines of text.

    Raises UserError where it is neither; `source` names it there.
    """
    if not text.lstrip().startswith(("[", "{")):
        return dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise UserError(f"Cannot read the expected points from {source}: {error}") from error
    if isinstance(raw, dict):
        return {str(path): value if isinstance(value, dict) else None for path, value in raw.items()}
    if not all(isinstance(path, str) for path in raw):
        raise UserError(f"{source} must hold a JSON list of point paths, or an object with the paths as keys.")
    return dict.fromkeys(raw)
