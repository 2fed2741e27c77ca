"""Problems of a config as messages: the key's path, the value, what is allowed, and the name that was meant."""

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from simai_rules.config.base import Strict
from simai_rules.config.keys import (
    KeyPath,
    choices,
    describe,
    did_you_mean,
    dotted_keys,
    is_tag,
    names,
    resolve,
    text_of,
)
from simai_rules.errors import ConfigError

MOST_PROBLEMS = 50

_Model = TypeVar("_Model", bound=Strict)


class Problems:
    """The problems found in one file; they are all told in one error."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.texts: list[str] = []

    def add(self, path: KeyPath, text: str) -> None:
        """Note that what lies at `path` has the problem `text`."""
        where = text_of(path)
        self.texts.append(f"{where}: {text}" if where else text)

    def add_invalid(self, error: ValidationError, model: Any, prefix: KeyPath = ()) -> None:
        """Note all that pydantic found wrong with a value of type `model` that lies at `prefix`."""
        for path, text in explain(error, model):
            self.add(prefix + path, text)

    def raise_if_any(self) -> None:
        """Raise one ConfigError that lists every problem, if there are any."""
        if not self.texts:
            return
        texts = list(dict.fromkeys(self.texts))
        shown = texts[:MOST_PROBLEMS]
        if len(texts) > len(shown):
            shown.append(f"… and {len(texts) - len(shown)} more")
        count = "1 problem" if len(texts) == 1 else f"{len(texts)} problems"
        raise ConfigError(f"{self.source} has {count}:" + "".join(f"\n  {text}" for text in shown))


def checked(source: str, model: type[_Model], content: Any) -> _Model:
    """Return `content`, which came from `source`, as a `model`; raises ConfigError that lists all problems."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = Problems(source)
        problems.add_invalid(error, model)
        problems.raise_if_any()
        raise


def explain(error: ValidationError, model: Any) -> list[tuple[KeyPath, str]]:
    """Return a path and a message for each problem that pydantic found in a value of type `model`."""
    return [_explain(dict(item), model) for item in error.errors(include_url=False)]


def show(value: Any, width: int = 60) -> str:
    """Return a value as a config file would have it, shortened to about `width` characters."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, str):
        text = repr(value)
    else:
        try:
            text = json.dumps(value, ensure_ascii=True)
        except (TypeError, ValueError, RecursionError):
            text = ascii(str(value)) if not isinstance(value, dict | list) else type(value).__name__
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 :]}"


def _explain(item: dict[str, Any], model: Any) -> tuple[KeyPath, str]:
    path: KeyPath = tuple(part for part in item["loc"] if not is_tag(part))
    kind, value = item["type"], item["input"]
    if path and path[-1] == "[key]":
        return path[:-2], f"the key {show(value)} is not text; put it in quotes"
    annotation = resolve(model, path)
    if kind == "invalid_key":
        return path[:-1], f"the key {show(value)} is not text; put it in quotes"
    if kind == "extra_forbidden":
        return path, _unknown_key(str(path[-1]), path[:-1], model)
    if kind == "missing":
        return path, f"this key is required; it takes {describe(annotation)}"
    if kind == "value_error" and annotation is not None and not isinstance(value, bool):
        return path, str(item["ctx"]["error"])
    if isinstance(value, str) and (allowed := choices(annotation)):
        return path, f"{show(value)} is not known.{did_you_mean(value, allowed)} Allowed: {', '.join(allowed)}"
    guess = ""
    if kind == "union_tag_not_found" and isinstance(value, dict):
        guess = "".join(did_you_mean(str(key), names(annotation)) for key in value)
    return path, f"{show(value)} is not allowed.{guess} It takes {describe(annotation)}"


def _unknown_key(name: str, parent: KeyPath, model: Any) -> str:
    allowed = names(resolve(model, parent))
    guess = did_you_mean(name, allowed)
    if not guess and isinstance(model, type):
        # A key that was put into the wrong block: look for it in all of them.
        elsewhere = [key for key in _all_keys(model) if key.rpartition(".")[2] == name]
        guess = f" Did you mean {elsewhere[0]!r}?" if elsewhere else ""
    return f"unknown key.{guess} Allowed here: {', '.join(allowed)}"


def _all_keys(model: Any) -> list[str]:
    def tree(annotation: Any, depth: int) -> dict[str, Any]:
        return {name: tree(resolve(annotation, (name,)), depth - 1) for name in names(annotation)} if depth else {}

    return list(dotted_keys(tree(model, 3)))


def counted(count: int, noun: str) -> str:
    """Return `1 point`, `2 points`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
