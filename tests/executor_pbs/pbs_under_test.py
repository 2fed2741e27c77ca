"""PBS for the tests of this folder: the stand-in beside them, or with SIMAI_TEST_PBS=real the qsub on the PATH.

A real PBS is given its account, queue and file systems by SIMAI_TEST_PBS_ACCOUNT, _QUEUE and _FILESYSTEMS, and a folder
that its nodes see by SIMAI_TEST_PBS_DIR.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_plugin_pbs.pbs import PbsOptions

STANDIN = Path(__file__).parents[1] / "standins" / "pbs"
REAL = os.environ.get("SIMAI_TEST_PBS") == "real"
DEADLINE_S = 300.0 if REAL else 120.0


def wait_until(done: Callable[[], Any], what: str) -> Any:
    """The first true answer; fails the test where it does not come."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if answer := done():
            return answer
        time.sleep(0.05)
    pytest.fail(f"waited {DEADLINE_S:.0f} s for {what}")


@dataclass
class Pbs:
    folder: Path
    environment: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def switch(self, **switches: Any) -> None:
        """Set switches of the stand-in; a real PBS has none."""
        if REAL:
            pytest.skip("a real PBS has no switches: this case is the stand-in's alone")
        path = self.folder / "switches.json"
        now = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(now | switches))

    def tune(self, **switches: Any) -> None:
        """The same, where it only makes the test faster."""
        if not REAL:
            self.switch(**switches)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    def calls_of(self, program: str) -> list[str]:
        return [line for line in self.calls if line.split()[0] == program]

    def submitted(self, workdir: Path) -> list[str]:
        """The ids of the jobs that the plugin wrote down, oldest first."""
        records = sorted((workdir / ".snakemake" / "pbs").glob("*/record.json"))
        return [job_id for path in records if (job_id := json.loads(path.read_text())["job_id"])]

    def options(self) -> PbsOptions:
        value = os.environ.get
        return PbsOptions(
            account=value("SIMAI_TEST_PBS_ACCOUNT", ""),
            queue=value("SIMAI_TEST_PBS_QUEUE", ""),
            filesystems=value("SIMAI_TEST_PBS_FILESYSTEMS", ""),
        )

    def command(self, *arguments: str) -> list[str]:
        options = self.options()
        given = [
            word
            for name in ("account", "queue", "filesystems")
            if (value := getattr(options, name))
            for word in (f"--pbs-{name}", value)
        ]
        poll = [] if "--pbs-poll-seconds" in arguments else ["--pbs-poll-seconds", "5" if REAL else "0.3"]
        lost = [] if "--pbs-polls-until-lost" in arguments else ["--pbs-polls-until-lost", "3"]
        return [
            sys.executable, "-m", "snakemake", "--executor", "pbs", "--jobs", "20", "--cores", "4",
            "--latency-wait", "5", *poll, *lost, *given, *arguments,
        ]  # fmt: skip

    def snakemake(self, workdir: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One call to its end; its output is stdout."""
        process = self.start(workdir, *arguments)
        out = self.output_of(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out)

    def output_of(self, process: "subprocess.Popen[str]") -> str:
        """What it prints until its end; one that does not end is shown with the stacks of its threads."""
        try:
            return process.communicate(timeout=DEADLINE_S * 2)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            pytest.fail(f"does not end:\n{process.communicate()[0]}")

    def walltime_is_over(self, workdir: Path, target: str) -> None:
        """The walltime of the job that makes this target comes now; a real PBS takes its time."""
        self.tune(walltime_now=[self.job_of(workdir, target)])

    def job_of(self, workdir: Path, target: str) -> str:
        """The id of the newest job that makes this target."""
        records = [json.loads(path.read_text()) for path in sorted((workdir / ".snakemake/pbs").glob("*/record.json"))]
        return next(r["job_id"] for r in reversed(records) if target in r["targets"])

    def start(self, workdir: Path, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=workdir,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def stop_all(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
