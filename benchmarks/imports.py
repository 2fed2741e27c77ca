"""How long `import simai_rules` and `simai-rules --help` take, beside a Python that does nothing.

python -m benchmarks.imports
"""

import statistics
import subprocess
import sys
import time

from benchmarks.common import ROUNDS, Table

TARGET_S = 0.3
CASES = {
    "python -c pass": ["-c", "pass"],
    "import simai_rules": ["-c", "import simai_rules"],
    "simai-rules --help": ["-m", "simai_rules.cli", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    for arguments in CASES.values():
        seconds(arguments)  # the first one reads from disk
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, arguments in CASES.items():
            times[name].append(seconds(arguments))
    table = Table((f"{'process':<20}", "median", "more", "target"))
    bare = statistics.median(times["python -c pass"])
    for name, values in times.items():
        median = statistics.median(values)
        cells = (name, f"{median:.3f} s", f"{median - bare:.3f} s")
        # The interpreter's own start counts: people wait for it, too.
        if name == "python -c pass":
            table.add(*cells)
        else:
            table.add(*cells, target=f"< {TARGET_S} s", met=median < TARGET_S)
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main())
