"""What the points really ran on, from their capsules: common to all, different between some, and what looks wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from simai_rules.analysis.results import PointResult
from simai_rules.config.ranges import ranges_text


@dataclass
class Environment:
    """The capsules of all done points.

    `common` holds what is the same everywhere, `different` for every other item its values, each with the paths of the
    points that have it; `shared_cores` the points whose ranks could run on the same cores; `not_as_placed` what ranks
    said that were not bound as they were placed, by point; `without` the done points whose capsules are missing or
    cannot be read.
    """

    common: dict[str, str] = field(default_factory=dict)
    different: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    shared_cores: list[str] = field(default_factory=list)
    not_as_placed: dict[str, list[str]] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)


def read_environment(results: Sequence[PointResult]) -> Environment:
    """Read the capsules of the points that are done and compare them."""
    environment = Environment()
    seen: dict[str, dict[str, list[str]]] = {}
    for result in results:
        if result.state != "done":
            continue
        capsules = [capsule for name in result.components if (capsule := _read(result, name))]
        if len(capsules) < len(result.components):
            environment.without.append(result.path)
        if _share_cores(capsules):
            environment.shared_cores.append(result.path)
        if differs := [f"{each.get('component', '?')} {text}" for each in capsules for text in each.get("differs", [])]:
            environment.not_as_placed[result.path] = differs
        for item, value in {pair for capsule in capsules for pair in _flat(capsule)}:
            seen.setdefault(item, {}).setdefault(value, []).append(result.path)
    for item, values in sorted(seen.items()):
        if len(values) == 1:
            environment.common[item] = next(iter(values))
        else:
            environment.different[item] = values
    return environment


def _read(result: PointResult, component: str) -> dict[str, Any] | None:
    try:
        raw = json.loads((result.folder / f"{component}.capsule.json").read_text())
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) and isinstance(raw.get("ranks"), list) else None


def _share_cores(capsules: Sequence[dict[str, Any]]) -> bool:
    """Tell whether two ranks of one node were allowed to run on the same core."""
    taken: set[tuple[str, int]] = set()
    for capsule in capsules:
        for rank in capsule["ranks"]:
            cores = {(str(rank.get("host")), core) for core in rank.get("affinity", [])}
            if cores & taken:
                return True
            taken |= cores
    return False


def _flat(capsule: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what describes the machine and the software, not the single run, as (item, text)."""
    software = capsule.get("software", {})
    yield "Python", str(software.get("python", "unknown"))
    for package, version in software.get("packages", {}).items():
        yield package, str(version)
    yield "MPI library", str(software.get("mpi_library") or "none loaded")
    yield "modules", ", ".join(software.get("modules", [])) or "none"
    git = software.get("git", {})
    changed = git.get("changed", [])
    state = f" with {len(changed)} changed files" if changed else ""
    yield "git commit", f"{git['commit'][:12]}{state}" if git.get("commit") else "no git repository"
    server = capsule.get("server", {})
    if "transport" in server:
        yield f"{server.get('backend', '?')}: transport between nodes", str(server["transport"])
    for host, node in capsule.get("nodes", {}).items():
        yield "nodes", host
        memory = node.get("memory_bytes", 0) / 2**30
        yield "node", f"{node.get('cpu', 'unknown CPU')}, {node.get('cores', '?')} cores, {memory:.0f} GiB"
        yield "Linux kernel", str(node.get("kernel", "unknown"))
    yield f"{capsule.get('component', '?')}: cores of each rank", _bindings(capsule["ranks"])
    gpus = _gpus(capsule["ranks"])
    if gpus:
        yield f"{capsule.get('component', '?')}: GPUs of each rank", gpus
    threads = {f"{name}={value}" for rank in capsule["ranks"] for name, value in rank.get("threads", {}).items()}
    yield f"{capsule.get('component', '?')}: thread settings", " ".join(sorted(threads)) or "none"


def _bindings(ranks: Sequence[dict[str, Any]]) -> str:
    counts = sorted({len(rank.get("affinity", [])) for rank in ranks})
    if len(ranks) > 8:
        return f"{len(ranks)} ranks with {' or '.join(map(str, counts))} cores each"
    return "; ".join(f"rank {rank['rank']}: {ranges_text(rank.get('affinity', []))}" for rank in ranks)


def _gpus(ranks: Sequence[dict[str, Any]]) -> str:
    """Return what the ranks saw in the GPU variables, or "" where none was set."""
    seen = [
        (rank, f"{name}={value}")
        for rank in ranks
        for name, value in rank.get("binding", {}).get("observed", {}).get("gpus", {}).items()
    ]
    if len(seen) > 8:
        return f"{len({rank['rank'] for rank, _ in seen})} ranks with {', '.join(sorted({text for _, text in seen}))}"
    return "; ".join(f"rank {rank['rank']}: {text}" for rank, text in seen)
