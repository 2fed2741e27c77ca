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
from simai_rules.doctor.finding import Finding, answer, first_line, last_line, pip
from simai_rules.errors import MissingProgram, UserError
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
_BUILD = "install --no-cache-dir --no-binary=mpi4py --force-reinstall --no-deps mpi4py"
"""Not from pip's cache, where one that was built for another MPI may lie."""
_MEMORY = Path("/dev/shm")  # noqa: S108 - where node-local stages, and MPI's ranks of a node exchange data
_LEAST_SHM = 2**30
_CHECKOUT = Path(__file__).resolve().parents[2]
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
    memory = _memory()
    yield memory
    yield from _mpi(memory)
    yield _hdf5()
    yield _redis()
    yield from _packages()
    yield from _schedulers()
    yield _folder()


def _mpi(memory: Finding) -> Iterator[Finding]:
    """Yield the launcher and whether mpi4py goes with it; `memory` is what was found about shared memory."""
    wheel = pip("install 'simai-rules[mpi]'")
    try:
        launcher = find_launcher(LauncherConfig())
    except MissingProgram:
        seen = "none beside Python or on the PATH; ranks are started by it. On a cluster its MPI module brings it"
        if find_program("srun"):
            seen += "; or launcher.command: srun in system.yaml, which is not tried here, for it may queue a job"
        yield Finding("mpiexec", "wrong", seen, wheel)
        return
    except UserError as error:
        yield Finding("mpiexec", "wrong", first_line(str(error)), wheel)
        return
    yield Finding("mpiexec", "ok", f"{launcher.program} ({launcher.flavour})")
    build = _build(launcher.program)
    code, library = answer([sys.executable, "-c", _LIBRARY])
    if code == 0:
        command = [str(launcher.program), "-n", "2"]
        command += ["--oversubscribe"] if launcher.flavour == "openmpi" else []
        code, text = answer([*command, sys.executable, "-c", _SIZE], dict(os.environ) | _ENVIRONMENT)
        if code == 0 and "size 2" in text:
            yield Finding("mpi4py", "ok", f"{first_line(library)}: 2 ranks of this mpiexec see each other")
            return
        if code == 0:
            seen = f"{first_line(library)}: not the MPI of this mpiexec, whose ranks find themselves alone"
            yield Finding("mpi4py", "wrong", seen, build)
            return
        seen, remedy = f"{first_line(library)}: 2 ranks of this mpiexec cannot be started: {first_line(text)}", build
    else:
        seen, remedy = f"cannot be loaded: {last_line(library)}", wheel
    if memory.state == "wrong":
        seen, remedy = f"{seen} (likely for want of {memory.thing}, see there)", memory.remedy
    yield Finding("mpi4py", "wrong", seen, remedy)


def _build(mpiexec: Path) -> str:
    """Return the command that builds mpi4py for the MPI of `mpiexec`; needs its compiler, as MPI modules bring it."""
    compiler = mpiexec.parent / "mpicc"
    lead = f"MPICC={compiler} " if compiler.exists() else ""
    return f"{lead}{sys.executable} -m pip {_BUILD}"


def _hdf5() -> Finding:
    code, text = answer([sys.executable, "-c", _HDF5])
    if code:
        if "No module named 'h5py'" in text:
            get = pip("install 'simai-rules[hdf5]'")
            return Finding("parallel HDF5", "missing", "no h5py; kernels of input and output need it", get)
        get = f"{pip('uninstall -y h5py')} && {pip('install h5py')}"
        return Finding("parallel HDF5", "wrong", f"h5py cannot be loaded: {last_line(text)}", get)
    version, parallel = text.split()[-2:]
    if parallel == "True":
        return Finding("parallel HDF5", "ok", f"HDF5 {version} with MPI")
    seen = f"h5py has HDF5 {version} without MPI: WriteWithMPI and ReadWithMPI cannot run"
    if Path(sys.prefix) == _CHECKOUT / ".venv":
        return Finding("parallel HDF5", "missing", seen, f"make -C {_CHECKOUT} parallel-hdf5")
    tools = pip("install cython pkgconfig 'setuptools>=77' wheel")
    build = pip("install --no-cache-dir --no-build-isolation --no-deps --force-reinstall --no-binary=h5py h5py")
    seen += ". HDF5_DIR: where the machine's parallel HDF5 lies, and mpicc of its MPI"
    return Finding("parallel HDF5", "missing", seen, f"{tools} && HDF5_MPI=ON CC=mpicc HDF5_DIR=/… {build}")


def _redis() -> Finding:
    from simai_rules.staging.servers.redis_process import find_redis_server

    named = bool(os.environ.get("REDIS_SERVER"))
    get = "unset REDIS_SERVER" if named else pip("install 'simai-rules[redis]'")
    try:
        program = find_redis_server()
    except UserError as error:
        if named:
            return Finding("redis-server", "wrong", first_line(str(error)), get)
        return Finding(
            "redis-server", "missing", "none beside Python, on the PATH or from a wheel; redis needs it", get
        )
    code, text = answer([str(program), "--version"])
    if code:
        return Finding("redis-server", "wrong", f"{program} cannot be run: {last_line(text)}", get)
    return Finding("redis-server", "ok", f"{program}: {first_line(text)}")


def _packages() -> Iterator[Finding]:
    for package, extra in (("dragon", "dragon"), ("adios2", "adios2")):
        if _importable(package):
            yield Finding(package, "ok", "installed, for the backend of that name")
        else:
            seen = "not installed; the backend of that name needs it"
            yield Finding(package, "missing", seen, pip(f"install 'simai-rules[{extra}]'"))
    if _importable("pydaos"):
        yield Finding("pydaos", "ok", "installed, for the backend daos-kv")
    else:
        yield Finding("pydaos", "missing", "no DAOS client; it comes with the machine", "module load daos")


def _importable(package: str) -> bool:
    """Say whether there is such a package; a mere folder of that name, here or in PYTHONPATH, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _schedulers() -> Iterator[Finding]:
    found = False
    for name, (program, command) in _SCHEDULERS.items():
        if find_program(program):
            found = True
            code, text = answer(command)
            if code:
                yield Finding(name, "missing", f"{program} is here and cannot be run: {last_line(text)}")
            else:
                yield Finding(name, "ok", first_line(text) or program)
    if not found:
        yield Finding("scheduler", "missing", "neither PBS (qsub) nor Slurm (sbatch); runs stay on this machine")


def _memory() -> Finding:
    name = str(_MEMORY)
    more = f"mount -o remount,size=8G {name}"
    try:
        usage, text = shutil.disk_usage(_MEMORY), room(_MEMORY)
    except OSError:
        return Finding(
            name, "wrong", "no such folder: MPI and node-local need it", f"mkdir {name} && mount -t tmpfs tmpfs {name}"
        )
    if usage.total < _LEAST_SHM:
        seen = f"{text}: too little for MPI and node-local. As root; a container gets more by --shm-size=8g"
        return Finding(name, "wrong", seen, more)
    if usage.free < _LEAST_SHM:
        seen = f"{text}: too little for MPI and node-local. Of what dead runs have left it is freed"
        return Finding(name, "wrong", seen, "simai-rules clean")
    return Finding(name, "ok", text)


def _folder() -> Finding:
    try:
        return Finding("this folder", "ok", f"{Path.cwd()}: {room(Path.cwd())}")
    except OSError as error:
        return Finding("this folder", "wrong", f"cannot be looked at: {error.strerror or error}", "cd")
