"""The ranks of a component: which one this process is, the node it is on, and its MPI communicator."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simai_rules.errors import MissingProgram, UserError
from simai_rules.launch.rank import asked, raise_if_misplaced, rank_of

_RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""One of them is set by every launcher whose ranks MPI can join into one world."""


@dataclass(frozen=True)
class Ranks:
    """One rank among those of its component."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of this rank among those of its node."""
    host: str = field(default_factory=lambda: os.environ.get("SIMAI_NODE") or platform.node())
    """The name of this rank's node in the allocation; it need not be the machine's host name."""
    comm: Any | None = None
    """MPI.COMM_WORLD of mpi4py, or None for a process that no MPI launcher has started."""
    cores: tuple[int, ...] = ()
    """Cores that this rank was placed on; none if it was not placed."""

    @classmethod
    def from_environment(cls) -> Ranks:
        """Join the other ranks, as the launcher's environment says.

        MPI is loaded only in a process that an MPI launcher has started, or where SIMAI_SIZE is more than 1. The
        wrapper `simai_rules.launch.rank` has bound this process and named its node before.

        Raises UserError where the number of ranks is not SIMAI_SIZE, or the wrapper could not do it.
        """
        raise_if_misplaced(os.environ)
        expected = int(os.environ.get("SIMAI_SIZE", "0"))
        if not _launched():
            return cls(cores=tuple(asked(os.environ).get("cores", ())))
        told = os.environ.get("SIMAI_LOCAL_RANK")
        local_rank = int(told) if told else rank_of(os.environ)[1] or 0
        comm = _world()
        if expected and comm.Get_size() != expected:
            raise UserError(_wrong_size(expected, comm.Get_size()))
        cores = tuple(asked(os.environ).get("cores", ()))
        return cls(comm.Get_rank(), comm.Get_size(), local_rank, comm=comm, cores=cores)

    def finalize(self) -> None:
        """Leave MPI in order; without it the launcher may report a failure, and shared memory stays behind."""
        if self.comm is not None:
            from mpi4py import MPI

            if not MPI.Is_finalized():
                MPI.Finalize()


_mapped_by_mpi: set[str] = set()


def note_shared_memory(run_folder: Path) -> None:
    """Write down what MPI leaves when ranks are killed, in `run_folder`/segments/<pid>, one path per line.

    That is the shared memory which MPI's initialization has mapped in this process, and the file in which Hydra's
    helper, the parent of this process, describes the node to it. Whoever removes the run's things finds them here.
    """
    if not run_folder.is_dir():  # the run has ended, and its guardian has cleaned up
        return
    folder = run_folder / "segments"
    folder.mkdir(exist_ok=True)
    with (folder / str(os.getpid())).open("a") as file:
        file.writelines(f"{path}\n" for path in sorted(_mapped_by_mpi | _hydra_files()))


def _mapped() -> set[str]:
    """Return the files of shared memory that this process has mapped, whoever has made them."""
    return {
        line[line.index("/dev/shm/") :]  # noqa: S108 - where MPI has its own, among others
        for line in Path("/proc/self/maps").read_text().splitlines()
        if " /dev/shm/" in line and not line.endswith("(deleted)")
    }


def _hydra_files() -> set[str]:
    """Return the topology files that the parent process has open."""
    found = set()
    with suppress(OSError):  # the parent has ended, or is another user's
        for link in Path(f"/proc/{os.getppid()}/fd").iterdir():
            with suppress(OSError):
                target = str(link.readlink())
                if target.startswith("/tmp/hydra_hwloc_xmlfile_"):  # noqa: S108 - where Hydra puts it
                    found.add(target)
    return found


def end_all_ranks(run_folder: Path | None) -> None:
    """End all ranks of the component at once with exit code 1; does nothing in a process that no launcher has started.

    A rank that only ended itself would leave the others waiting for it: in MPI's initialization, which is why even a
    rank that has not come so far joins MPI here, or anywhere later. What shared memory it has then is written down.
    """
    if not _launched():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(MissingProgram):  # then no rank can have joined
        world = _world()
        if run_folder is not None:
            note_shared_memory(run_folder)
        world.Abort(1)


def _launched() -> bool:
    """Whether this process is a rank among others, as far as the environment says."""
    return int(os.environ.get("SIMAI_SIZE", "0")) > 1 or any(name in os.environ for name in _RANK_VARIABLES)


def _world() -> Any:
    """Return MPI.COMM_WORLD; the first call initializes MPI."""
    before = _mapped()
    try:
        from mpi4py import MPI

        _mapped_by_mpi.update(_mapped() - before)  # the others are somebody else's
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI library
        raise MissingProgram(
            f"mpi4py cannot be loaded ({error}), but this process was started as one of several ranks. On a machine of "
            "your own: pip install 'simai-rules[mpi]'. On a cluster load the modules of its MPI and its mpi4py."
        ) from error
    return MPI.COMM_WORLD


def _wrong_size(expected: int, size: int) -> str:
    from mpi4py import MPI

    library = MPI.Get_library_version().strip("\x00\n ").splitlines()[0]
    return (
        f"{expected} ranks were started, but MPI knows of {size}: the launcher and mpi4py belong to different MPI "
        f"libraries. mpi4py uses '{library}' ({sys.executable}). Use that library's mpiexec (launcher.command in "
        "system.yaml), or install mpi4py for the MPI of your launcher: pip install --no-binary=mpi4py "
        "--force-reinstall mpi4py"
    )
