"""The safetensors layout: 8 bytes with the header's length, a JSON header, the raw arrays one after another.

Format: https://github.com/huggingface/safetensors#format. The header maps each array's name to its dtype, shape and
place in the data, and `__metadata__` to strings by string. `parse` trusts nothing: what it accepts describes exactly
the bytes that are there, so that no memory is allocated for a lie.
"""

import json
from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from simai_rules.staging.errors import CorruptValue, StagingError

HEADER_LIMIT = 100_000_000
"""Longest header, in bytes, that the public reader takes."""
METADATA = "__metadata__"
_DIMENSIONS = 65
"""Most that a shape has: numpy's 64, and one for the halves of complex128. The product of more would take long."""
BFLOAT16: "np.dtype[np.uint16]" = np.dtype("<u2", metadata={"simai": "bfloat16"})
"""How numpy, which has no bfloat16, holds one: its 16 bits, marked. `bits.view(BFLOAT16)` is staged as BF16."""

DTYPES: dict[str, "np.dtype[Any]"] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}


class Tensor(NamedTuple):
    """One array of a file: its name, the layout's word for its dtype, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize


def entries(tensors: Iterable[Tensor]) -> str:
    """Return the part of a header that describes `tensors`, whose data follow it in this order."""
    parts = []
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes
        parts.append(
            f',{json.dumps(tensor.name)}:{{"dtype":"{tensor.dtype}","shape":{list(tensor.shape)},'
            f'"data_offsets":[{begin},{end}]}}'
        )
    return "".join(parts)


def framed(text: str) -> bytes:
    """Return a header's JSON text with its length before it.

    It is padded with blanks so that the data starts at a multiple of 64 bytes (the format asks for 8): who maps the
    file into memory finds its first array at the start of a cache line. Raises StagingError where it would be longer
    than HEADER_LIMIT.
    """
    length = len(text) + (-len(text) - 8) % 64
    if length > HEADER_LIMIT:
        raise StagingError(
            f"The JSON part of the value takes {length} bytes; the format allows {HEADER_LIMIT}. "
            "Stage long texts as bytes and long lists as arrays."
        )
    return length.to_bytes(8, "little") + text.ljust(length).encode("ascii")


def header_length(start: bytes | bytearray, nbytes: int) -> int:
    """Return the length of the header of a value of `nbytes` bytes; `start` are the first of them, at least 8.

    Raises CorruptValue where it cannot have a header, or not such a long one.
    """
    if nbytes < 8:
        raise CorruptValue(f"it has {nbytes} bytes and so no header")
    length = int.from_bytes(start[:8], "little")
    if length > nbytes - 8 or length > HEADER_LIMIT:
        raise CorruptValue(f"its header claims {length} bytes, but it has {nbytes} in all")
    return length


def parse(text: str, data_bytes: int) -> tuple[list[Tensor], dict[str, str]]:
    """Return the tensors, in the order of their data, and the metadata of a header followed by `data_bytes` of data.

    Raises CorruptValue unless the header is valid and describes exactly that data, without a gap or an overlap.
    """
    content = load_json(text)
    if not isinstance(content, dict):
        raise CorruptValue("its header is not a JSON object")
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CorruptValue(f"its {METADATA} does not map strings to strings")
    placed = sorted((_tensor(name, entry) for name, entry in content.items()), key=lambda item: item[:2])
    end = 0
    for begin, stop, tensor in placed:
        if begin != end:
            raise CorruptValue(f"the data of its array {tensor.name!r:.80} starts at {begin}, not at {end}")
        end = stop
    if end != data_bytes:
        raise CorruptValue(f"its arrays take {end} bytes, but it has {data_bytes}")
    return [tensor for _, _, tensor in placed], metadata


def load_json(text: str) -> Any:
    """Parse JSON; raises CorruptValue for anything that is not JSON, is nested too deeply or names a key twice."""
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise CorruptValue(f"its header is not valid JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise CorruptValue("its header names a key twice")
    return content


DECODER = json.JSONDecoder(object_pairs_hook=_unique)
"""Refuses what names a key twice."""


def _tensor(name: str, entry: Any) -> tuple[int, int, Tensor]:
    """Return begin, end and description of one array from its entry in the header."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CorruptValue(f"its entry for the array {name!r:.80} lacks dtype, shape or data_offsets, or has more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CorruptValue(f"its array {name!r:.80} has the dtype {brief(dtype)}, which is not known here")
    if not _is_sizes(shape, _DIMENSIONS) or not _is_sizes(offsets, 2) or len(offsets) != 2:
        raise CorruptValue(f"its array {name!r:.80} has no valid shape or place")
    tensor = Tensor(name, dtype, tuple(shape))
    if tensor.nbytes != offsets[1] - offsets[0]:
        raise CorruptValue(f"its array {name!r:.80} has a shape that does not fit its size")
    return offsets[0], offsets[1], tensor


def _is_sizes(value: Any, most: int) -> bool:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(item) is int and 0 <= item < 2**63 for item in value)


def brief(value: Any) -> str:
    """Return what a hostile header holds for a message: no `repr` of what may be long or deeply nested."""
    return f"{value[:80]!r}" if isinstance(value, str) else f"of the type {type(value).__name__}"
