"""Kernels and models of the user's own, by import path: is the module there? Looked for without running its code."""

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from simai_rules.config.experiment import Point
from simai_rules.errors import ConfigError


def check_import_paths(points: Iterable[Point], folder: Path) -> None:
    """Raise ConfigError, before anything runs, where the module of an import path of a point cannot be found.

    The ranks look where Python looks and in `folder`, that which snakemake runs in. Points whose system has a `setup`
    are left to the ranks: what it loads on the nodes need not be there here.
    """
    problems: dict[str, None] = {}
    for point in points:
        if point.system.setup:
            continue
        for key, path in _import_paths(point):
            if problem := missing(path, folder):
                problems[f"{key}: {problem}"] = None
    if problems:
        count = "1 import path leads" if len(problems) == 1 else f"{len(problems)} import paths lead"
        raise ConfigError(f"{count} nowhere:" + "".join(f"\n  {text}" for text in problems))


def missing(path: str, folder: Path) -> str:
    """Return why the module of `path` (`package.module:name`) cannot be there, or ""; "" also where that is unclear."""
    module = path.partition(":")[0]
    top, *inner = module.split(".")
    advice = f"It has to be installed in {sys.prefix}, on PYTHONPATH, or in {folder}"
    try:
        spec = importlib.util.find_spec(top) or importlib.machinery.PathFinder.find_spec(top, [str(folder)])
        if spec is None:
            return f"{path}: there is no module {top}. {advice}"
        name = top
        for part in inner:
            # A module that makes others, or a package that says itself where its own are, is known by running it alone.
            if spec.submodule_search_locations is None or _says_its_own(spec.origin):
                return ""
            name, outer, places = f"{name}.{part}", name, list(spec.submodule_search_locations)
            spec = _find_inner(name, places)
            if spec is None:
                return f"{path}: there is no module {part} in {outer} ({', '.join(places)})"
    except (ImportError, ValueError, OSError):  # what a finder of others does not know: the ranks will
        return ""
    return ""


def _find_inner(name: str, places: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """Return the spec of the module `name` of a package, without importing the package, as find_spec would."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, places)) is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _says_its_own(origin: str | None) -> bool:
    """Whether a package's code mentions its search path."""
    if origin is None or not origin.endswith(".py"):
        return False
    return b"__path__" in Path(origin).read_bytes()


def _import_paths(point: Point) -> Iterator[tuple[str, str]]:
    """Yield the key and the import path of each kernel and model of the user's own."""
    simulation = point.simulation
    blocks = {
        "simulation.start.kernels": simulation.start.kernels,
        "simulation.kernels": simulation.kernels,
        **{f"simulation.mix[{number}].kernels": branch.kernels for number, branch in enumerate(simulation.mix)},
        "simulation.checkpoint.kernels": simulation.checkpoint.kernels,
    }
    for key, kernels in blocks.items():
        for number, kernel in enumerate(kernels):
            if kernel.own:
                yield f"{key}[{number}].name", kernel.name
    if point.training.model.by_import_path:
        yield "training.model.name", point.training.model.name
