"""One case of the fault matrix: a small coupled run, a fault, what has to hold then, and the run after it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from experiment import ENDLESS, SMALL, Experiment
from staging_servers import VARIANTS, Variant
from traces import Traces

from simai_rules.process import Process

PROMISE_S = 10.0
PATIENCE = float(os.environ.get("SIMAI_TEST_PATIENCE", "3"))
"""By how much longer than PROMISE_S a case may take here. `make faults` sets 1 and is run on a quiet machine, where the
promise is made; tests that share two cores with others are late by waiting for a core, which is not what is tested."""

# A training that comes to its end soon, for the run after the fault: what counts there is that it is run and completes.
# Without a warm-up, its first snapshot is a result: on a busy machine there may be no second one.
SHORT = {"iterations": 20, "ranks_per_node": 1}


@dataclass(frozen=True)
class Subject:
    """A backend as the matrix sees it; its options and environment are those of the contract suite (VARIANTS)."""

    backend: str
    server: tuple[str, str] = ("", "")
    """Its server process: the program, and a text of its command line; "" where there is none."""
    broken: dict[str, Any] = field(default_factory=dict)
    """Options with which its server cannot start; `{file}` is a file."""
    broken_environment: dict[str, str] = field(default_factory=dict)
    served_by: str = "the file system is the server"
    """What serves where there is no such process."""
    password: str = ""
    """What its clients show to be let in: a key of the address in server.json."""
    port: bool = False
    """Whether `port` is an option."""
    for_large: dict[str, Any] = field(default_factory=dict)
    """Options that it needs for large values."""
    in_files: bool = False
    """Whether `folder` is an option, and what is staged lies there."""
    keeps_names: bool = False
    """Whether the names of its objects, emptied, stay in its store: pydaos cannot remove an object."""
    by_key: bool = True
    """Whether simulation and training exchange values by keys, which another client could write to."""

    @property
    def variant(self) -> Variant:
        """Its options and its environment."""
        return VARIANTS[self.backend]


class Case:
    """The experiment of a backend that something will happen to."""

    def __init__(self, subject: Subject, traces: Traces, folder: Path) -> None:
        self.subject, self.traces = subject, traces
        self.folder = folder
        self.experiment = Experiment(folder, traces.environment, traces.enter)
        self.point = self.experiment.point(subject.backend)
        self.store = folder / "store"
        self.store.mkdir()
        self.info: dict[str, Any] = {}
        self.undo = ExitStack()
        self.snakemake: subprocess.Popen[str] | None = None
        self.started = 0.0
        self.configure({})
        self.at_first = set(self._stored())

    def _stored(self) -> list[str]:
        found = sorted(self.store.rglob("*")) if self.subject.keeps_names else sorted(self.store.iterdir())
        return [str(path.relative_to(self.folder)) for path in found if path.is_file() or not self.subject.keeps_names]

    def configure(self, changes: dict[str, Any]) -> None:
        """Write the config: SMALL with an endless training, this backend, and `changes`, merged key by key."""
        subject = self.subject
        options = {
            name: value.replace("{folder}", str(self.store)) if isinstance(value, str) else value
            for name, value in subject.variant.options.items()
        }
        base = SMALL | {
            "training": ENDLESS,
            # Torch needs its time to load on a busy machine. No fault may be noticed only because this has passed.
            "staging": {"timeout": 60 * PATIENCE, "start_timeout": 60 * PATIENCE},
            "sweep": {"axes": {"backend": [subject.backend], "elements": [1000]}},
            "backends": {subject.backend: options},
        }
        self.experiment.config = merged(base, changes)
        elements = self.experiment.config["sweep"]["axes"]["elements"][0]
        self.point = self.experiment.point(subject.backend, elements)
        self.experiment.save()

    def change(self, **changes: Any) -> None:
        """Change the config of the run that is about to start."""
        self.experiment.config = merged(self.experiment.config, changes)
        self.experiment.save()

    def set_option(self, **options: Any) -> None:
        """Change options of the backend for the run that is about to start."""
        self.change(backends={self.subject.backend: options})

    def set_system(self, **keys: Any) -> None:
        """Use a machine that is described by `keys`."""
        (self.folder / "system.yaml").write_text(yaml.safe_dump({"name": "test", "oversubscribe": True} | keys))
        self.change(system="./system.yaml")

    def start(self, **environment: str) -> None:
        """Start snakemake on the one point."""
        usual = {name: self.experiment.environment[name] for name in ("PATH", "HOME")}
        self.experiment.environment = self.traces.environment | self.subject.variant.environment | usual | environment
        self.started = time.time()
        self.snakemake = self.experiment.start(*self.experiment.events(self.point))

    def wait_for(self, state: str, seconds: float = 60) -> None:
        """Wait until the server says `state`, and remember its server.json."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                self.info = json.loads((self.seen(self.point) / "server.json").read_text())
                if self.info["state"] == state and Process.of(self.info["pid"]):
                    return
            assert self.snakemake.poll() is None, self.snakemake.communicate()[0]
            time.sleep(0.01)
        raise AssertionError(f"the server did not become {state}: {self.info}\n{self.logs()}")

    def wait_until_coupled(self) -> None:
        """Wait until the ranks of both components are at work."""
        self.info = self.experiment.wait_until_coupled(self.seen(self.point), 90)

    def logs(self) -> str:
        """What the jobs of the point have written."""
        return "\n".join(f"{log}: {log.read_text()}" for log in self.seen(self.point).glob("logs/*.log"))

    def pids(self, program: str, text: str = "") -> list[int]:
        """Processes of the run whose first word ends in `program` and whose command line has `text`."""
        return [
            pid
            for pid, command in self.traces.commands().items()
            # redis-server changes its command line into one text with its address.
            if command and Path(command[0].split()[0]).name.startswith(program) and text in " ".join(command)
        ]

    def process(self, program: str, text: str = "") -> psutil.Process:
        """The first such process; it has to be there."""
        found = self.pids(program, text)
        assert found, f"no {program} with {text!r}: {self.traces.processes()}"
        return psutil.Process(found[0])

    def client(self, action: str) -> list[str]:
        """Let another client of the run's server do `action` of fault_client, and return what it printed."""
        readers = map(str, self.pids("python", "components.entry training"))
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("fault_client.py")), action, str(self.point / "server.json"),
             *readers],
            env=self.experiment.environment, cwd=self.folder, preexec_fn=self.traces.enter,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def small_disk(self, at: Path, mib: int) -> Path:
        """Mount a file system of `mib` MiB at `at`, for as long as the fault lasts."""
        at.mkdir(parents=True, exist_ok=True)
        self.traces.room.run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(at))
        self.undo.callback(self.traces.room.run, "umount", str(at))
        return self.traces.room.path(at)

    def reasons(self) -> dict[str, tuple[float, str]]:
        """Why each part of this run ended, and when it said so (seconds of the wall clock)."""
        folder = self.seen(self.point) / "failures"
        found = [json.loads(file.read_text()) for file in folder.glob("[!.]*.json")]
        return {entry["component"]: (entry["time"], entry["reason"]) for entry in found if entry["time"] > self.started}

    def silent(self) -> list[str]:
        """The components that neither came to their end nor have a reason why they did not."""
        said, results = self.reasons(), self.seen(self.point)
        silent = [name for name in ("simulation", "training") if name not in said]
        return [name for name in silent if not (results / f"{name}.parquet").exists()]

    def cause(self) -> str:
        """The earliest reason, or "" where none was noted."""
        return min(self.reasons().values(), default=(0.0, ""))[1]

    def noticed(self) -> float:
        """When the first part said why it ended (seconds of the wall clock), or when snakemake had ended, or 0."""
        ended = time.time() if self.snakemake.poll() is not None else 0.0
        return min((moment for moment, _ in self.reasons().values()), default=ended)

    def seen(self, path: Path) -> Path:
        """A path of the experiment as the run sees it: something may be mounted there."""
        return self.traces.room.path(path) if self.traces.room else path

    def stray_files(self) -> list[str]:
        """Files that the run should have removed from the experiment's folder."""
        known = {
            "config.yaml",
            "Snakefile",
            "results",
            ".snakemake",
            ".cache",
            "system.yaml",
            "hosts",
            "disk",
            "file",
            "store",
        }
        strange = [path.name for path in self.seen(self.folder).iterdir() if path.name not in known]
        halves = [path.name for path in self.seen(self.folder / "results").rglob(".*") if path.name.endswith(".tmp")]
        stored = sorted(set(self._stored()) - self.at_first)
        disk = self.seen(self.folder / "disk")
        there = [f"disk/{path.name}" for path in disk.glob("*") if path.name != "filling"]
        return [f"{name} in {self.folder}" for name in strange + halves + stored + there]

    def left(self) -> list[str]:
        """All that is left of the run, the files in its own folder included."""
        return self.traces.left() + self.stray_files()

    def wait_until_gone(self, seconds: float) -> list[str]:
        """What is still there after `seconds`; returns as soon as there is nothing."""
        deadline = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def finish(self) -> str:
        """Run what is missing, with nothing in the way and a training that ends; return what snakemake printed."""
        self.undo.close()
        config = {"warmup": 0, "training": SHORT, "simulation": {"ranks_per_node": 1, "write_every": 1}}
        sweep = self.experiment.config["sweep"]
        large = sweep["axes"]["elements"][0] > 1_000_000
        options = {self.subject.backend: self.subject.for_large if large else {}}
        self.configure(config | {"sweep": sweep, "backends": options})
        self.start()
        output, _ = self.snakemake.communicate(timeout=200)
        code = self.snakemake.returncode
        assert code == 0, f"the next snakemake failed: {output}\n{self.logs()}"
        assert (self.point / "training.parquet").exists()
        assert (self.point / "simulation.parquet").exists()
        assert not list((self.point / "failures").glob("*"))
        return output


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`; dicts in both are merged."""
    result = json.loads(json.dumps(old))
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` is found in `text`, whose line breaks and runs of blanks count as one blank."""
    return re.search(pattern, " ".join(text.split())) is not None
