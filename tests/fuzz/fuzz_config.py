"""Any content of a config.yaml is loaded or refused as ConfigError."""

import tempfile
from pathlib import Path

from fuzzing import ROOT, atheris, fuzz

with atheris.instrument_imports(include=["simai_rules"]):
    from simai_rules.config.estimate import estimate
    from simai_rules.config.experiment import ExperimentConfig
    from simai_rules.config.keys import dotted_keys
    from simai_rules.config.loader import load_experiment
    from simai_rules.config.points import point_json
    from simai_rules.config.sweep import sweepable
    from simai_rules.errors import ConfigError

FOLDER = Path(tempfile.gettempdir())
"""In which files that a config names are looked for."""


class Held:
    """A config file that is in memory: a file system would be slow."""

    parent = FOLDER

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_text(self, encoding: str) -> str:
        """Return its content, as Path.read_text does."""
        return self._data.decode(encoding)

    def __str__(self) -> str:
        return "config.yaml"


def target(data: bytes) -> None:
    """Load the bytes as a config file, and work out every point."""
    try:
        points = load_experiment(Held(data)).points  # type: ignore[arg-type]
    except ConfigError as error:
        str(error).encode()
        return
    for point in points.values():
        point_json(point)
        estimate(point)


WORDS = sorted(dotted_keys(sweepable(ExperimentConfig(name="a"))))
WORDS += ["sweep", "axes", "zip", "exclude", "mean", "std", "median", "sigma", "histogram", "values", "probabilities"]
WORDS += ["null", "1e400", ".nan", ".inf", "&a [", "*a", "<<: *a", "!!python/object:", "!!binary", "---", "? ", "{"]


def seeds() -> list[bytes]:
    """Return the configs of the repository, and a short one."""
    files = sorted(ROOT.glob("Snakefiles/*/*.yaml"))
    return [*(file.read_bytes()[:4096] for file in files), b"name: a\nsweep:\n  axes:\n    elements: [10, 1e3]\n"]


if __name__ == "__main__":
    fuzz(target, seeds(), WORDS)
