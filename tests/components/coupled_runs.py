"""Starting the ranks of components by mpiexec, coupled over a filesystem backend, as `simai-rules run` does."""

import json
import os
import subprocess
import sys
from pathlib import Path

from simai_rules.config.experiment import Point
from simai_rules.files import write_json
from simai_rules.launch.launcher import find_program
from simai_rules.staging.info import ServerInfo

RANKS = 2


class CoupledRun:
    """One run in `folder`: its files, and the processes of its components."""

    def __init__(self, folder: Path, **settings) -> None:
        self.folder = folder
        self.run_folder = folder / "run"
        self.data = folder / "data"
        for path in (self.data, self.run_folder / "failures", self.run_folder / "segments"):
            path.mkdir(parents=True)
        self.info = ServerInfo(
            backend="filesystem",
            run_id="t",
            state="ready",
            address={"folder": str(self.data)},
            run_folder=str(self.run_folder),
        )
        write_json(folder / "server.json", self.info.as_dict())
        self.point = point(**settings)
        write_json(folder / "point.json", self.point.model_dump(mode="json", by_alias=True))

    def start(self, component: str, *, ranks: int = RANKS, **environment: str) -> subprocess.Popen:
        """Start the ranks of `component`."""
        command = [sys.executable, "-m", "simai_rules.components.entry", component]
        command += ["--point", str(self.folder / "point.json"), "--server", str(self.folder / "server.json")]
        command += ["--output", str(self.folder / f"{component}.parquet")]
        return start_ranks(command, ranks, **environment)

    def failures(self) -> dict[str, dict]:
        """Return the failures that were written down, by component."""
        return {file.stem: json.loads(file.read_text()) for file in (self.run_folder / "failures").iterdir()}


def point(**settings) -> Point:
    """Return a small point of two and two ranks, with `settings` instead of its own."""
    cores = {"ranks_per_node": RANKS}
    simulation = {"kernels": [{"name": "MatMulSimple2D", "run_time": 0.004, "data_size": [32, 32]}], "write_every": 5}
    training = {"iterations": 40, "run_time": 0.03, "read_every": 4, "model": {"features": 7, "learning_rate": 0.003}}
    content = {
        "experiment": "test",
        "path": "backend~filesystem/repeat~0",
        "axes": {},
        "repeat": 0,
        "elements": 20_003,
        "server": {"type": "filesystem"},
        "system": {},
        "staging": {"timeout": 150.0},
        **settings,
        "simulation": simulation | cores | settings.get("simulation", {}),
        "training": training | cores | settings.get("training", {}),
    }
    return Point.model_validate(content)


def core_lists(ranks: int) -> list[list[int]]:
    """Return a core for each rank, in turn."""
    cores = sorted(os.sched_getaffinity(0))
    return [[cores[rank % len(cores)]] for rank in range(ranks)]


def start_ranks(command: list[str], ranks: int, **environment: str) -> subprocess.Popen:
    """Start `command` on `ranks` ranks with the launcher's environment."""
    launcher = find_program("mpiexec")
    assert launcher is not None, "the tests need mpiexec: pip install 'simai-rules[mpi]'"
    settings = {
        "SIMAI_SIZE": str(ranks),
        "SIMAI_CORES": json.dumps(core_lists(ranks)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "FI_TCP_IFACE": "lo",
    }
    return subprocess.Popen(
        [str(launcher), "-n", str(ranks), sys.executable, "-m", "simai_rules.launch.rank", *command],
        env=os.environ | settings | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def remove_shared_memory(run_folder: Path) -> list[str]:
    """Remove what killed ranks of a run have left of MPI's shared memory, as the run's guardian does; return it."""
    noted = {line for file in (run_folder / "segments").iterdir() for line in file.read_text().splitlines()}
    for line in noted:
        Path(line).unlink(missing_ok=True)
    return sorted(noted)


def finish(*processes: subprocess.Popen, seconds: float = 200) -> list[tuple[int, str]]:
    """Wait for the end of `processes`; return the exit code and the output of each."""
    ended = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=seconds)
            ended.append((process.returncode, output + errors))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return ended
