"""What a point costs beyond its components' own run: Snakemake, the staging server, the launchers, and the cleaning.

The components' own run is from the start of their first process to their last event. Three points are run one after
another by the real Snakemake, and what is left of the wall time is divided by three: its own start is in it.

python -m benchmarks.point
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as compute
import yaml

from benchmarks.common import Table
from simai_rules.events.store import read_events
from simai_rules.resources import shipped

TARGET_S = 5.0
POINTS = 3
CONFIG = {
    "name": "bench",
    "repeats": POINTS,
    "simulation": {"kernels": [{"name": "MatMulSimple2D", "data_size": [64, 64], "run_time": 0.01}], "write_every": 5},
    "training": {"iterations": 40, "run_time": 0.05, "read_every": 2, "model": {"hidden": [8], "batch_size": 32}},
}


def own_run_s(point: Path) -> float:
    """Return the seconds from the start of the first process of `point` to its last event."""
    tables = [
        read_events(point / f"{name}.parquet", ["start_ns", "duration_ns"]) for name in ("simulation", "training")
    ]
    start = min(compute.min(table["start_ns"]).as_py() for table in tables)
    end = max(compute.max(compute.add(table["start_ns"], table["duration_ns"])).as_py() for table in tables)
    return float(end - start) / 1e9


def main() -> int:
    """Run the benchmark; return the number of missed targets."""
    table = Table((f"{'seconds per point':<18}", "wall", "own run", "beyond", "target"))
    for backend in ("filesystem", "node-local", "redis"):
        with tempfile.TemporaryDirectory(prefix="simai-rules-bench-") as name:
            folder = Path(name)
            (folder / "Snakefile").write_text((shipped("Snakefiles/one_to_one") / "Snakefile").read_text())
            (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"backend": backend}))
            points = [
                folder / f"results/bench/backend~{backend}/elements~1000000/nodes~1/repeat~{n}" for n in range(POINTS)
            ]
            events = [f"{point}/{each}.parquet" for point in points for each in ("simulation", "training")]
            targets = [str(Path(event).relative_to(folder)) for event in events]
            environment = {**os.environ, "TMPDIR": name, "XDG_CACHE_HOME": f"{name}/.cache"}
            command = [sys.executable, "-m", "snakemake", *targets, "--profile", str(shipped("profiles") / "local")]
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
            wall = (time.perf_counter() - start) / POINTS
            own = sum(map(own_run_s, points)) / POINTS
        beyond = wall - own
        cells = (backend, f"{wall:.1f}", f"{own:.1f}", f"{beyond:.1f}")
        table.add(*cells, target=f"< {TARGET_S:g}", met=beyond < TARGET_S)
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main())
