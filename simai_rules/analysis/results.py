"""The points of an experiment as they lie on disk: done, failed or missing, each with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simai_rules.analysis.samples import Samples, samples_of
from simai_rules.analysis.summary import Row, blank_row, rows_of
from simai_rules.config.points import NOT_STARTED
from simai_rules.errors import UserError
from simai_rules.events.store import UnreadableEvents, read_events

if TYPE_CHECKING:
    import pyarrow as pa

State = Literal["done", "failed", "missing"]
ITEM_BYTES = {"float16": 2, "float32": 4, "float64": 8, "int32": 4, "int64": 8}


@dataclass(frozen=True)
class PointResult:
    """One point: what it was asked to do, how it ended, its rows of the summary and its samples.

    A failed or missing point has one row, which says why, and no samples.
    """

    path: str
    folder: Path
    settings: dict[str, Any]
    state: State
    reason: str = ""
    rows: list[Row] = field(default_factory=list)
    samples: Samples | None = None
    outdated: bool = False
    """Its point.json is not what the config says today."""

    @property
    def axes(self) -> dict[str, Any]:
        """The swept keys with this point's values, always with backend, elements, nodes and repeat."""
        return axes_of(self.settings)

    @property
    def components(self) -> tuple[str, ...]:
        """The names of its components, as their files have them."""
        return components_of(self.settings)

    @property
    def backend(self) -> str:
        """The name of its backend."""
        return str(self.settings.get("backend", "unknown"))

    @property
    def message_bytes(self) -> int:
        """Bytes of one message's array: elements times the size of one."""
        return int(self.settings.get("elements", 0)) * ITEM_BYTES.get(str(self.settings.get("dtype", "float32")), 4)


def components_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the components that a point with these settings has."""
    # None in points of older versions; a text where only the path of a point is known.
    inference = settings.get("inference")
    third = isinstance(inference, dict) and inference.get("ranks_per_node")
    return ("simulation", "training", "inference") if third else ("simulation", "training")


def axes_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return backend, elements, nodes and repeat of a point's settings, then its further axes."""
    first = {name: settings.get(name) for name in ("backend", "elements", "nodes", "repeat")}
    return {**first, **{name: value for name, value in settings.get("axes", {}).items() if name not in first}}


def experiment_folder(folder: Path, may_be_empty: bool = False) -> Path:
    """Return `folder`, or the one experiment inside it.

    Raises UserError where it is no folder, holds no results (unless it may), or holds several experiments.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no folder '{folder}'. Give the folder of an experiment's results, such as results/one_to_one."
        )
    if may_be_empty or _has_points(folder):
        return folder
    inside = [child for child in sorted(folder.iterdir()) if child.is_dir() and _has_points(child)]
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(str(child) for child in inside)
        raise UserError(f"'{folder}' holds the results of several experiments. Give one of them: {names}")
    raise UserError(
        f"'{folder}' holds no results: no folder of a point (backend~…/elements~…) is in it. "
        "Give the folder of an experiment's results, such as results/one_to_one, or run the experiment first."
    )


def _has_points(folder: Path) -> bool:
    return any("~" in child.name and child.is_dir() for child in folder.iterdir())


def load(root: Path, expected: Mapping[str, dict[str, Any] | None] | None = None) -> list[PointResult]:
    """Read the points below `root`: those in `expected` (path -> settings or None), or else all that are found."""
    if expected is None:
        expected = dict.fromkeys(found_points(root))
    common = next((each for path in expected if (each := _read_settings(root / path / "point.json")[0])), {})
    return [_read_point(root, path, wanted or common | _from_path(path), wanted) for path, wanted in expected.items()]


def found_points(root: Path) -> list[str]:
    """Return the paths of all points below `root` that have a point.json."""
    found = [file.parent.relative_to(root) for file in root.rglob("point.json")]
    return [path.as_posix() for path in sorted(found, key=lambda path: [_natural(part) for part in path.parts])]


def completeness(results: Sequence[PointResult]) -> str:
    """Return one line: how many points are done, failed and missing."""
    counts = Counter(result.state for result in results)
    parts = [f"{counts[state]} {state}" for state in ("failed", "missing") if counts[state]]
    whole = f"{counts['done']} of {len(results)} points done"
    return f"{whole}, {', '.join(parts)}" if parts else whole


def _natural(part: str) -> tuple[str, float, str]:
    name, _, value = part.partition("~")
    try:
        return name, float(value), ""
    except ValueError:
        return name, 0.0, value


def _read_point(root: Path, path: str, settings: dict[str, Any], wanted: dict[str, Any] | None) -> PointResult:
    """Read a point; `settings` hold for one that has no point.json, `wanted` is what the config says of it today."""
    folder, outdated = root / path, False
    written, problem = _read_settings(folder / "point.json")
    if written is not None:
        # The machine is not compared: a profile brings its own, and config.yaml knows nothing of it.
        outdated = wanted is not None and written | {"system": None} != wanted | {"system": None}
        settings = written

    def ended(state: State, reason: str) -> PointResult:
        row = blank_row(axes_of(settings), status=state, reason=reason)
        return PointResult(path, folder, settings, state, reason, [row], outdated=outdated)

    if reason := root_cause(folder):
        return ended("failed", reason)
    if problem:
        return ended("failed", problem)
    components = components_of(settings)
    absent = [name for name in components if not (folder / f"{name}.parquet").exists()]
    if absent:
        return ended("missing", _why_absent(folder, absent, components))
    try:
        tables = {name: read_events(folder / f"{name}.parquet") for name in components}
        _same_run(tables)
        rows = [row for table in tables.values() for row in rows_of(table, axes_of(settings))]
    except UnreadableEvents as error:
        return ended("failed", str(error).replace(f"{folder}/", ""))
    return PointResult(path, folder, settings, "done", "", rows, samples_of(tables), outdated)


def _read_settings(file: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the content of point.json, or None and what is wrong with it ("" where it is just not there)."""
    try:
        raw = json.loads(file.read_text())
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"point.json cannot be read ({error})"
    if isinstance(raw, dict) and "backend" in raw and "elements" in raw:
        return raw, ""
    return None, "point.json is not the settings of a point"


def root_cause(folder: Path) -> str:
    """Return what made the point's last run fail, or "": the earliest of `failures/*.json`; the rest followed."""
    failures = []
    for file in sorted((folder / "failures").glob("*.json")):
        try:
            raw = json.loads(file.read_text())
            failures.append((float(raw["time"]), f"{raw['component']}: {raw['reason']}"))
        except (OSError, ValueError, KeyError, TypeError):
            failures.append((float("inf"), f"{file.stem}: failed (its note {file.name} cannot be read)"))
    return min(failures)[1] if failures else ""


def _why_absent(folder: Path, absent: Sequence[str], components: Sequence[str]) -> str:
    if len(absent) < len(components):
        return f"not finished: no events of {' and '.join(absent)} yet"
    if (folder / "server.json").exists():
        return "running now, or killed without a word (its server.json is there, no events)"
    try:
        return str(json.loads((folder / NOT_STARTED).read_text())["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return "not run yet"


def _same_run(tables: Mapping[str, pa.Table]) -> None:
    runs = {(table.schema.metadata or {}).get(b"run_id", b"").decode() for table in tables.values()}
    if len(runs) > 1:
        raise UnreadableEvents(
            f"its components' events are of different runs ({', '.join(sorted(runs))}). Run the point again"
        )


def _from_path(path: str) -> dict[str, Any]:
    """Work out a point's axes from its path, for a point that was never configured."""
    axes: dict[str, Any] = {}
    for part in path.split("/"):
        name, _, text = part.partition("~")
        try:
            axes[name] = json.loads(text)
        except ValueError:
            axes[name] = text
    return {**axes, "axes": axes}
