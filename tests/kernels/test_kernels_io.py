"""Files are what was asked for, hold what was written, and go with the kernel; without MPI in h5py it says so."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kernel_making import kernel, on_ranks

from simai_rules.errors import MissingProgram, UserError

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'simai-rules[hdf5]'")
PARALLEL = h5py.get_config().mpi
SERIAL_KERNELS = ("WriteSingleRank", "WriteNonMPI", "ReadNonMPI")


class FakeRank:
    """As much of a communicator as a kernel without MPI looks at."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def Get_rank(self):  # noqa: N802
        return self.rank

    def Get_size(self):  # noqa: N802
        return self.size


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": [5, 3]}, {"compression": "gzip"}, {"chunks": [4, 8], "compression": "lzf", "fsync": True}],
)
def test_a_write_leaves_the_values_in_the_layout_that_was_asked_for(tmp_path, dtype, options):
    made = kernel("WriteNonMPI", (12, 8), dtype, folder=str(tmp_path), **options)
    for _ in range(2):
        made()
    with h5py.File(made.file.path) as file:
        data = file["data"]
        np.testing.assert_array_equal(data[...], made.values)
        assert data.dtype == dtype
        assert data.compression == options.get("compression")
        if "chunks" in options:
            assert list(data.chunks) == options["chunks"]
        elif "compression" not in options:
            assert data.chunks is None
    assert made.nbytes() == made.values.nbytes == 96 * np.dtype(dtype).itemsize
    assert made.flops() == 0


@pytest.mark.parametrize("options", [{}, {"drop_cache": True}, {"chunks": [5, 3], "compression": "gzip"}])
def test_a_read_brings_the_values_back(tmp_path, options):
    made = kernel("ReadNonMPI", (12, 8), "float64", folder=str(tmp_path), **options)
    with h5py.File(made.file.path) as file:
        expected = file["data"][...]
    np.testing.assert_array_equal(made.values, 0)
    made()
    np.testing.assert_array_equal(made.values, expected)
    assert expected.any()


def test_one_rank_writes_and_the_others_do_nothing(tmp_path):
    first = kernel("WriteSingleRank", comm=FakeRank(0, 3), folder=str(tmp_path))
    other = kernel("WriteSingleRank", comm=FakeRank(1, 3), folder=str(tmp_path))
    first()
    other()
    assert first.file.path.exists()
    assert not other.file.path.exists()
    assert (first.nbytes(), other.nbytes()) == (96 * 4, 0)


def test_each_rank_has_a_file_of_its_own(tmp_path):
    made = [kernel("WriteNonMPI", comm=FakeRank(rank, 2), seed=rank, folder=str(tmp_path)) for rank in range(2)]
    for one in made:
        one()
    for one in made:
        with h5py.File(one.file.path) as file:
            np.testing.assert_array_equal(file["data"][...], one.values)
    assert made[0].file.path != made[1].file.path


def test_dropped_pages_are_out_of_the_page_cache(tmp_path, monkeypatch):
    seen = []
    fadvise, fsync = os.posix_fadvise, os.fsync
    monkeypatch.setattr(os, "posix_fadvise", lambda *args: seen.append(("drop", args[1:])) or fadvise(*args))

    def synced(descriptor):
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    dropped = ("drop", (0, 0, os.POSIX_FADV_DONTNEED))
    kernel("WriteNonMPI", folder=str(tmp_path))()
    assert seen == []
    kernel("WriteNonMPI", folder=str(tmp_path), fsync=True)()
    assert seen == ["file", "folder"]
    seen.clear()
    kernel("WriteNonMPI", folder=str(tmp_path), drop_cache=True)()
    assert seen == ["file", dropped, "folder"]  # dirty pages cannot be dropped
    made = kernel("ReadNonMPI", folder=str(tmp_path), drop_cache=True)
    seen.clear()
    made()
    assert seen == [dropped]


@pytest.mark.parametrize("name", SERIAL_KERNELS)
def test_what_it_makes_is_claimed_first_private_and_gone_after_it(tmp_path, name):
    claimed = []

    def claim(path):
        assert not path.exists()
        claimed.append(path)

    made = kernel(name, folder=str(tmp_path), claim=claim)
    made()
    assert [path.parent for path in claimed] == [tmp_path]
    assert claimed[0] == made.file.path.parent
    assert claimed[0].stat().st_mode & 0o777 == 0o700
    made.close()
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_the_process_removes_it_too(tmp_path):
    code = (
        "import numpy as np; from simai_rules.config.kernels import KernelConfig; "
        "from simai_rules.kernels.registry import make; "
        f"made = make(KernelConfig(name='WriteNonMPI', folder={str(tmp_path)!r}), np.random.default_rng(0)); made(); "
        "print(made.file.path.exists())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"kernel WriteNonMPI: folder .*/nowhere is not there\. Make it"):
        kernel("WriteNonMPI", folder=str(tmp_path / "nowhere"))


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(UserError, match=r"no folder can be made in .* \(Permission denied\)"):
        kernel("WriteNonMPI", folder=str(tmp_path))


def test_a_file_that_cannot_be_written(tmp_path):
    made = kernel("WriteNonMPI", folder=str(tmp_path))
    made.file.path.mkdir()
    with pytest.raises(UserError, match=r"kernel WriteNonMPI: .*rank0.h5 cannot be written .*Check the space"):
        made()


FULL = """
import resource, signal, sys
import numpy as np
from simai_rules.config.kernels import KernelConfig
from simai_rules.errors import UserError
from simai_rules.kernels.registry import make
config = KernelConfig(name="WriteNonMPI", data_size=[1000, 200], folder=sys.argv[1], chunks=eval(sys.argv[2]))
made = make(config, np.random.default_rng(0))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    made()
except UserError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("chunks", [None, [100, 100]])
def test_a_disk_that_is_full(tmp_path, chunks):
    # HDF5 notices it when it writes, or when it closes the file; after that it may crash at the process's end.
    command = [sys.executable, "-c", FULL, str(tmp_path), str(chunks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.startswith("kernel WriteNonMPI: "), done.stderr
    assert "cannot be written (" in done.stdout
    assert "errno = 27" in done.stdout.lower() or "errno 27" in done.stdout.lower()
    assert len(done.stdout.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_gone(tmp_path):
    made = kernel("ReadNonMPI", folder=str(tmp_path), drop_cache=True)
    made.file.path.unlink()
    with pytest.raises(UserError, match=r"kernel ReadNonMPI: .*rank0.h5 cannot be read"):
        made()


@pytest.mark.parametrize("name", ["WriteWithMPI", "ReadWithMPI"])
def test_without_mpi_in_h5py_the_error_says_how_to_get_it(tmp_path, monkeypatch, name):
    if PARALLEL:
        monkeypatch.setattr(h5py, "get_config", lambda: SimpleNamespace(mpi=False))
    with pytest.raises(MissingProgram, match=f"kernel {name}: h5py .* built without MPI.*`make parallel-hdf5`"):
        kernel(name, folder=str(tmp_path))


def test_without_h5py_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingProgram, match=r"pip install 'simai-rules\[hdf5\]'"):
        kernel("WriteNonMPI", folder=str(tmp_path))


@pytest.mark.skipif(not PARALLEL, reason="this h5py was built without MPI: make parallel-hdf5")
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_write_and_read_one_file_together(tmp_path, ranks):
    done = on_ranks(ranks, [str(Path(__file__).with_name("io_program.py")), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"tried": 20, "left": []}
