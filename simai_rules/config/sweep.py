"""The axes of a sweep, checked, and their combinations."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from simai_rules.config.experiment import ExperimentConfig, PointSettings, SweepConfig
from simai_rules.config.keys import KeyPath, did_you_mean, dotted_keys, nearest, resolve
from simai_rules.config.messages import Problems, explain, show
from simai_rules.config.paths import value_text
from simai_rules.config.registry import BackendOptions

MOST_COMBINATIONS = 100_000
NO_AXES = ("name", "results", "repeats", "repeat", "system", "sweep")


@dataclass(frozen=True)
class Axis:
    """One axis: a key of the config, its values as they were checked, and their texts in a path, each unique."""

    key: str
    path: KeyPath
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    adapter: TypeAdapter[Any]


def sweepable(config: ExperimentConfig) -> dict[str, Any]:
    """Return all that can be swept, with the values outside of the sweep, as nested plain values."""
    return config.model_dump(by_alias=True, include={*PointSettings.model_fields, "backends"})


def read_axes(sweep: SweepConfig, base: Mapping[str, Any], problems: Problems, unchecked: Set[str]) -> list[Axis]:
    """Return the axes of `sweep` over the keys of `base`; what is wrong with them is added to `problems`.

    Axes in one of the top-level keys `unchecked` are left out, because that part of the config is not valid itself.
    """
    keys = list(dotted_keys(base))
    axes = []
    for key, values in sweep.axes.items():
        if key.split(".")[0] in unchecked:
            continue
        where: KeyPath = ("sweep", "axes", key)
        if key not in keys:
            problems.add(where, _no_such_axis(key, keys))
            continue
        inside = [other for other in sweep.axes if key.startswith(f"{other}.")]
        if inside:
            problems.add(where, f"lies inside another axis, {inside[0]!r}; give its values there, or remove that axis")
            continue
        axis = _read_axis(key, values, problems)
        if axis is not None:
            axes.append(axis)
    _check_zips(sweep, problems)
    return axes


def read_excludes(sweep: SweepConfig, axes: Sequence[Axis], problems: Problems) -> list[dict[str, int]]:
    """Return the entries of `exclude` as indices of the axes' values; what is wrong is added to `problems`."""
    by_key = {axis.key: axis for axis in axes}
    entries = []
    for number, entry in enumerate(sweep.exclude):
        indices: dict[str, int] = {}
        for key, value in entry.items():
            where: KeyPath = ("sweep", "exclude", number, key)
            if key in by_key:
                index = _index(by_key[key], value, where, problems)
                if index is not None:
                    indices[key] = index
            elif key not in sweep.axes:
                guess = did_you_mean(key, list(sweep.axes))
                problems.add(where, f"is not an axis of this sweep.{guess} {_axes_text(sweep)}")
        entries.append(indices)
    return entries


def combinations(
    sweep: SweepConfig, axes: Sequence[Axis], excludes: Sequence[Mapping[str, int]], problems: Problems
) -> list[dict[str, int]]:
    """Return the combinations that are not excluded, each as the index of every axis's value.

    The first axis varies slowest. Entries of `exclude` that match nothing, and a sweep with nothing left or far too
    much in it, are added to `problems`.
    """
    groups = _groups(sweep, axes)
    count = math.prod(len(group[0].values) for group in groups)
    if count > MOST_COMBINATIONS:
        problems.add(("sweep",), f"has {count} combinations; at most {MOST_COMBINATIONS} are possible")
        return []
    matched = [False] * len(excludes)
    kept = []
    for choice in product(*(range(len(group[0].values)) for group in groups)):
        indices = {axis.key: index for group, index in zip(groups, choice, strict=True) for axis in group}
        hits = [number for number, entry in enumerate(excludes) if entry.items() <= indices.items()]
        for number in hits:
            matched[number] = True
        if not hits:
            kept.append(indices)
    for number, hit in enumerate(matched):
        if not hit:
            entry = show(sweep.exclude[number], 200)
            problems.add(("sweep", "exclude", number), f"{entry} matches no point, because of the axes in sweep.zip")
    if not kept:
        problems.add(("sweep", "exclude"), "no point is left: all are excluded")
    return kept


def _no_such_axis(key: str, keys: Sequence[str]) -> str:
    if key in ("repeat", "repeats"):
        return "is not an axis; set 'repeats: 3' at the top of the file to run each combination 3 times"
    if key.split(".")[0] in NO_AXES:
        return f"{key!r} is the same for the whole experiment and cannot be an axis"
    guess = did_you_mean(key, keys)
    if not guess:
        # The last name may be right or nearly so, and what stands before it wrong.
        last = nearest(key.rpartition(".")[2], [name for name in keys if not name.rpartition(".")[2].isdigit()])
        guess = f" Did you mean {last!r}?" if last else ""
    return f"there is no such key in this config.{guess} Axes are its keys, such as elements or simulation.write_every"


def _read_axis(key: str, values: Sequence[Any], problems: Problems) -> Axis | None:
    path: KeyPath = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    kind = resolve(BackendOptions, path[1:]) if path[0] == "backends" else resolve(PointSettings, path)
    adapter: TypeAdapter[Any] = TypeAdapter(cast("Any", kind))
    checked, texts = [], []
    valid = True
    for number, value in enumerate(values):
        where: KeyPath = ("sweep", "axes", key, number)
        try:
            plain = _plain(adapter, value)
        except ValidationError as error:
            valid = False
            for inner, text in explain(error, kind):
                problems.add(where + inner, text)
            continue
        text = value_text(plain)
        if text in texts:
            valid = False
            problems.add(where, f"{show(value)} is there twice; to run it several times set 'repeats'")
        checked.append(plain)
        texts.append(text)
    return Axis(key, path, tuple(checked), tuple(texts), adapter) if valid else None


def _plain(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Return `value` checked, as plain values: 1000000 for 1.0e6, and a block as it was given, without its defaults."""
    return adapter.dump_python(adapter.validate_python(value), mode="json", by_alias=True, exclude_unset=True)


def _check_zips(sweep: SweepConfig, problems: Problems) -> None:
    seen: dict[str, int] = {}
    for number, group in enumerate(sweep.zip):
        where: KeyPath = ("sweep", "zip", number)
        for name in group:
            if name not in sweep.axes:
                problems.add(
                    where, f"{name!r} is not an axis.{did_you_mean(name, list(sweep.axes))} {_axes_text(sweep)}"
                )
            elif name in seen:
                other = "twice in this group" if seen[name] == number else f"in sweep.zip[{seen[name]}] too"
                problems.add(where, f"{name!r} is {other}; an axis can advance with one group only")
            seen[name] = number
        lengths = {name: len(sweep.axes[name]) for name in group if name in sweep.axes}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            problems.add(where, f"axes that advance together need equally many values: {counts}")


def _groups(sweep: SweepConfig, axes: Sequence[Axis]) -> list[list[Axis]]:
    """Return the axes in groups that advance together, in the order in which the first of each group is listed."""
    group_of = {name: number for number, group in enumerate(sweep.zip) for name in group}
    groups: dict[str | int, list[Axis]] = {}
    for axis in axes:
        groups.setdefault(group_of.get(axis.key, axis.key), []).append(axis)
    return list(groups.values())


def _index(axis: Axis, value: Any, where: KeyPath, problems: Problems) -> int | None:
    """Return which of the axis's values `value` is; None, with a problem, where it is none of them."""
    try:
        text = value_text(_plain(axis.adapter, value))
    except ValidationError:
        text = ""
    if text in axis.texts:
        return axis.texts.index(text)
    guess = did_you_mean(value, axis.texts) if isinstance(value, str) else ""
    listed = ", ".join(map(show, axis.values))
    problems.add(where, f"{show(value)} is not a value of this axis.{guess} Its values: {listed}")
    return None


def _axes_text(sweep: SweepConfig) -> str:
    return f"Axes: {', '.join(sweep.axes) or 'none'}"
