"""The PBS that a test runs on, and a folder that its nodes see."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pbs_under_test import REAL, STANDIN, Pbs, wait_until

from snakemake_executor_plugin_pbs.pbs import PbsScheduler


@pytest.fixture
def workdir(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that the nodes see."""
    if not REAL:
        odd = tmp_path / """it's "my" $HOME, é"""  # nothing may depend on how the folder is called
        odd.mkdir()
        yield odd
        return
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("SIMAI_TEST_PBS_DIR", Path.home()), prefix="simai-pbs-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pbs]:
    folder = tmp_path / "pbs"
    folder.mkdir()
    if REAL:
        if shutil.which("qsub") is None:
            pytest.skip("SIMAI_TEST_PBS=real, and no qsub on the PATH")
    else:
        monkeypatch.setenv("PATH", str(STANDIN), prepend=os.pathsep)
        monkeypatch.setenv("PBS_STANDIN", str(folder))
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache")) if not REAL else None
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    pbs = Pbs(folder, dict(os.environ))
    pbs.tune(kill_delay_s=1.0)
    yield pbs
    pbs.stop_all()
    if not REAL:
        # The processes of the stand-in end with their jobs; deleting what is left here ends those of a failed test.
        state = folder / "state.json"
        left = json.loads(state.read_text())["jobs"] if state.exists() else {}
        alive = [job_id for job_id, job in left.items() if job["job_state"] != "F"]
        if alive:
            subprocess.run(["qdel", *alive], env=pbs.environment, check=False, capture_output=True)
            wait_until(
                lambda: all(j["job_state"] == "F" for j in json.loads(state.read_text())["jobs"].values()), "qdel"
            )


@pytest.fixture
def scheduler(pbs: Pbs) -> PbsScheduler:
    return PbsScheduler(pbs.options())
