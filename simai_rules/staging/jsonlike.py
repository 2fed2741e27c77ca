"""Which values JSON gives back as they were."""

from typing import Any

_SCALARS = (str, int, float, bool, type(None))
_DEEPEST = 100

Path = tuple[str | int, ...]
"""Where in a value something is: the keys and numbers that lead to it."""


def place(path: Path) -> str:
    """Return a path as it is written in Python, for messages."""
    parts = [f"[{step!r:.80}]" for step in path]
    if len(parts) > 6:
        parts[3:-3] = ["…"]
    return "The value" + "".join(parts)


def check_json(value: Any, path: Path) -> None:
    """Raise TypeError, naming type and place, unless JSON gives `value` back (tuples as lists)."""
    if type(value) in _SCALARS or isinstance(value, _SCALARS):
        return
    if len(path) > _DEEPEST:
        raise TypeError(f"{place(path)} is nested more than {_DEEPEST} levels deep, or contains itself.")
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_json(item, (*path, number))
    elif isinstance(value, dict):
        for key, item in value.items():
            check_name(key, path)
            check_json(item, (*path, key))
    else:
        raise TypeError(
            f"{place(path)} is of the type {type(value).__module__}.{type(value).__qualname__}, which cannot be staged "
            "here. Stage arrays, numbers, texts, bytes, lists, or a dict by str of them (arrays on its first level "
            "only), or open both DataStores with allow_pickle=True."
        )


def check_name(key: Any, path: Path) -> None:
    """Raise TypeError unless `key`, in the dict at `path`, is a str."""
    if not isinstance(key, str):
        raise TypeError(
            f"{place(path)} has a key of the type {type(key).__qualname__}; the keys of a staged dict are str."
        )
