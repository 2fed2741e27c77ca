"""Snakemake profiles of machines (`config.v8+.yaml`): where they are, and what they say about jobs.

A machine is one folder with a profile and, beside it, the description of its nodes and queues (`system.yaml`).
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simai_rules.config.keys import did_you_mean
from simai_rules.config.loader import Experiment, parse_experiment
from simai_rules.config.yaml_file import read_mapping
from simai_rules.errors import ConfigError, UserError
from simai_rules.resources import shipped

FILE_NAME = "config.v8+.yaml"
GROUP = "point"
"""The group of the jobs of a point; a pack is so many of them in one submission."""


@dataclass(frozen=True)
class Profile:
    """One profile as its file says it."""

    name: str
    file: Path
    content: dict[Any, Any]

    @property
    def executor(self) -> str:
        """The executor that runs the points: `local`, `pbs`, `simai-slurm` or any other."""
        return str(self.content.get("executor", "local"))

    @property
    def system(self) -> str | None:
        """The machine's description, as `system` of the config would name it; None where the profile has none."""
        return self.pairs("config").get("system")

    @property
    def pack(self) -> int:
        """Points in one submission."""
        text = self.pairs("group-components").get(GROUP, "1")
        return int(text) if text.isdigit() and int(text) else 1

    @property
    def jobs(self) -> int | None:
        """The most jobs that Snakemake has submitted at a time; None where it is not limited."""
        text = str(self.content.get("jobs", ""))
        return int(text) if text.isdigit() else None

    @property
    def queue(self) -> str | None:
        """The queue, or what stands for it on this machine: a partition or a QOS of Slurm."""
        return next((value for name in ("queue", "qos", "partition") if (value := self.setting(name))), None)

    @property
    def min_minutes(self) -> int:
        """The least walltime of a job: shorter requests are raised to it."""
        text = self.setting("min-walltime") or "0"
        return int(text) if text.isdigit() else 0

    def setting(self, name: str) -> str | None:
        """Return the setting `name` of the executor, such as `account`; None where it is not there or empty."""
        value = self.content.get(f"{self.executor}-{name}")
        return str(value) if value not in (None, "") else None

    def pairs(self, key: str) -> dict[str, str]:
        """Return the entry `key`, which Snakemake takes as `name=value` or as a mapping."""
        entry = self.content.get(key) or {}
        if isinstance(entry, dict):
            return {str(name): str(value) for name, value in entry.items()}
        lines = entry if isinstance(entry, list) else [entry]
        return {name: value for name, _, value in (str(line).partition("=") for line in lines)}


def load_with_profile(file: Path, profile: Profile | None) -> Experiment:
    """Return the experiment of a config file, on the machine of `profile`, if that names one, as Snakemake would."""
    system = {} if profile is None or profile.system is None else {"system": profile.system}
    return parse_experiment(read_mapping(file) | system, file.parent, str(file))


def user_folder() -> Path:
    """Return the folder in which Snakemake looks for this user's profiles by name."""
    from snakemake.common import get_appdirs

    return Path(get_appdirs().user_config_dir)


def find_profile(name: str) -> Profile:
    """Return the profile that `snakemake --profile NAME` would use here, else the one that came with simai-rules.

    Raises ConfigError that lists the profiles there are.
    """
    from snakemake.common import get_appdirs

    places = [Path(), user_folder(), Path(get_appdirs().site_config_dir), *_shipped()]
    for place in places:
        file = profile_file(place / name)
        if file is not None:
            return Profile(name.rstrip("/").rpartition("/")[2], file, read_mapping(file))
    known = list(dict.fromkeys(path.name for place in places[1:] for path in profiles_in(place)))
    raise ConfigError(
        f"There is no profile {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}; or give a path to a "
        f"folder with a {FILE_NAME}."
    )


def profiles_in(folder: Path) -> Iterator[Path]:
    """Yield the folders of the profiles in `folder`, by name; not `default`, which Snakemake reads by itself."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.name != "default" and profile_file(path):
                yield path


def profile_file(folder: Path) -> Path | None:
    """Return the file that Snakemake reads of the profile in `folder` (or `folder`, where it is that file itself)."""
    if folder.is_file():
        return folder
    if not folder.is_dir():
        return None
    versions = {
        int(match["version"] or 0): file
        for file in sorted(folder.iterdir())
        if (match := re.fullmatch(r"(?:profile|config)(?:\.v(?P<version>\d+)\+)?\.yaml", file.name))
    }
    return versions[max(versions)] if versions else None


def _shipped() -> list[Path]:
    with suppress(UserError):
        return [shipped("profiles")]
    return []
