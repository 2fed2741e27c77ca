"""HDF5 files as the kernels of input and output use them: made, written, read, and brought to the disk."""

import os
import secrets
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import MissingProgram, UserError
from simai_rules.kernels.base import HostArray, Setup

_DATASET = "data"


def check_hdf5(config: KernelConfig, *, parallel: bool) -> None:
    """Raise MissingProgram without h5py, or MPI in it if `parallel`; UserError where the folder is not there."""
    name, above = config.name, _above(config)
    try:
        import h5py
    except ImportError as error:
        raise MissingProgram(
            f"kernel {name}: h5py cannot be loaded ({error}). pip install 'simai-rules[hdf5]', or load the module of "
            "your system."
        ) from error
    if parallel and not h5py.get_config().mpi:
        raise MissingProgram(
            f"kernel {name}: h5py {h5py.__version__} was built without MPI, and no wheel has it. `make parallel-hdf5` "
            "builds one that has; on a cluster load the module of its parallel h5py."
        )
    if not above.is_dir():
        raise UserError(
            f"kernel {name}: folder {above} is not there. Make it, on the file system that is to be measured; on each "
            "node if it is local to nodes."
        )


def _above(config: KernelConfig) -> Path:
    return Path(str(config.folder)).absolute()


class Hdf5:
    """One HDF5 file in a folder of its own below the config's `folder`; removed by `close` or at the process's end.

    With `parallel`, all ranks share the file, and making it, `write` and `read` are collective calls. Else it is this
    rank's own.

    Raises UserError where the folder cannot be written.
    """

    def __init__(self, setup: Setup, *, parallel: bool) -> None:
        import h5py

        self._config, self._h5py = setup.config, h5py
        self._comm = _comm(setup) if parallel else None
        folder = _folder(setup, self._comm)
        mine = self._comm is None or setup.rank == 0
        self.close: Callable[[], object] = (
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True) if mine else lambda: None
        )
        self.path = folder / ("shared.h5" if parallel else f"rank{setup.rank}.h5")
        layout = {"chunks": tuple(setup.config.chunks) if setup.config.chunks else None}
        self._layout = layout | {"compression": setup.config.compression}

    def write(self, values: HostArray, part: slice | None = None) -> None:
        """Make the file anew with `values` (of shape `config.data_size`), or with this rank's `part` of its rows."""
        with self._explained("written"):
            self._write(values, part)
            if self._config.fsync or self._config.drop_cache:
                self._settle(sync=True)

    def _write(self, values: HostArray, part: slice | None) -> None:
        with self._open("w") as file:
            data = file.create_dataset(_DATASET, self._config.data_size, values.dtype, **self._layout)
            with self._transfer(data):
                data[part or ...] = values

    def read(self, values: HostArray, part: slice | None = None) -> None:
        """Read the whole file, or this rank's `part` of its rows, into `values`."""
        with self._explained("read"):
            if self._config.drop_cache:
                self._settle(sync=False)
            self._read(values, part)

    def _read(self, values: HostArray, part: slice | None) -> None:
        with self._open("r") as file:
            data = file[_DATASET]
            with self._transfer(data):
                data.read_direct(values, part)

    def _open(self, mode: str) -> Any:
        parallel = {"driver": "mpio", "comm": self._comm} if self._comm is not None else {}
        return self._h5py.File(self.path, mode, **parallel)

    def _transfer(self, data: Any) -> Any:
        return data.collective if self._config.collective else nullcontext()

    def _settle(self, *, sync: bool) -> None:
        """Wait until the file is on the disk if `sync`; drop its pages, of which dirty ones cannot be, if asked for."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if sync:
                os.fsync(descriptor)
            if self._config.drop_cache:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        if sync:  # the file's entry in its folder too: without it, a new file is lost with all its data
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Turn an error of the file system into a message, and remove the files: with them, nothing more can be done.

        HDF5 notices some errors when it closes a file, and then h5py's error is a RuntimeError.
        """
        try:
            yield
        except (OSError, RuntimeError) as error:
            self.close()
            raise UserError(
                f"kernel {self._config.name}: {self.path} cannot be {done} ({' '.join(str(error).split())[:200]}). "
                "Check the space, the quota and the permissions of its folder, and whether its file system has locks "
                "(HDF5_USE_FILE_LOCKING=FALSE does without)."
            ) from error


def _comm(setup: Setup) -> Any:
    if setup.comm is not None:
        return setup.comm
    from mpi4py import MPI

    return MPI.COMM_SELF


def _folder(setup: Setup, comm: Any | None) -> Path:
    """Make a folder for the files of this rank, or one for all of `comm`; all of them raise what its maker raises."""
    folder, reason = "", ""
    if comm is None or comm.Get_rank() == 0:
        try:
            folder = str(_make(setup))
        except UserError as error:
            reason = str(error)
    if comm is not None:
        folder, reason = comm.bcast((folder, reason))
    if reason:
        raise UserError(reason)
    return Path(folder)


def _make(setup: Setup) -> Path:
    above = _above(setup.config)
    path = above / f"simai-kernel-{secrets.token_hex(8)}"
    if setup.claim is not None:
        setup.claim(path)
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(
            f"kernel {setup.config.name}: no folder can be made in {above} ({error.strerror}). Check its permissions "
            "and space."
        ) from error
    return path
