"""Values to bytes and back, in the safetensors layout.

What can be staged, and what comes back:

- a numpy array of booleans, integers, floats or complex numbers (not longdouble): an array of the same dtype and
  shape, Fortran order kept, in native byte order, which the caller owns and may write to;
- a numpy scalar: the same; a torch tensor in main memory: a torch tensor (a numpy array where torch is not installed);
- bfloat16: as a torch tensor, or as a numpy array of the dtype `safetensors.BFLOAT16` (the bits as marked uint16),
  which is also what a bfloat16 tensor is read as where torch is not installed, and stages as bfloat16 again;
- bytes, bytearray, memoryview: bytes;
- str, int, float (nan and inf too), bool, None, lists, tuples (which come back as lists) and dicts by str of these;
- a dict by str of any of the above: a dict in the same order. Arrays inside deeper levels are refused.

Anything else is a TypeError, or is pickled where `allow_pickle` is set. The public reader opens every value whose
dtypes it knows: a Fortran array appears transposed, complex128 as pairs of F64, a lone array has the name `data`. A
safetensors file by another writer is read as a dict of arrays.

A dict is staged by what stays the same from one step to the next (names, dtypes, shapes), which both sides remember,
and its JSON parts, which change: see `simai_rules.staging.plan` for how the header holds them.
"""

import pickle
from time import perf_counter_ns
from typing import Any

import numpy as np

from simai_rules.staging.arrays import Array, Form, put_together, take_apart, view_out
from simai_rules.staging.backend import Buffer, Incoming, size_of
from simai_rules.staging.errors import CorruptValue, StagingError
from simai_rules.staging.jsonlike import check_json, check_name
from simai_rules.staging.plan import PLAIN_ARRAYS, Checksum, Part, Plan, Slot, add_checksum, read_plan, write_header

_headers: dict[tuple["np.dtype[Any]", tuple[int, ...]], bytes] = {}
"""Headers of plain arrays by dtype and shape: in a coupled run the same one is staged over and over."""


def encode(value: Any, *, allow_pickle: bool = False, checksum: bool = False) -> tuple[list[Buffer], int]:
    """Return the header and the raw buffers of `value`, and their size in bytes.

    The buffers are the arrays' own memory where they can be. checksum: the header gets one of itself and of all data,
    by which `decode` finds a changed byte. Raises TypeError, naming the type and its place in the value, for what
    cannot be staged.
    """
    if type(value) is np.ndarray and value.flags.c_contiguous:
        header = _headers.get((value.dtype, value.shape))
        if header is not None and not checksum:
            return [header, value.data], len(header) + value.nbytes
    try:
        buffers = _encode(value)
    except TypeError:
        if not allow_pickle:
            raise
        pickled = pickle.dumps(value, protocol=5)
        buffers = [write_header(None, (("U8", (len(pickled),), Form("pickle")),), []), pickled]
    if checksum:
        buffers = add_checksum(buffers)
    return buffers, size_of(buffers)


def _encode(value: Any) -> list[Buffer]:
    leaf = take_apart(value, ())
    if leaf is not None:
        header = write_header(None, (leaf[:3],), [])
        # uint16 is left out, because its dtype and that of bfloat16 are equal as keys.
        if leaf.array is value and leaf.dtype not in ("U16", "BF16"):
            if len(_headers) >= 64:
                _headers.clear()
            _headers[value.dtype, value.shape] = header
        return [header, leaf.array.data]
    if not isinstance(value, dict):
        check_json(value, ())
        return [write_header(None, (None,), [value])]
    parts: list[Part] = []
    loose: list[Any] = []
    buffers: list[Buffer] = [b""]
    for key, item in value.items():
        check_name(key, ())
        leaf = take_apart(item, (key,))
        if leaf is None:
            check_json(item, (key,))
            loose.append(item)
            parts.append(None)
        else:
            buffers.append(leaf.array.data)
            parts.append(leaf[:3])
    if len(buffers) == 1:
        return [write_header(None, (None,), [value])]
    buffers[0] = write_header(tuple(value), tuple(parts), loose)
    return buffers


def decode(incoming: Incoming, *, out: Array | None = None, allow_pickle: bool = False) -> tuple[Any, int]:
    """Read a value; return it and the nanoseconds that went into moving bytes.

    Arrays are read straight into new memory or into `out`, which is then returned. Raises CorruptValue for bytes that
    are not a staged value, and StagingError where `out` does not fit or the value was pickled and `allow_pickle` is
    not set; the value's data are not touched before that is known. A checksum that the value has is checked when its
    data are there: CorruptValue then leaves `out` with what was read.
    """
    header, transport = incoming.header, 0
    if header is None:
        transport = -perf_counter_ns()
        header = incoming.read_header()
        transport += perf_counter_ns()
    plan = PLAIN_ARRAYS.get((header, incoming.nbytes))
    loose: list[Any] = []
    checksum: Checksum | None = None
    if plan is None:
        plan, loose, checksum = read_plan(header, incoming.nbytes)
    if plan.pickled and not allow_pickle:
        raise StagingError(
            "the value was staged by pickle, which can run any code when it is read. If you trust its writer, open "
            "this DataStore with allow_pickle=True; else stage arrays, numbers, texts, lists or dicts of them."
        )
    if out is not None:
        arrays = _given(plan, out)
    elif plan.plain:
        dtype, shape, _ = plan.slots[0]
        arrays = [np.empty(shape, dtype)]
    else:
        arrays = _allocate(plan.slots)
    allocated = perf_counter_ns()
    for array in arrays:
        incoming.readinto(array.data)
    transport += perf_counter_ns() - allocated
    if checksum is not None:
        checksum.check(array.data for array in arrays)
    if out is not None:
        return out, transport
    return arrays[0] if plan.plain else _build(plan, arrays, loose), transport


def _allocate(slots: list[Slot]) -> list[Array]:
    try:
        return [np.empty(shape, dtype) for dtype, shape, _ in slots]
    except ValueError as error:  # too many dimensions, or too long ones beside one of 0
        raise CorruptValue(f"its header describes an impossible array ({error})") from None


def _given(plan: Plan, out: Array) -> list[Array]:
    """Return the caller's array as the one to be filled."""
    if plan.keys is not None or not plan.slots:
        raise StagingError("out= takes a single staged array, but the value is a dict or JSON. Read without out=.")
    return [view_out(out, *plan.slots[0])]


def _build(plan: Plan, arrays: list[Array], loose: list[Any]) -> Any:
    parts = [
        put_together(arrays[number], plan.slots[number].form) if is_array else loose[number]
        for is_array, number in plan.sources
    ]
    return parts[0] if plan.keys is None else dict(zip(plan.keys, parts, strict=True))
