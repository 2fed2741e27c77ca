"""The path of a point: `backend~redis/elements~1000/nodes~1/simulation.write_every~50/repeat~0`.

backend, elements and nodes are always there, swept or not, so that a sweep can be extended by them and what was
measured stays valid; further axes follow by name, so that their order in the config does not matter.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from simai_rules.config.registry import option_models

ALWAYS = ("backend", "elements", "nodes")
_LONGEST_TEXT = 48
_LONGEST_SLUG = 24


def point_path(settings: Mapping[str, Any], further: Mapping[str, str], repeat: int) -> str:
    """Return a point's path from its backend, elements and nodes in `settings` and the texts of its further axes."""
    parts = [f"{name}~{settings[name]}" for name in ALWAYS]
    parts += [f"{name}~{text}" for name, text in sorted(further.items())]
    return "/".join([*parts, f"repeat~{repeat}"])


def point_pattern() -> str:
    """Return a regular expression (without anchors or groups) of the paths that points have."""
    return _pattern("(?:" + "|".join(map(re.escape, option_models())) + ")")


def backend_pattern(name: str) -> str:
    """Return the regular expression of the paths of the points of one backend."""
    return _pattern(re.escape(name))


def value_text(value: Any) -> str:
    """Return a value of an axis as text that is safe in a path and differs for different values of the axis.

    Numbers and short plain texts stay as they are; of anything else, a few characters and a hash.
    """
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z0-9_.+-]+", value) and len(value) <= _LONGEST_TEXT
        return value if plain else _hashed(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    return _hashed(value)


def _pattern(backend: str) -> str:
    # No braces: Snakemake would take them for the end of its wildcard.
    further = r"(?:/[A-Za-z][A-Za-z0-9_.-]*~[A-Za-z0-9_.+-]+)*"
    return rf"backend~{backend}/elements~[0-9]+/nodes~[0-9]+{further}/repeat~[0-9]+"


def _hashed(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"{_slug(value)}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def _slug(value: Any) -> str:
    """Return a few characters that remind of `value`: `normal` of {normal: …}, `256x256` of [256, 256]."""
    if isinstance(value, dict):
        text = str(value.get("name") or min(value, default="empty"))
    elif isinstance(value, list):
        text = "x".join(_slug(item) for item in value[:4])
    else:
        text = str(value)
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:_LONGEST_SLUG].rstrip("-") or "value"
