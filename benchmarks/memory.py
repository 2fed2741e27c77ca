"""How much memory a put and a get take: 1 MB, and a get into fresh memory the array.

python -m benchmarks.memory [backend …]: each line is a fresh process that stages one array of 64 MB; what is counted is
the peak of its resident memory (VmHWM) during the call above what it held before, mapped shared memory included. A
copy on the way would show as another 64 MB. `put again` puts and deletes four times, so that what a backend keeps for
the next value counts: node-local maps the staged value itself, which is the array once more. Non-zero exit if a target
is missed.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import BACKENDS, Table, payload, staging
from simai_rules.staging.datastore import DataStore

ARRAY = 64_000_000
ALLOWANCE = 1_000_000
STATUS = Path("/proc/self/status")


def resident(field: str) -> int:
    """Return VmRSS (now) or VmHWM (the peak so far) of this process, in bytes."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def extra(action: Callable[[], object]) -> int:
    """Return by how many bytes the peak during `action` is above what was held before."""
    gc.collect()
    # 5: forget the peak that was (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    kept = action()
    peak = resident("VmHWM")
    del kept
    return peak - before


def child(info: str, verb: str) -> None:
    """Stage once, in this process, and print the extra bytes."""
    with DataStore("memory", json.loads(info)) as store:
        small = np.ones(1000, np.float32)
        store.stage_write("warm-up", small)
        store.stage_read("warm-up")
        store.stage_read("warm-up", out=small)
        if verb == "put":
            data = payload(ARRAY)
            print(extra(lambda: store.stage_write("array", data)))
        elif verb == "put again":
            data = payload(ARRAY)
            print(extra(lambda: [put_and_delete(store, data) for _ in range(4)]))
        elif verb == "get":
            print(extra(lambda: store.stage_read("array")))
        else:
            out = payload(ARRAY)
            print(extra(lambda: store.stage_read("array", out=out)))


def put_and_delete(store: DataStore, data: np.ndarray) -> None:
    store.stage_write("again", data)
    store.clean_staged_data("again")


def measure(table: Table, backend: str) -> None:
    with staging(backend) as info, DataStore("holder", info) as holder:
        holder.stage_write("array", payload(ARRAY))
        for verb in ("put", "put again", "get", "get into out"):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", "--child", json.dumps(info), verb],
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
            found = int(done.stdout)
            mapped = (backend, verb) == ("node-local", "put again")
            limit = ALLOWANCE + (ARRAY if verb == "get" or mapped else 0)
            cells = (backend, verb, f"{found / 1e6:.1f} MB")
            table.add(*cells, target=f"<= {limit / 1e6:g} MB", met=found <= limit)


def main(backends: list[str]) -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("backend", "verb", "extra", "target"))
    for backend in backends or BACKENDS:
        measure(table, backend)
    return min(table.failed, 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
