"""From an experiment to its points: every combination of the sweep with all that a run of it needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from simai_rules.config.distributions import Histogram
from simai_rules.config.experiment import ExperimentConfig, Point, PointSettings
from simai_rules.config.keys import KeyPath
from simai_rules.config.messages import Problems, explain
from simai_rules.config.paths import ALWAYS, point_path
from simai_rules.config.sweep import MOST_COMBINATIONS, Axis
from simai_rules.config.system import SystemConfig
from simai_rules.errors import ConfigError

ReadHistogram = Callable[[str], Histogram]


def inline_histograms(tree: Any, path: KeyPath, read: ReadHistogram, problems: Problems) -> Any:
    """Return `tree` with the numbers of a histogram in place of its file's name: `{histogram: times.csv}`."""
    if isinstance(tree, dict):
        return {
            key: _histogram(value, (*path, key), read, problems)
            if key == "histogram" and isinstance(value, str)
            else inline_histograms(value, (*path, key), read, problems)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [inline_histograms(value, (*path, number), read, problems) for number, value in enumerate(tree)]
    return tree


def inline_axis(axis: Axis, read: ReadHistogram, problems: Problems) -> list[Any]:
    """Return the values of `axis` as they are set in a point, histograms inlined."""
    where: KeyPath = ("sweep", "axes", axis.key)
    if axis.path[-1] == "histogram":
        return [_histogram(value, (*where, i), read, problems) for i, value in enumerate(axis.values)]
    return [inline_histograms(value, (*where, i), read, problems) for i, value in enumerate(axis.values)]


def build_points(
    config: ExperimentConfig,
    base: dict[str, Any],
    system: SystemConfig,
    axes: Sequence[tuple[Axis, Sequence[Any]]],
    chosen: Sequence[Mapping[str, int]],
    problems: Problems,
) -> dict[str, Point]:
    """Return the points of the combinations `chosen`, by path, repeats last.

    `base` holds the values outside of the sweep, `axes` each axis with its values as they are set. What is wrong with a
    combination as a whole is added to `problems`, once for all the points that have it.
    """
    if len(chosen) * config.repeats > MOST_COMBINATIONS:
        problems.add(
            ("repeats",), f"makes {len(chosen) * config.repeats} points; at most {MOST_COMBINATIONS} are possible"
        )
        return {}
    settings = _fixed_blocks(base, axes)
    points: dict[str, Point] = {}
    wrong: dict[str, list[str]] = {}
    for indices in chosen:
        values = dict(settings)
        texts = {}
        shown = {}
        for axis, inlined in axes:
            index = indices[axis.key]
            values = _with(values, axis.path, inlined[index])
            texts[axis.key], shown[axis.key] = axis.texts[index], axis.values[index]
        try:
            for point in _repeats(config, values, system, texts, shown):
                points[point.path] = point
        except ValidationError as error:
            for path, text in explain(error, Point):
                place = Problems("")
                place.add(path, text)
                wrong.setdefault(place.texts[0], []).append(", ".join(f"{key}: {text}" for key, text in texts.items()))
    for text, places in wrong.items():
        problems.texts.append(text if len(places) == len(chosen) else f"{text} (with {_some(places)})")
    return points


def _histogram(name: str, path: KeyPath, read: ReadHistogram, problems: Problems) -> Any:
    try:
        return read(name)
    except ConfigError as error:
        problems.add(path, str(error))
        return name


def _fixed_blocks(base: dict[str, Any], axes: Sequence[tuple[Axis, Sequence[Any]]]) -> dict[str, Any]:
    """Return `base` with the blocks that no axis touches as checked models, which the points then share."""
    swept = {axis.path[0] for axis, _ in axes}
    checked = PointSettings.model_validate({key: value for key, value in base.items() if key != "backends"})
    fixed = {key: getattr(checked, key) for key in PointSettings.model_fields if key not in swept}
    return {**base, **fixed}


def _with(tree: Any, path: KeyPath, value: Any) -> Any:
    """Return `tree` with `value` at `path`; only what lies on the way is copied."""
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = _with(tree[path[0]], path[1:], value)
    return copy


def _repeats(
    config: ExperimentConfig, values: dict[str, Any], system: SystemConfig, texts: dict[str, str], shown: dict[str, Any]
) -> list[Point]:
    server = {**values["backends"].get(values["backend"], {}), "type": values["backend"]}
    settings = {key: value for key, value in values.items() if key != "backends"}
    always = {name: values[name] for name in ALWAYS}
    further = {key: text for key, text in texts.items() if key not in ALWAYS}
    axes = {**always, **{key: shown[key] for key in sorted(further)}}
    first = Point.model_validate(
        {
            **settings,
            "experiment": config.name,
            "path": point_path(always, further, 0),
            "axes": {**axes, "repeat": 0},
            "repeat": 0,
            "server": server,
            "system": system,
        }
    )
    # The repeats of a combination differ in nothing that could be wrong, so they are not checked again.
    others = [
        first.model_copy(
            update={"path": point_path(always, further, i), "axes": {**first.axes, "repeat": i}, "repeat": i}
        )
        for i in range(1, config.repeats)
    ]
    return [first, *others]


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}"
