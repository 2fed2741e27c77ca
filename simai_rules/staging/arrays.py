"""One array, numpy scalar, torch tensor or bytes object, as a tensor of the safetensors layout and back."""

import pickle
import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simai_rules.staging.errors import CorruptValue, StagingError
from simai_rules.staging.jsonlike import Path, place
from simai_rules.staging.safetensors import BFLOAT16, DTYPES

Array = npt.NDArray[Any]

_CODES = {dtype: code for code, dtype in DTYPES.items() if code != "BF16"} | {np.dtype("<c16"): "C128"}
_NO_ARRAYS = frozenset((str, int, float, bool, type(None), list, dict))
_HOLDS = ("array", "scalar", "bytes", "torch", "pickle")


class Form(NamedTuple):
    """What the layout has no words for: what the value was, and how its array is held."""

    kind: str = "array"
    """array, scalar, bytes, torch, pickle."""
    fortran: bool = False
    """The array is Fortran contiguous; what is held is its transpose, which is C contiguous."""
    complex128: bool = False
    """Held as F64 with one more dimension of 2: real and imaginary part."""

    def as_json(self) -> dict[str, Any]:
        """Return what differs from the default."""
        if self == _PLAIN["array"]:
            return {}
        return {name: value for name, value in self._asdict().items() if value != Form._field_defaults[name]}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Form":
        """Read `as_json` back; raises CorruptValue for anything it does not write."""
        if not raw:
            return _PLAIN["array"]
        if not raw.keys() <= set(cls._fields):
            raise CorruptValue("its header describes an array in an unknown way")
        form = cls(**raw)
        if form.kind not in _HOLDS or type(form.fortran) is not bool or type(form.complex128) is not bool:
            raise CorruptValue("its header describes an array in an unknown way")
        return form


_PLAIN = {kind: Form(kind) for kind in _HOLDS}


class Leaf(NamedTuple):
    """An array taken apart: dtype and shape as the layout has them, form, and its memory as a C contiguous array."""

    dtype: str
    shape: tuple[int, ...]
    form: Form
    array: Array


def take_apart(value: Any, path: Path) -> Leaf | None:
    """Return `value` as a Leaf, or None where it is nothing like an array.

    Contiguous arrays of native byte order, C or Fortran, are not copied; others once. Raises TypeError, which says
    by `path` where in the staged value it is, for an array that the layout cannot hold.
    """
    if isinstance(value, np.ndarray):
        return _leaf(value, "array", path)
    if type(value) in _NO_ARRAYS:
        return None
    if isinstance(value, np.number | np.bool_):
        return _leaf(np.asarray(value), "scalar", path)
    if isinstance(value, bytes | bytearray | memoryview):
        flat = value.tobytes() if isinstance(value, memoryview) else value
        return _leaf(np.frombuffer(flat, np.uint8), "bytes", path)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _leaf(_from_torch(torch, value, path), "torch", path)
    return None


def _leaf(array: Array, kind: str, path: Path) -> Leaf:
    code = None if isinstance(array, np.ma.MaskedArray) else _CODES.get(array.dtype)
    if code is None:
        array, code = _native(array, path)
    elif code == "U16" and array.dtype.metadata and array.dtype.metadata.get("simai") == "bfloat16":
        code = "BF16"
    fortran = False
    if not array.flags.c_contiguous:
        fortran = array.flags.f_contiguous
        array = array.T if fortran else np.ascontiguousarray(array)
    complex128 = code == "C128"
    if complex128:
        return Leaf("F64", (*array.shape, 2), Form(kind, fortran, complex128), array)
    return Leaf(code, array.shape, Form(kind, fortran) if fortran else _PLAIN[kind], array)


def _native(array: Array, path: Path) -> tuple[Array, str]:
    """Return an array of the other byte order in ours; raises TypeError for one that cannot be held."""
    native = array.dtype.newbyteorder("<")
    masked = isinstance(array, np.ma.MaskedArray)
    if masked or native not in _CODES:
        raise TypeError(
            f"{place(path)} is a {'masked array' if masked else f'numpy array of dtype {array.dtype}'}, which cannot "
            "be staged. Stage numbers or booleans (times as .view('int64'), a record's fields or a mask as arrays of a "
            "dict), or open both DataStores with allow_pickle=True."
        )
    return array.astype(native), _CODES[native]


def _from_torch(torch: Any, tensor: Any, path: Path) -> Array:
    """Return a torch tensor's memory as a numpy array; raises TypeError unless it is a plain tensor in main memory."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(
            f"{place(path)} is a torch tensor on {tensor.device} with layout {tensor.layout}; only plain tensors in "
            "the node's memory can be staged: stage tensor.cpu() or tensor.to_dense()."
        )
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy().view(BFLOAT16)
        return bits
    try:
        array: Array = tensor.numpy()
    except TypeError:
        raise TypeError(f"{place(path)} is a torch tensor of dtype {tensor.dtype}, which cannot be staged.") from None
    return array


def view_out(out: Array, dtype: "np.dtype[Any]", shape: tuple[int, ...], form: Form) -> Array:
    """Return the C contiguous view of the caller's `out` that takes an array which is held in `shape`.

    Raises StagingError where dtype, shape or memory order of `out` differ from those of the staged array.
    """
    if form.kind not in ("array", "torch"):
        raise StagingError(f"out= takes a staged array, but the value is of the kind {form.kind}. Read without out=.")
    target = out.T if form.fortran else out
    if target.shape != shape or out.dtype != dtype or not target.flags.c_contiguous or not out.flags.writeable:
        order, shape = ("Fortran", shape[::-1]) if form.fortran else ("C", shape)
        raise StagingError(
            f"out= has shape {out.shape}, dtype {out.dtype}, strides {out.strides}, writeable {out.flags.writeable}; "
            f"the staged array needs shape {shape}, dtype {dtype}, {order} contiguous, writeable. "
            "It was not read and is still staged."
        )
    return target


def put_together(array: Array, form: Form) -> Any:
    """Return the value that was staged from its filled array.

    A torch tensor comes back as one; where torch is not installed, as a numpy array. A pickle is loaded: the caller has
    made sure that this was asked for.
    """
    if form.kind == "scalar":
        return array[()]
    if form.kind == "bytes":
        return array.tobytes()
    if form.kind == "pickle":
        return _unpickle(array)
    if form.fortran:
        array = array.T
    return _to_torch(array) if form.kind == "torch" else array


def _to_torch(array: Array) -> Any:
    try:
        import torch
    except ImportError:
        return array
    if array.dtype.metadata:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_numpy(array)
    except (TypeError, RuntimeError, ValueError) as error:
        raise CorruptValue(f"its header calls an array a torch tensor that torch does not take ({error})") from None


def _unpickle(array: Array) -> Any:
    try:
        return pickle.loads(array.data)  # noqa: S301 - asked for on both sides
    except Exception as error:
        # It calls what it names, which may raise anything: by far not only UnpicklingError.
        raise CorruptValue(f"its pickle cannot be read ({type(error).__name__}: {error})") from None
