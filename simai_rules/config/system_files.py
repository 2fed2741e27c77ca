"""Finding and reading a machine's `profiles/<machine>/system.yaml`."""

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from simai_rules.config.keys import did_you_mean
from simai_rules.config.messages import Problems
from simai_rules.config.system import SystemConfig
from simai_rules.config.yaml_file import read_mapping
from simai_rules.errors import ConfigError, UserError
from simai_rules.resources import shipped

FILE_NAME = "system.yaml"


def load_system(name: str, folder: Path) -> SystemConfig:
    """Return the machine `name`: a name in profiles/, or a path (with a `/`, or ending in .yaml) relative to `folder`.

    A name is looked for in `folder`/profiles, in the profiles two folders above (a repository's `Snakefiles/<name>/`)
    and in those that came with simai-rules. Raises ConfigError that lists the known machines, or the file's problems.
    """
    path = _find(name, folder)
    raw = read_mapping(path)
    problems = Problems(str(path))
    try:
        return SystemConfig.model_validate(raw)
    except ValidationError as error:
        problems.add_invalid(error, SystemConfig)
        problems.raise_if_any()
        raise


def _find(name: str, folder: Path) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = folder / name
        if path.is_file():
            return path
        raise ConfigError(f"{name!r}: there is no file {path}")
    places = _profile_folders(folder)
    for place in places:
        path = place / name / FILE_NAME
        if path.is_file():
            return path
    known = sorted({path.parent.name for place in places for path in place.glob(f"*/{FILE_NAME}")})
    raise ConfigError(
        f"{name!r} is not known.{did_you_mean(name, known)} Known machines: {', '.join(known) or 'none'} "
        f"(looked for {name}/{FILE_NAME} in {', '.join(map(str, places))}). It may also be a path to a file"
    )


def _profile_folders(folder: Path) -> list[Path]:
    places = [folder / "profiles", folder.absolute().parent.parent / "profiles"]
    with suppress(UserError):  # an installation without profiles: the user's own may do
        places.append(shipped("profiles"))
    return list(dict.fromkeys(place.absolute() for place in places))
