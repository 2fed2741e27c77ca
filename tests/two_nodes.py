"""`simai-rules serve` for a point on two nodes, which are two names of this machine, without its components."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil

from simai_rules.config.experiment import Point
from simai_rules.config.system import SystemConfig
from simai_rules.files import write_json
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo

HOSTS = (platform.node(), "localhost")


class ServeOnTwo:
    """A running `simai-rules serve` and the keeper on its second node; `launcher` and `keys` are those of a config."""

    def __init__(self, traces, folder: Path, config: dict, hosts=HOSTS, launcher=None, environment=None, **keys):
        self.folder, self.file, self.log, self.traces = folder, folder / "server.json", folder / "serve.log", traces
        folder.mkdir(exist_ok=True)
        (folder / "hosts").write_text("".join(f"{host}\n" for host in hosts))
        point = Point(
            experiment="test", path="x", axes={}, repeat=0, elements=8, nodes=len(hosts),
            backend=config["type"], server=config, **keys,
            system=SystemConfig(hostfile=str(folder / "hosts"), oversubscribe=True, launcher=launcher or {}),
        )  # fmt: skip
        write_json(folder / "point.json", point.model_dump(mode="json", by_alias=True))
        command = [sys.executable, "-m", "simai_rules.cli", "serve", "--output", str(self.file)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--point", str(folder / "point.json")],
                env=traces.environment | (environment or {}), cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_for(self, *states: str, seconds: float = 40) -> ServerInfo:
        deadline = time.monotonic() + seconds
        info = None
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                info = ServerInfo.read(self.file)
                if info.state in states and info.pid == self.process.pid:
                    return info
            time.sleep(0.02)
        raise AssertionError(f"not {states}: {info} {self.log.read_text()}")

    def process_of(self, *words: str) -> psutil.Process:
        """The process of this test with all `words` in its command line that is a Python, or else what it may be."""
        for pid, command in self.traces.commands().items():
            line = " ".join(command)
            if all(word in line for word in words) and ("mpiexec" in words or "mpiexec" not in line):
                return psutil.Process(pid)
        raise AssertionError(f"no {words}: {self.traces.processes()}")

    def reasons(self) -> dict[str, str]:
        found = [json.loads(file.read_text()) for file in (self.folder / "failures").glob("*.json")]
        return {entry["component"]: entry["reason"] for entry in found}

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def client_on(node: str, info: ServerInfo):
    """A client as it would be on `node`."""
    before = os.environ.get("SIMAI_NODE")
    os.environ["SIMAI_NODE"] = node
    try:
        with DataStore(f"client on {node}", info, timeout=20) as store:
            yield store
    finally:
        os.environ.pop("SIMAI_NODE")
        if before is not None:
            os.environ["SIMAI_NODE"] = before
