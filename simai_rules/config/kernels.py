"""Kernels as a config describes them: their names, their options, and which kernel takes which."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

import math
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from simai_rules.config.base import PositiveInt, Says, Strict
from simai_rules.config.distributions import Distribution

ComputeName = Literal[
    "MatMulSimple2D",
    "MatMulGeneral",
    "FFT",
    "AXPY",
    "InplaceCompute",
    "GenerateRandomNumber",
    "ScatterAdd",
    "Stencil",
    "SpMV",
    "Sort",
]
IoName = Literal["WriteSingleRank", "WriteNonMPI", "WriteWithMPI", "ReadNonMPI", "ReadWithMPI"]
CommName = Literal["AllReduce", "AllGather", "Bcast", "ReduceScatter", "AllToAll", "Halo", "Ring"]
CopyName = Literal["CopyHostToDevice", "CopyDeviceToHost", "CopyDeviceToDevice"]
KernelName = Literal[ComputeName, IoName, CommName, CopyName]
KernelDtype = Literal["float32", "float64", "complex64", "complex128", "float16", "bfloat16"]
HALF = ("float16", "bfloat16")

COMPUTE, IO, COMM, COPY = (frozenset(get_args(names)) for names in (ComputeName, IoName, CommName, CopyName))
SHARED_FILE = frozenset(("WriteWithMPI", "ReadWithMPI"))
# What is done in 16 bits indeed, and on GPUs of CuPy alone: it converts the operands of batches of products, and numpy
# those of everything, to float32.
IN_HALF = COPY | {"MatMulSimple2D"}
_NAMES = get_args(KernelName)
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

# How many dimensions `data_size` has; kernels that are not named here take 1 to 4.
DIMENSIONS = {"MatMulSimple2D": (2, 2), "MatMulGeneral": (2, 4), "Stencil": (3, 3), "SpMV": (2, 2), "Halo": (1, 3)}
# numpy functions of one array that can overwrite it, for real operands; frozen here so that a config is checked without
# numpy. The second tuple is what numpy also has for complex operands.
REAL_ONLY_UFUNCS = ("cbrt", "ceil", "deg2rad", "degrees", "fabs", "floor", "rad2deg", "radians", "spacing", "trunc")
UFUNCS = (
    *("abs", "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "conj", "conjugate", "cos"),
    *("cosh", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "negative", "positive", "reciprocal", "rint"),
    *("sign", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
)
# Which kernels take an option; every kernel takes the others.
_OF_IO = ("the kernels of input and output", IO)
_OF_COMM = ("the kernels of communication", COMM)
_TAKEN_BY: dict[str, tuple[str, frozenset[str]]] = {
    "ufunc": ("InplaceCompute", frozenset(("InplaceCompute",))),
    "folder": _OF_IO,
    "chunks": _OF_IO,
    "compression": _OF_IO,
    "drop_cache": _OF_IO,
    "collective": ("WriteWithMPI and ReadWithMPI", SHARED_FILE),
    "fsync": ("the Write kernels", frozenset(name for name in IO if name.startswith("Write"))),
    "library": _OF_COMM,
    "gpu_aware": _OF_COMM,
    "pinned": ("CopyHostToDevice and CopyDeviceToHost", COPY - {"CopyDeviceToDevice"}),
    "arguments": ("kernels of your own", frozenset()),
}


def _known(name: str) -> str:
    if name in _NAMES or _IMPORT_PATH.fullmatch(name):
        return name
    near = get_close_matches(name, _NAMES, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{name!r} is no kernel.{guess} There are: {', '.join(_NAMES)}; a kernel of your own is given as "
        "package.module:function"
    )


_NAME_SCHEMA = {"anyOf": [{"enum": list(_NAMES)}, {"type": "string", "pattern": f"^{_IMPORT_PATH.pattern}$"}]}


class KernelConfig(Strict):
    """One kernel of an iteration: run for a time (seconds) or a number of calls, once of them by default."""

    name: Annotated[
        str,
        AfterValidator(_known),
        WithJsonSchema(_NAME_SCHEMA),
        Says(f"one of {', '.join(_NAMES)}, or package.module:function"),
    ]
    run_time: Distribution | None = None
    """Seconds per iteration."""
    run_count: Distribution | None = None
    """Calls per iteration, rounded to a whole number."""
    data_size: Annotated[list[PositiveInt], Field(min_length=1, max_length=4)] = [256, 256]
    """Shape of the operands; of the whole file for WriteWithMPI and ReadWithMPI, else of each rank's own."""
    dtype: KernelDtype = "float32"
    device: Annotated[
        str,
        Field(pattern=r"^(cpu|sycl-cpu|(cuda|xpu)(:\d{1,3})?)$"),
        Says("cpu, cuda, xpu, cuda:1, xpu:1, … or sycl-cpu"),
    ] = "cpu"
    """Where the operands are: cpu (numpy), cuda (CuPy, NVIDIA and AMD GPUs), xpu (dpnp, Intel GPUs), or sycl-cpu, the
    CPU as dpnp sees it. A number counts the GPUs that the rank may use; without one, the ranks of a node take one after
    another of those that they see."""
    ufunc: str = "sin"
    """InplaceCompute only: the numpy function that is applied."""
    folder: Annotated[str, Field(min_length=1)] | None = None
    """Input and output: an existing folder, on the file system to be measured, in which the kernel makes one of its own
    for the time of the run; relative to the experiment."""
    chunks: Annotated[list[PositiveInt], Field(min_length=1, max_length=4)] | None = None
    """HDF5 chunk; without it the layout is contiguous, or the library's choice where data are compressed."""
    compression: Literal["gzip", "lzf"] | None = None
    collective: bool = False
    """WriteWithMPI and ReadWithMPI: whether the ranks' transfers are one collective call or independent."""
    fsync: bool = False
    """Whether a write lasts until the data are on the device."""
    drop_cache: bool = False
    """Whether a file's pages are dropped from the page cache: before a read; after a write, which implies fsync."""
    library: Literal["mpi", "nccl"] = "mpi"
    gpu_aware: bool = False
    """Whether MPI is given memory of the device; without it, data go through the host's memory."""
    pinned: bool = False
    """Whether the host's memory is pinned (page-locked) or pageable."""
    arguments: dict[str, Any] = {}
    """What a kernel of your own is given."""

    @property
    def own(self) -> bool:
        """Whether it is a kernel of the user's own."""
        return ":" in self.name

    @model_validator(mode="after")
    def _fits_together(self) -> "KernelConfig":
        checks = (
            *(self._wrong_length, self._wrong_shape, self._wrong_dtype, self._wrong_ufunc),
            *(self._wrong_options, self._wrong_place),
        )
        problems = [problem for check in checks for problem in check()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_length(self) -> Iterable[str]:
        if self.run_time is not None and self.run_count is not None:
            yield "give run_time or run_count, not both"

    def _wrong_shape(self) -> Iterable[str]:
        size = self.data_size
        least, most = DIMENSIONS.get(self.name, (1, 4))
        if not least <= len(size) <= most:
            allowed = str(least) if least == most else f"{least} to {most}"
            yield f"data_size {size}: its length is {len(size)}; {self.name} takes {allowed} dimensions"
        elif self.name == "Stencil" and min(size) < 3:
            yield f"data_size {size}: a point has neighbours on both sides only where each number is at least 3"
        elif self.name == "SpMV" and size[1] > size[0]:
            yield f"data_size {size} is [rows, nonzeros per row], and a row of this square matrix has {size[0]} places"
        if self.chunks and (len(self.chunks) != len(size) or any(map(int.__gt__, self.chunks, size))):
            yield f"chunks {self.chunks} do not fit into data_size {size}"

    def _wrong_dtype(self) -> Iterable[str]:
        if self.dtype in HALF and not self.own and not (self.name in IN_HALF and self.device.startswith("cuda")):
            lack = "numpy and dpnp have none" if self.dtype == "bfloat16" else "numpy goes by way of float32"
            yield f"dtype {self.dtype} is for MatMulSimple2D and the copies, on device cuda ({lack}); take float32"

    def _wrong_ufunc(self) -> Iterable[str]:
        allowed = UFUNCS if self.dtype.startswith("complex") else tuple(sorted(UFUNCS + REAL_ONLY_UFUNCS))
        if self.name == "InplaceCompute" and self.ufunc not in allowed:
            near = get_close_matches(self.ufunc, allowed, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            yield (
                f"ufunc {self.ufunc!r} is no numpy function of one {self.dtype} array.{guess} Allowed: "
                f"{', '.join(allowed)}"
            )

    def _wrong_options(self) -> Iterable[str]:
        for option, (takers, names) in _TAKEN_BY.items():
            given = getattr(self, option) != type(self).model_fields[option].default
            if given and not (self.own if option == "arguments" else self.name in names):
                yield f"{option} is an option of {takers}, not of {self.name}"
        if self.name in IO and self.folder is None:
            yield f"{self.name} needs a folder: an existing one, on the file system that is to be measured"
        if self.name == "WriteWithMPI" and self.compression and not self.collective:
            yield "HDF5 compresses a file that several ranks write only where they write together (collective: true)"

    def _wrong_place(self) -> Iterable[str]:
        if self.name in COPY and self.device == "cpu":
            yield f"{self.name} needs a device other than cpu: cuda, xpu or sycl-cpu"
        if self.name in IO and self.device != "cpu":
            yield f"{self.name} writes and reads the memory of the host; its device is cpu"
        if self.library == "nccl" and not self.device.startswith("cuda"):
            yield f"nccl moves data between GPUs: device is {self.device}, but has to be cuda"
        if self.gpu_aware and (self.device == "cpu" or self.library == "nccl"):
            yield "gpu_aware is for MPI and a device other than cpu"


def undivided(kernel: KernelConfig, ranks: int) -> str:
    """Return what is wrong where `ranks` ranks do not divide the data of `kernel`, or ""."""
    if kernel.name in SHARED_FILE:
        parts, what = kernel.data_size[0], "rows (the first number of data_size)"
    elif kernel.name in ("ReduceScatter", "AllToAll"):
        parts, what = math.prod(kernel.data_size), "elements"
    else:
        return ""
    if parts % ranks == 0:
        return ""
    return f"{kernel.name}: {ranks} ranks do not divide its {parts} {what}. {_next(parts, ranks)} would do"


def _next(parts: int, ranks: int) -> str:
    below, above = parts // ranks * ranks, -(-parts // ranks) * ranks
    return f"{below} or {above}" if below else f"{above}"
