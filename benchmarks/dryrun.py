"""How long `snakemake -n` takes for a sweep of 1,000 points, against bare rules of the same shape.

Bare: what makes the point's config, a service and two consumers per point, and a collector, with nothing but files.
Both are run in turns.

python -m benchmarks.dryrun [points]
"""

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import yaml

from benchmarks.common import Table, compare
from simai_rules.resources import shipped

POINTS = 1000
REPEATS = 10
ROUNDS = 3
TARGET = 1.5

BARE = textwrap.dedent("""
    POINTS = [f"backend~filesystem/elements~{n}/nodes~1/repeat~{r}" for n in ELEMENTS for r in range(REPEATS)]

    rule all:
        input: "summary.txt"

    rule collect:
        input:
            expand("{point}/simulation.txt", point=POINTS),
            expand("{point}/training.txt", point=POINTS),
        output: "summary.txt"
        shell: "touch {output}"

    rule configure:
        output: "{point}/point.json"
        shell: "touch {output}"

    rule server:
        input: "{point}/point.json"
        output: service("{point}/server.json")
        shell: "touch {output}; exec sleep 100"

    rule simulation:
        input: point="{point}/point.json", server="{point}/server.json"
        output: "{point}/simulation.txt"
        shell: "touch {output}"

    rule training:
        input: point="{point}/point.json", server="{point}/server.json"
        output: "{point}/training.txt"
        shell: "touch {output}"
""")


def prepare(folder: Path, points: int) -> tuple[Path, Path]:
    """Make the folders of both workflows; the elements are 1,000 and more, each repeated ten times."""
    elements = list(range(1000, 1000 + points // REPEATS))
    ours, bare = folder / "ours", folder / "bare"
    ours.mkdir()
    bare.mkdir()
    (ours / "Snakefile").write_text((shipped("Snakefiles/one_to_one") / "Snakefile").read_text())
    config = {
        "name": "bench",
        "repeats": REPEATS,
        "sweep": {"axes": {"backend": ["filesystem"], "elements": elements}},
    }
    (ours / "config.yaml").write_text(yaml.safe_dump(config))
    (bare / "Snakefile").write_text(f"ELEMENTS = {elements}\nREPEATS = {REPEATS}\n{BARE}")
    return ours, bare


def dry_run(folder: Path, *options: str) -> float:
    """Return the wall seconds of a dry run."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", *options],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / ".cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


def main(arguments: list[str]) -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    points = int(arguments[0]) if arguments else POINTS
    with tempfile.TemporaryDirectory(prefix="simai-rules-bench-") as name:
        ours, bare = prepare(Path(name), points)
        start = time.perf_counter()
        profile = str(shipped("profiles") / "default")
        result = compare(lambda _: dry_run(ours, "--profile", profile), lambda _: dry_run(bare, "--cores", "8"), ROUNDS)
        wall = time.perf_counter() - start
    table = Table((f"{'wall time of snakemake -n':<25}", "ours", "bare", "ours/bare", "target"))
    ratio = 1 / result.ratio
    cells = (f"{points} points", f"{result.ours_s:.1f} s", f"{result.raw_s:.1f} s", f"{ratio:.2f}")
    table.add(*cells, target=f"<= {TARGET}", met=ratio <= TARGET)
    print(f"({2 * (ROUNDS + 2)} runs in {wall:.0f} s)")
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
