"""A small experiment in a folder of its own, run by the real Snakemake."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from simai_rules.process import Process
from simai_rules.resources import shipped

SMALL = {
    "name": "small",
    "seed": 1,
    "repeats": 1,
    "warmup": 1,
    "sweep": {"axes": {"backend": ["filesystem"], "elements": [1000]}},
    "staging": {"timeout": 30, "start_timeout": 30},
    "simulation": {
        "ranks_per_node": 2,
        "kernels": [{"name": "MatMulSimple2D", "data_size": [16, 16], "run_time": 0.01}],
        "write_every": 5,
    },
    "training": {
        "ranks_per_node": 2,
        "iterations": 20,
        "run_time": 0.05,
        "read_every": 2,
        "model": {"hidden": [8], "batch_size": 32},
    },
}
# A training that goes on until it is ended.
ENDLESS = {"iterations": 1_000_000, "run_time": 0.05, "ranks_per_node": 2, "model": {"hidden": [8], "batch_size": 32}}


class Experiment:
    """The folder of an experiment, as `simai-rules init` would make it."""

    def __init__(self, folder: Path, environment: dict[str, str], enter=None, **changes) -> None:
        self.folder, self.enter = folder, enter
        bin_folder = str(Path(sys.executable).parent)
        self.environment = environment | {"PATH": f"{bin_folder}{os.pathsep}{environment['PATH']}", "HOME": str(folder)}
        folder.mkdir(exist_ok=True)
        (folder / "Snakefile").write_text((shipped("Snakefiles") / "one_to_one/Snakefile").read_text())
        self.profile = shipped("profiles") / "local"
        self.config = json.loads(json.dumps(SMALL)) | changes
        self.save()

    def save(self) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))

    @property
    def results(self) -> Path:
        return self.folder / "results/small"

    def point(self, backend="filesystem", elements=1000, repeat=0) -> Path:
        return self.results / f"backend~{backend}/elements~{elements}/nodes~1/repeat~{repeat}"

    def events(self, point: Path) -> list[str]:
        """The files that a point leaves, as targets for snakemake."""
        return [str((point / f"{name}.parquet").relative_to(self.folder)) for name in ("simulation", "training")]

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--profile", str(self.profile), *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=self.enter, **options,
        )  # fmt: skip

    def run(self, *arguments: str, seconds: float = 200) -> tuple[int, str]:
        """Run snakemake to its end; return its exit code and all that it printed."""
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, output

    def wait_until_coupled(self, point: Path, seconds: float = 60) -> dict:
        """Wait until both components of `point` have their ranks at work; return its server.json."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                info = json.loads((point / "server.json").read_text())
                segments = len(list(Path(info["run_folder"], "segments").iterdir()))
                # A run that was killed altogether has left a server.json that still says ready.
                if info["state"] == "ready" and segments >= 4 and Process.of(info["pid"]):
                    time.sleep(1.0)
                    return info
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        logs = "\n".join(f"{log}: {log.read_text()}" for log in point.glob("logs/*.log"))
        raise AssertionError(f"{point} was not running within {seconds} s\n{logs}")
