"""What doctor says of this machine, and of machines that lack something or whose parts do not fit together."""

import os
import sys
import time
from pathlib import Path

import pytest

from simai_rules.cli import main
from simai_rules.doctor import devices, finding, programs
from simai_rules.doctor.finding import answer, first_line
from simai_rules.errors import MissingProgram
from simai_rules.launch.launcher import Launcher, find_program
from simai_rules.process import Process

THINGS = {"CPU", "GPU", "torch", "mpiexec", "mpi4py", "parallel HDF5", "redis-server", "/dev/shm", "this folder"}


def by_thing(findings):
    return {found.thing: found for found in findings}


def test_everything_is_looked_at_and_what_is_missing_has_a_command():
    found = by_thing([*devices.look(), *programs.look()])
    assert set(found) >= THINGS
    assert found["CPU"].state == found["this folder"].state == "ok"
    assert f"{len(os.sched_getaffinity(0))} of" in found["CPU"].seen
    for thing in ("torch", "mpiexec", "mpi4py", "parallel HDF5", "redis-server"):
        assert found[thing].state == "ok" or found[thing].remedy


@pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
def test_ranks_of_this_machines_mpiexec_see_each_other():
    found = by_thing(programs._mpi())
    assert found["mpi4py"].state == "ok", found
    assert "2 ranks of this mpiexec see each other" in found["mpi4py"].seen


def launcher(monkeypatch, tmp_path, script):
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(programs, "find_launcher", lambda config: Launcher(program, "hydra"))


def test_an_mpiexec_of_another_mpi(monkeypatch, tmp_path):
    # It starts the program twice, as another MPI's would, and each finds itself alone.
    launcher(monkeypatch, tmp_path, 'shift 2; env -u PMI_RANK "$@"; env -u PMI_RANK "$@"')
    found = by_thing(programs._mpi())["mpi4py"]
    assert found.state == "wrong"
    assert "find themselves alone" in found.seen
    assert "--no-binary=mpi4py" in found.remedy


def test_an_mpiexec_that_fails(monkeypatch, tmp_path):
    launcher(monkeypatch, tmp_path, "echo no network >&2; exit 3")
    found = by_thing(programs._mpi())["mpi4py"]
    assert (found.state, found.seen) == ("wrong", "2 ranks cannot be started: no network")


def test_no_mpiexec(monkeypatch):
    def none(config):
        raise MissingProgram("No 'mpiexec' here.\nMore.")

    monkeypatch.setattr(programs, "find_launcher", none)
    found = by_thing(programs._mpi())["mpiexec"]
    assert (found.state, found.seen, found.remedy) == (
        "wrong", "No 'mpiexec' here.", "pip install 'simai-rules[mpi]'",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "state", "seen"),
    [
        ((0, "1.14.6 True"), "ok", "HDF5 1.14.6 with MPI"),
        ((0, "1.14.6 False"), "missing", "HDF5 1.14.6 without MPI"),
        ((1, "ModuleNotFoundError"), "missing", "no h5py"),
    ],
)
def test_parallel_hdf5(monkeypatch, said, state, seen):
    monkeypatch.setattr(programs, "answer", lambda *_: said)
    found = programs._hdf5()
    assert found.state == state
    assert seen in found.seen


def test_schedulers(monkeypatch, tmp_path):
    program = tmp_path / "sbatch"
    program.write_text("#!/bin/sh\necho slurm 24.11.5\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "find_program", lambda name: program if name == "sbatch" else None)
    [found] = programs._schedulers()
    assert (found.thing, found.seen) == ("Slurm", "slurm 24.11.5")
    monkeypatch.setattr(programs, "find_program", lambda name: None)
    [found] = programs._schedulers()
    assert found.state == "missing"


def test_too_little_shared_memory(monkeypatch):
    monkeypatch.setattr(programs, "_LEAST_SHM", 2**60)
    found = by_thing(programs._rooms())["/dev/shm"]
    assert (found.state, found.remedy) == ("wrong", "simai-rules clean")
    monkeypatch.setattr(programs, "_MEMORY", Path("/no/such/folder"))
    assert by_thing(programs._rooms())["/no/such/folder"].state == "missing"


def test_a_torch_for_cpus_where_there_are_gpus(monkeypatch):
    monkeypatch.setattr(devices, "_installed", lambda package: True)
    monkeypatch.setattr(devices, "answer", lambda *_: (0, "torch 2.9+cpu: the CPU alone"))
    found = devices._torch({"Intel": "6 render nodes"})
    assert found.state == "wrong"
    assert "whl/xpu" in found.remedy
    assert devices._torch({}).state == "ok"


def test_a_program_that_does_not_answer_is_ended_with_all_that_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(finding, "_PATIENCE_S", 0.5)
    script = f"sleep 600 & echo $! > {tmp_path / 'pid'}; wait"
    assert answer(["sh", "-c", script]) == (124, "no answer within 0 s")
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while Process.of(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert Process.of(child) is None


def test_answers():
    assert answer([sys.executable, "-c", "print('a\\n b')"]) == (0, "a\n b")
    assert answer(["/no/such/program"])[0] == 127
    assert answer(["sh", "-c", "echo wrong >&2; exit 4"]) == (4, "wrong")
    assert first_line("\n  a   b \nc") == "a b"


def test_the_exit_code_says_whether_a_run_would_fail(monkeypatch, capsys):
    def look(state):
        return lambda: iter([finding.Finding("thing", state, "seen", "mend it")])

    monkeypatch.setattr(devices, "look", look("missing"))
    monkeypatch.setattr(programs, "look", look("ok"))
    assert main(["doctor"]) == 0
    monkeypatch.setattr(programs, "look", look("wrong"))
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "WRONG  thing" in output
    assert "-> mend it" in output
