"""What doctor says of this machine, and of machines that lack something or whose parts do not fit together."""

import os
import re
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


SHARED = finding.Finding("/dev/shm", "ok", "enough")


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
    found = by_thing(programs._mpi(SHARED))
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
    found = by_thing(programs._mpi(SHARED))["mpi4py"]
    assert found.state == "wrong"
    assert "find themselves alone" in found.seen
    assert "--no-binary=mpi4py" in found.remedy


def test_an_mpiexec_that_fails(monkeypatch, tmp_path):
    launcher(monkeypatch, tmp_path, "echo no network >&2; exit 3")
    found = by_thing(programs._mpi(SHARED))["mpi4py"]
    assert found.state == "wrong"
    assert found.seen.endswith("2 ranks of this mpiexec cannot be started: no network")
    assert "--no-binary=mpi4py" in found.remedy
    (tmp_path / "mpicc").touch()
    assert by_thing(programs._mpi(SHARED))["mpi4py"].remedy.startswith(f"MPICC={tmp_path / 'mpicc'} ")
    little = finding.Finding("/dev/shm", "wrong", "0 MiB", "make room")
    found = by_thing(programs._mpi(little))["mpi4py"]
    assert found.remedy == "make room"
    assert "for want of /dev/shm" in found.seen


def test_no_mpiexec(monkeypatch):
    def none(config):
        raise MissingProgram("No 'mpiexec' here.\nMore.")

    monkeypatch.setattr(programs, "find_launcher", none)
    monkeypatch.setattr(programs, "find_program", lambda name: None)
    found = by_thing(programs._mpi(SHARED))["mpiexec"]
    assert found.state == "wrong"
    assert found.seen.startswith("none beside Python or on the PATH")
    assert "pip install 'simai-rules[mpi]'" in found.remedy
    monkeypatch.setattr(programs, "find_program", lambda name: Path("/usr/bin/srun"))
    assert "launcher.command: srun" in by_thing(programs._mpi(SHARED))["mpiexec"].seen


@pytest.mark.parametrize(
    ("said", "state", "seen"),
    [
        ((0, "1.14.6 True"), "ok", "HDF5 1.14.6 with MPI"),
        ((0, "1.14.6 False"), "missing", "HDF5 1.14.6 without MPI"),
        ((1, "ModuleNotFoundError: No module named 'h5py'"), "missing", "no h5py"),
        ((1, "ImportError: libhdf5.so.310"), "wrong", "h5py cannot be loaded: ImportError: libhdf5.so.310"),
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
    program.write_text("#!/bin/sh\necho no libslurm >&2; exit 1\n")
    [found] = programs._schedulers()
    assert (found.state, found.seen) == ("missing", "sbatch is here and cannot be run: no libslurm")
    monkeypatch.setattr(programs, "find_program", lambda name: None)
    [found] = programs._schedulers()
    assert found.state == "missing"


def test_too_little_shared_memory(monkeypatch, tmp_path):
    size = os.statvfs("/dev/shm")
    if size.f_blocks == 0:
        pytest.skip("/dev/shm is empty")
    monkeypatch.setattr(programs, "_LEAST_SHM", 2**60)
    found = programs._memory()
    assert (found.state, found.remedy) == ("wrong", "mount -o remount,size=8G /dev/shm")
    usage = type("Usage", (), {"total": 2**34, "free": 2**20, "used": 2**34})
    monkeypatch.setattr(programs, "_LEAST_SHM", 2**30)
    monkeypatch.setattr(programs.shutil, "disk_usage", lambda folder: usage)
    found = programs._memory()
    assert (found.state, found.remedy) == ("wrong", "simai-rules clean")


def test_no_shared_memory(monkeypatch):
    monkeypatch.setattr(programs, "_MEMORY", Path("/no/such/folder"))
    found = programs._memory()
    assert (found.state, found.thing) == ("wrong", "/no/such/folder")


def test_a_folder_that_is_gone(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert programs._folder().state == "wrong"


@pytest.mark.parametrize(("script", "seen"), [("exit 3", "cannot be run"), ("kill -BUS $$", "SIGBUS")])
def test_a_redis_server_that_cannot_be_run(monkeypatch, tmp_path, script, seen):
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(program))
    found = programs._redis()
    assert (found.state, found.remedy) == ("wrong", "unset REDIS_SERVER")
    assert seen in found.seen
    monkeypatch.setenv("REDIS_SERVER", "/no/such/program")
    assert programs._redis().remedy == "unset REDIS_SERVER"


def test_a_folder_of_a_packages_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "nopackage").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not programs._importable("nopackage")
    assert programs._importable("json")


def test_commands_are_for_the_environment_of_this_python(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert finding.pip("install x") == f"{sys.executable} -m pip install x"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "pip").touch(mode=0o755)
    assert finding.pip("install x") == "pip install x"
    monkeypatch.setattr(finding, "find_spec", lambda name: None)
    (tmp_path / "uv").touch(mode=0o755)
    assert finding.pip("install x") == f"uv pip install x --python {tmp_path / 'python'}"


@pytest.mark.parametrize(
    ("driver", "package"),
    [((0, "580.65.06"), "cupy-cuda13x[ctk]"), ((0, "535.54.03\n535.54.03"), "cupy-cuda12x[ctk]"),
     ((127, "No such file"), "cupy-cuda12x[ctk]")],
)  # fmt: skip
def test_the_cupy_for_a_driver(monkeypatch, driver, package):
    monkeypatch.setattr(devices, "answer", lambda *_: driver)
    assert devices._package("NVIDIA") == package


def test_a_torch_for_cpus_where_there_are_gpus(monkeypatch):
    monkeypatch.setattr(devices, "_installed", lambda package: True)
    monkeypatch.setattr(devices, "answer", lambda *_: (0, "torch 2.9+cpu: the CPU alone"))
    found = devices._torch({"Intel": "6 render nodes"})
    assert found.state == "wrong"
    # pip leaves alone what is installed.
    assert re.search(r"pip uninstall -y torch && .*pip install torch --index-url \S+/whl/xpu$", found.remedy)
    monkeypatch.setattr(devices, "answer", lambda *_: (0, "torch 2.9: the CPU alone, though built for CUDA 13.0"))
    assert "older than that CUDA" in devices._torch({"NVIDIA": "A100"}).seen
    monkeypatch.setattr(devices, "answer", lambda *_: (0, "torch 2.9+cpu: the CPU alone"))
    assert devices._torch({}).state == "ok"


def test_no_torch(monkeypatch):
    monkeypatch.setattr(devices, "_installed", lambda package: False)
    found = devices._torch({})
    assert found.state == "wrong"  # every run has a training
    assert "pip install 'simai-rules[torch]'" in found.remedy
    assert "whl/rocm" in devices._torch({"AMD": "/dev/kfd"}).remedy


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
    assert answer(["sh", "-c", "kill -SEGV $$"])[1] == "ended by SIGSEGV"
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
