"""Reading a YAML file as a mapping, with an error that says where: line and column, duplicate keys included."""

from pathlib import Path
from typing import Any

from simai_rules.errors import ConfigError

_MOST_VALUES = 1_000_000


def read_mapping(path: Path) -> dict[Any, Any]:
    """Return the mapping that the YAML file `path` holds.

    Raises ConfigError where the file cannot be read, is empty, is not valid YAML, has a key twice, or is no mapping.
    """
    text = _read_text(path)
    content = _parse(text, path)
    if content is None:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise ConfigError(f"{path}: the file holds {kind}; it has to be a mapping of keys to values (key: value)")
    return content


def _values(content: Any, known: dict[int, int]) -> int:
    """Return how many values `content` holds, one that several anchors name counted each time.

    A list of nine names of a list of nine names and so on takes a line per level and would never be checked to its end.
    """
    if not isinstance(content, dict | list):
        return 1
    if id(content) not in known:
        parts = content.values() if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(content)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the file is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the file cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _parse(text: str, path: Path) -> Any:
    import yaml  # here, because a rule's job reads point.json and no YAML

    try:
        content = yaml.load(text, Loader=_loader())  # noqa: S506 - a subclass of the safe loader
        if _values(content, {}) > _MOST_VALUES:
            raise ConfigError(f"{path}: its anchors (&name, *name) make more than {_MOST_VALUES} values out of it")
        return content
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        hint = "; a tab cannot indent, use blanks" if line.lstrip(" ").startswith("\t") else ""
        raise ConfigError(f"{path}{where}: {error.problem or error.context}{hint}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{path}: has a value that YAML cannot read: {error}") from None


def _loader() -> Any:
    """Return a safe loader that refuses duplicate keys and values that contain themselves."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        first_lines: dict[str, int] = {}
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in first_lines:
                problem = f"the key {name!r} is there twice, first in line {first_lines[name]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if name and name != "<<":
                first_lines[name] = key.start_mark.line + 1
        return dict(loader.construct_mapping(node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    Loader.add_constructor("tag:yaml.org,2002:seq", lambda loader, node: loader.construct_sequence(node, deep=True))
    return Loader
