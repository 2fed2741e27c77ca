"""Packages that register backends, made in a folder for PYTHONPATH, as pip would have installed them."""

import os
from pathlib import Path

from simai_rules.commands.backend import rendered


def register(folder: Path, package: str, entries: dict[str, str], **modules: str) -> None:
    """Install `package` with the given entry points (backend's name to module) and modules (name to source)."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {module}" for name, module in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[simai_rules.backends]", *lines, ""]))
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)


def source_of(name: str) -> str:
    """Return the module of a backend `name` that works: the one that `simai-rules backend new` writes."""
    return next(text for file, text in rendered(name) if file.endswith(".py"))


def environment_with(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process that finds the packages in `folder`."""
    return os.environ | {"PYTHONPATH": str(folder)} | more
