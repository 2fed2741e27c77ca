"""The keys of the config models: what lies at a path, what it takes in words, and which name a typo may have meant.

A path is a tuple of names and list indices, `("simulation", "kernels", 0, "name")`. The models' type annotations are
the only source, so that a new key needs no entry here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from simai_rules.config.base import Says

KeyPath = tuple[str | int, ...]


def text_of(path: KeyPath) -> str:
    """Return `simulation.kernels[0].name`; tags of alternatives, in '<>', are left out."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif is_tag(part):
            continue
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def is_tag(part: str | int) -> bool:
    """Say whether a part of pydantic's error location names an alternative of a union and not a key."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def type_of_field(field: FieldInfo) -> Any:
    """Return a field's type with everything that restricts it."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def resolve(annotation: Any, path: KeyPath) -> Any | None:
    """Return the type of what lies at `path` below a value of type `annotation`; None where there is no such key."""
    for part in path:
        found = [child for kind in _alternatives(annotation) if (child := _child(kind, part)) is not None]
        if not found:
            return None
        annotation = found[0]
    return annotation


def names(annotation: Any) -> list[str]:
    """Return the keys that a mapping of type `annotation` may have."""
    models = [kind for kind in _alternatives(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def choices(annotation: Any) -> list[str]:
    """Return the texts that `annotation` is restricted to; none where it is not a choice."""
    literals = [kind for kind in _alternatives(annotation) if get_origin(kind) is Literal]
    return [value for literal in literals for value in get_args(literal) if isinstance(value, str)]


def dotted_keys(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key of a resolved config as `simulation.kernels.0.name`, blocks before what is in them."""
    children: Sequence[tuple[Any, Any]] = []
    if isinstance(tree, Mapping):
        children = list(tree.items())
    elif isinstance(tree, list):
        children = list(enumerate(tree))
    for name, child in children:
        yield f"{prefix}{name}"
        yield from dotted_keys(child, f"{prefix}{name}.")


def nearest(name: str, allowed: Sequence[str]) -> str | None:
    """Return the name that `name` may have meant: the same key in another block, or one that is spelled alike."""
    in_a_block = [key for key in allowed if key.rpartition(".")[2] == name]
    if in_a_block:
        return min(in_a_block, key=len)
    folded = {key.lower().replace("_", "-"): key for key in allowed}
    close = get_close_matches(name.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def did_you_mean(name: str, allowed: Sequence[str]) -> str:
    """Return ` Did you mean 'x'?`, or nothing where no allowed name is near."""
    near = nearest(name, allowed)
    return f" Did you mean {near!r}?" if near else ""


def describe(annotation: Any) -> str:
    """Return what a value of type `annotation` may be, such as `a whole number from 0 to 65535`."""
    if get_origin(annotation) is Annotated:
        kind, *given = get_args(annotation)
        metadata = [part for item in given for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        said = [item.text for item in metadata if isinstance(item, Says)]
        return said[0] if said else _described(kind, metadata)
    if get_origin(annotation) in (Union, UnionType):
        kinds = ["nothing (null)" if kind is NoneType else describe(kind) for kind in get_args(annotation)]
        return " or ".join(dict.fromkeys(kinds))
    return _described(annotation, [])


def _described(kind: Any, metadata: list[Any]) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if origin in (Union, UnionType, Annotated):
        return describe(kind)
    if origin is list:
        least = _bound(metadata, "min_length") or 0
        count = f", at least {least}" if least > 1 else ""
        return f"a list (each: {describe((get_args(kind) or (Any,))[0])}{count})"
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return f"a mapping with the keys {', '.join(names(origin))}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    return words.get(origin, "any value") + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    least, above, most, below = (_bound(metadata, name) for name in ("ge", "gt", "le", "lt"))
    limits = [
        f"> {above}" if above is not None else "",
        f">= {least}" if least is not None else "",
        f"<= {_short(most)}" if most is not None else "",
        f"< {_short(below)}" if below is not None else "",
    ]
    return "".join(f"{' and' if i else ''} {limit}" for i, limit in enumerate(filter(None, limits)))


def _bound(metadata: list[Any], name: str) -> Any:
    return next((value for item in metadata if (value := getattr(item, name, None)) is not None), None)


def _short(number: float) -> str:
    """Return a bound as people write it: 2^53, not 9007199254740992."""
    power = int(number).bit_length() - 1
    return f"2^{power}" if power > 20 and 2**power == number else f"{number:g}"


def _alternatives(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [] if annotation is NoneType else [annotation]


def _child(kind: Any, part: str | int) -> Any | None:
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        fields = {field.alias or name: field for name, field in origin.model_fields.items()}
        return type_of_field(fields[part]) if isinstance(part, str) and part in fields else None
    arguments = get_args(kind)
    if origin is list and arguments and (isinstance(part, int) or part.isdigit()):
        return arguments[0]
    if origin is dict and arguments:
        return arguments[1]
    return None
