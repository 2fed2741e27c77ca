"""A workflow of coupled points, each of a service and a client on two nodes, run by Snakemake on a cluster."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

# Marker files decide what a client does: fail-first lets the very first fail, hang lets all wait until it is removed,
# and hang-later those after the first of their job that has ended.
_SNAKEFILE = r"""\
rule all:
    input:
        expand("out/{p}", p=range(int(config["points"]))),

rule server:
    output:
        service("run/{p}.server"),
    group: "point"
    threads: 1
    resources:
        nodes=2, points=1, runtime=3,
    shell:
        "echo start {wildcards.p} $SLURM_JOB_ID >>times; touch {output}; exec sleep 300"

rule client:
    input:
        "run/{p}.server",
    output:
        "out/{p}",
    group: "point"
    threads: 1
    resources:
        nodes=0, points=0, runtime=3,
    shell:
        'if [ -e fail-first ] && [ "$(head -n 1 times)" = "start {wildcards.p} $SLURM_JOB_ID" ]; '
        "then echo fail {wildcards.p} $SLURM_JOB_ID >>times; exit 1; fi; "
        "while [ -e hang ]; do sleep 0.1; done; "
        "while [ -e hang-later ] && grep -q \"^end . $SLURM_JOB_ID\" times; do sleep 0.1; done; "
        "srun --overlap --ntasks-per-node=1 sh -c 'echo $SLURMD_NODENAME' >{output}.part; "
        "mv {output}.part {output}; echo end {wildcards.p} $SLURM_JOB_ID >>times"
"""


class Workflow:
    """The folder of the workflow, and calls of Snakemake in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "Snakefile").write_text(_SNAKEFILE)
        self._running: list[subprocess.Popen] = []

    def start(self, *, points: int, packed: int = 1) -> subprocess.Popen:
        """Start snakemake for `points` points, `packed` of them in one submission."""
        process = subprocess.Popen(
            [
                sys.executable, "-m", "snakemake", "--executor", "simai-slurm", "--jobs", "10",
                "--simai-slurm-poll-seconds", "0.3", "--simai-slurm-partition", "debug",
                "--group-components", f"point={packed}", "--resources", "nodes=2", "points=1",
                "--set-resource-scopes", "nodes=local", "points=local", "--keep-going", "--rerun-incomplete",
                "--nolock", "--config", f"points={points}",
            ],
            cwd=self.folder, env=os.environ | {"HOME": str(self.folder.parent)}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._running.append(process)
        return process

    def run(self, **how: int) -> tuple[int, str]:
        """Run snakemake to its end; return its exit code and what it printed."""
        return self.end_of(self.start(**how))

    @staticmethod
    def end_of(process: subprocess.Popen) -> tuple[int, str]:
        output, _ = process.communicate(timeout=100)
        return process.returncode, output

    def times(self, word: str) -> list[str]:
        """The points that have started or ended, in their order."""
        return re.findall(rf"^{word} (\w+)", self._times(), re.MULTILINE)

    def jobs(self) -> list[str]:
        """The ids of the jobs that have started points."""
        return list(dict.fromkeys(re.findall(r"\d+$", self._times(), re.MULTILINE)))

    def _times(self) -> str:
        file = self.folder / "times"
        return file.read_text() if file.exists() else ""

    def results(self) -> dict[str, list[str]]:
        """The points that have results, with the nodes that each ran on."""
        return {file.name: sorted(file.read_text().split()) for file in self.folder.glob("out/*") if not file.suffix}

    def overlapping(self) -> list[str]:
        """The points that started after another one of the same job that had not ended or failed by then."""
        found, running = [], {}
        for word, point, job in re.findall(r"^(\w+) (\w+) (\d+)$", self._times(), re.MULTILINE):
            if word == "start" and job in running:
                found.append(point)
            if word == "start":
                running[job] = point
            else:
                running.pop(job)
        return found

    def wait_quiet(self, seconds: float = 20) -> None:
        """Wait until no process works in the folder any more."""
        deadline = time.monotonic() + seconds
        while at_work := [process.pid for process in psutil.process_iter() if self._is_here(process)]:
            assert time.monotonic() < deadline, f"still at work after {seconds} s: {at_work}"
            time.sleep(0.2)

    def _is_here(self, process: psutil.Process) -> bool:
        try:
            return Path(process.cwd()).is_relative_to(self.folder)
        except psutil.Error:
            return False

    def wait_for(self, process: subprocess.Popen, text: str) -> None:
        """Read what a call prints up to a line with `text`."""
        for line in process.stdout:
            if text in line:
                return
        raise AssertionError(f"snakemake ended without saying {text!r}")

    def mark(self, *names: str) -> None:
        """Make marker files."""
        for name in names:
            (self.folder / name).touch()

    def unmark(self, *names: str) -> None:
        """Remove marker files."""
        for name in names:
            (self.folder / name).unlink()

    def wait_started(self, points: int, seconds: float = 40) -> None:
        """Wait until this many points have started."""
        deadline = time.monotonic() + seconds
        while len(self.times("start")) < points:
            assert time.monotonic() < deadline, f"not {points} points within {seconds} s: {self._times()}"
            time.sleep(0.1)

    def close(self) -> None:
        """End what a failed test has left."""
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
