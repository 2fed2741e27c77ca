"""Reading an experiment: from config.yaml, or from Snakemake's `config`, to checked settings and points."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simai_rules.config.distributions import Histogram
from simai_rules.config.expand import build_points, inline_axis, inline_histograms
from simai_rules.config.experiment import ExperimentConfig, Point
from simai_rules.config.histogram import read_histogram
from simai_rules.config.messages import Problems
from simai_rules.config.paths import backend_pattern, point_pattern
from simai_rules.config.sweep import combinations, read_axes, read_excludes, sweepable
from simai_rules.config.system import SystemConfig
from simai_rules.config.system_files import load_system
from simai_rules.config.yaml_file import read_mapping
from simai_rules.errors import ConfigError

__all__ = ["Experiment", "backend_pattern", "load_experiment", "parse_experiment", "point_pattern"]


@dataclass(frozen=True)
class Experiment:
    """A checked experiment."""

    config: ExperimentConfig
    points: dict[str, Point]
    """All points by their path, in the order of the sweep: the first axis slowest, repeats fastest."""
    source: str
    """The file it was read from, for messages."""


def load_experiment(path: Path) -> Experiment:
    """Read and check the config file `path`.

    Raises ConfigError that lists every problem of the file.
    """
    return parse_experiment(read_mapping(path), path.parent, str(path))


def parse_experiment(raw: Mapping[str, Any], folder: Path, source: str) -> Experiment:
    """Check the content of a config file, such as Snakemake's `config`.

    `folder` is where relative paths (histograms, a system.yaml) are looked for, `source` names the file in errors.
    Raises ConfigError that lists every problem found.
    """
    problems = Problems(source)
    config, broken = _check(dict(raw), problems)
    base = sweepable(config)
    system = _system(config, folder, broken, problems)

    @cache
    def read(name: str) -> Histogram:
        return read_histogram(folder / name)

    inlined = inline_histograms(base, (), read, problems)
    axes = [(axis, inline_axis(axis, read, problems)) for axis in read_axes(config.sweep, base, problems, broken)]
    excludes = read_excludes(config.sweep, [axis for axis, _ in axes], problems)
    problems.raise_if_any()
    chosen = combinations(config.sweep, [axis for axis, _ in axes], excludes, problems)
    problems.raise_if_any()
    points = build_points(config, inlined, system, axes, chosen, problems)
    problems.raise_if_any()
    return Experiment(config, points, source)


def _check(raw: dict[str, Any], problems: Problems) -> tuple[ExperimentConfig, set[str]]:
    """Return the config and its top-level keys that are wrong, which are left at their defaults.

    So the rest of a file, its sweep above all, is checked too where one part of it is wrong.
    """
    try:
        return ExperimentConfig.model_validate(raw), set()
    except ValidationError as error:
        problems.add_invalid(error, ExperimentConfig)
        broken = {str(item["loc"][0]) for item in error.errors(include_url=False)}
    rest = {key: value for key, value in raw.items() if str(key) not in broken}
    return ExperimentConfig.model_validate({"name": "unknown", **rest}), broken


def _system(config: ExperimentConfig, folder: Path, broken: set[str], problems: Problems) -> SystemConfig:
    if "system" not in broken:
        try:
            return load_system(config.system, folder)
        except ConfigError as error:
            problems.add(("system",), str(error).replace("\n", "\n  "))
    return SystemConfig()
