"""The header of a staged value: which arrays and JSON parts it has, and where each of them belongs.

Its `__metadata__` starts with `json`, a JSON list of the parts that are no arrays, as text. Then, where one was asked
for, `xxh3`, the checksum. What changes from one step of a coupled run to the next ends here; both sides can remember
the rest. That is `simai`, JSON too, as text: `{"format": 1, "root": NODE}`, where NODE is `{"json": number in that
list}`, `{"tensor": name, …what Form says}` or, at the root, `{"items": [[key, NODE], …]}`.

The checksum is the XXH3 (64 bits, 16 hexadecimal digits) of the header's text, with zeros for these digits, and of the
data that follow it: a changed byte anywhere after the first eight is found, and in these makes the header invalid.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from simai_rules.staging.arrays import Form
from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.errors import CorruptValue
from simai_rules.staging.safetensors import (
    DECODER,
    DTYPES,
    METADATA,
    Tensor,
    brief,
    entries,
    framed,
    load_json,
    parse,
)

_FORMAT = 1
_OPENING = f'{{"{METADATA}":{{"json":'
_CHECKSUM = ',"xxh3":"'
_ZEROS = "0" * 16
_BLANKS = " \t\r\n"
"""What may follow a JSON text; `str.rstrip` alone takes more."""
_KNOWN = {"json", "simai", "xxh3"}
_LONE = "data"
_REMEMBERED, _SHORT = 64, 4096
"""How many headers are remembered, and how long each may be: what was read must not fill the memory."""

Part = tuple[str, tuple[int, ...], Form] | None
"""Dtype, shape and form of an array; None for a JSON part."""
Node = dict[str, Any]


def write_header(keys: tuple[str, ...] | None, parts: tuple[Part, ...], loose: list[Any]) -> bytes:
    """Return the header of a dict with these `keys`, or of a single part (keys is None), with its length before it.

    `loose` are the JSON parts. Raises TypeError for one that JSON cannot write.
    """
    try:
        text = json.dumps(loose) if loose else "[]"
    except ValueError as error:
        raise TypeError(f"The value cannot be written as JSON: {error}") from None
    return framed(f"{_OPENING}{json.dumps(text)}{_rest(keys, parts)}")


@lru_cache(maxsize=_REMEMBERED)
def _rest(keys: tuple[str, ...] | None, parts: tuple[Part, ...]) -> str:
    """Return all of a header that follows the JSON parts."""
    tensors: list[Tensor] = []
    nodes: list[Node] = []
    for number, part in enumerate(parts):
        if part is None:
            nodes.append({"json": number - len(tensors)})
            continue
        name = keys[number] if keys else _LONE
        while name == METADATA or (keys and name != keys[number] and name in keys):
            name += "_"
        dtype, shape, form = part
        tensors.append(Tensor(name, dtype, shape))
        nodes.append({"tensor": name, **form.as_json()})
    root = nodes[0] if keys is None else {"items": list(zip(keys, nodes, strict=True))}
    described = json.dumps({"format": _FORMAT, "root": root})
    return f',"simai":{json.dumps(described)}}}{entries(tensors)}}}'


def add_checksum(buffers: list[Buffer]) -> list[Buffer]:
    """Return a header that `write_header` has made, and its data, with a checksum of both in the header."""
    text = bytes(buffers[0][8:]).decode("ascii").rstrip()
    _, end = DECODER.raw_decode(text, len(_OPENING))
    header = framed(f'{text[:end]}{_CHECKSUM}{_ZEROS}"{text[end:]}')
    place = 8 + end + len(_CHECKSUM)
    digest = _digest(header[8:], buffers[1:]).encode()
    return [header[:place] + digest + header[place + len(digest) :], *buffers[1:]]


def _digest(header: bytes, data: Iterable[Buffer]) -> str:
    from xxhash import xxh3_64

    state = xxh3_64(header)
    for buffer in data:
        state.update(bytes_of(buffer))
    return state.hexdigest()


class Checksum(NamedTuple):
    """What a header says of its bytes and the data."""

    digest: str
    header: bytes
    """The header with zeros in the digest's place."""

    def check(self, data: Iterable[Buffer]) -> None:
        """Raise CorruptValue unless header and `data`, in the order in which they were staged, are what was written."""
        found = _digest(self.header, data)
        if found != self.digest:
            raise CorruptValue(
                f"its bytes have changed since it was written: their checksum is {found}, not {self.digest}"
            )


class Slot(NamedTuple):
    """One array of a value that is being read: what to make for it."""

    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    form: Form


class Plan(NamedTuple):
    """How to read a value with a certain header."""

    slots: list[Slot]
    """The arrays in the order of their data."""
    keys: list[str] | None
    """Of a dict; None for a value that is a single part."""
    sources: list[tuple[bool, int]]
    """For each part of the value whether it is an array, and its number among the slots or the JSON parts."""
    pickled: bool
    plain: bool
    """The value is one array with data, and nothing is to be done to it."""


_plans: dict[tuple[str, int], Plan] = {}
PLAIN_ARRAYS: dict[tuple[bytes, int], Plan] = {}
"""The same for lone arrays, by a shorter way: plans by the whole header and the size of the value."""


def read_plan(header: bytes, nbytes: int) -> tuple[Plan, list[Any], Checksum | None]:
    """Return how to read a value of `nbytes` bytes with this `header`, its JSON parts, and its checksum if it has one.

    Raises CorruptValue for a header that is not valid, or not about so many bytes.
    """
    try:
        text = header.decode()
        loose, end = DECODER.raw_decode(text, len(_OPENING)) if text.startswith(_OPENING) else ("", 0)
    except (ValueError, RecursionError) as error:
        raise CorruptValue(f"its header is not valid JSON ({error})") from None
    checksum = None
    if end and text.startswith(_CHECKSUM, end):
        checksum, end = _read_checksum(text, end + len(_CHECKSUM))
    # What a remembered header says does not depend on its JSON parts, as long as these are a text.
    data_bytes = nbytes - 8 - len(header)
    known = (text[end:].rstrip(_BLANKS), data_bytes) if end and isinstance(loose, str) else None
    plan = _plans.get(known) if known else None
    if plan is None:
        tensors, metadata = parse(text, data_bytes)
        if "xxh3" in metadata and checksum is None:
            raise CorruptValue("its checksum does not stand where it belongs: its header was changed")
        plan = _plan(tensors, metadata)
        loose = metadata.get("json", "[]")
        if known and len(text) < _SHORT:
            if len(_plans) >= _REMEMBERED:
                _plans.clear()
                PLAIN_ARRAYS.clear()
            _plans[known] = plan
    parts: Any = [] if loose == "[]" else load_json(loose)
    if not isinstance(parts, list) or len(parts) != len(plan.sources) - len(plan.slots):
        raise CorruptValue("its header does not use each of its JSON parts once")
    if plan.plain and checksum is None and len(header) < _SHORT and len(PLAIN_ARRAYS) < _REMEMBERED:
        PLAIN_ARRAYS[header, nbytes] = plan
    return plan, parts, checksum


def _read_checksum(text: str, place: int) -> tuple[Checksum, int]:
    """Return the checksum whose digits start at `place`, and where they end."""
    end = place + len(_ZEROS)
    digest = text[place:end]
    if len(digest) != len(_ZEROS) or not set(digest) <= set("0123456789abcdef") or text[end : end + 1] != '"':
        raise CorruptValue(f"its checksum {digest!r} is not one of 16 hexadecimal digits")
    return Checksum(digest, f"{text[:place]}{_ZEROS}{text[end:]}".encode()), end + 1


def _plan(tensors: list[Tensor], metadata: dict[str, str]) -> Plan:
    """Return how to read the value; a file of another writer is a dict of its arrays."""
    if "simai" in metadata:
        if not metadata.keys() <= _KNOWN:
            raise CorruptValue("its header says more of the value than is known here")
        root = _root(metadata["simai"])
    else:
        root = {"items": [[tensor.name, {"tensor": tensor.name}] for tensor in tensors]}
    keys, nodes = _items(root) if "items" in root else (None, [root])
    numbers = {tensor.name: number for number, tensor in enumerate(tensors)}
    forms: list[Form | None] = [None] * len(tensors)
    sources: list[tuple[bool, int]] = []
    for node in nodes:
        if node.keys() == {"json"} and type(node["json"]) is int:
            sources.append((False, node["json"]))
            continue
        name = node.get("tensor")
        number = numbers.pop(name, None) if isinstance(name, str) else None
        if number is None:
            raise CorruptValue("its header does not use each of its arrays once")
        forms[number] = Form.from_json({key: value for key, value in node.items() if key != "tensor"})
        sources.append((True, number))
    if numbers or sorted(number for array, number in sources if not array) != list(range(len(nodes) - len(tensors))):
        raise CorruptValue("its header does not use each of its parts once")
    slots = [_slot(tensor, form) for tensor, form in zip(tensors, forms, strict=True) if form]
    # An array whose data are there has a shape that can be; one of size 0 may have any, and the rest of its shape not.
    plain = keys is None and len(slots) == 1 and slots[0].form == Form() and 0 < len(slots[0].shape) <= 32
    plain = plain and 0 not in slots[0].shape
    return Plan(slots, keys, sources, any(slot.form.kind == "pickle" for slot in slots), plain)


def _root(described: str) -> Node:
    content = load_json(described)
    if not isinstance(content, dict) or content.keys() != {"format", "root"} or not isinstance(content["root"], dict):
        raise CorruptValue("its header does not describe the value")
    if content["format"] != _FORMAT:
        raise CorruptValue(f"its format is {_number(content['format'])}; this version reads {_FORMAT}")
    root: Node = content["root"]
    return root


def _number(value: Any) -> str:
    return f"{value!s:.80}" if type(value) is int else brief(value)


def _items(root: Node) -> tuple[list[str], list[Node]]:
    """Return the keys and the nodes of a dict."""
    items = root["items"]
    if len(root) != 1 or not isinstance(items, list):
        raise CorruptValue("its header does not describe the value")
    for item in items:
        if not isinstance(item, list) or [type(part) for part in item] != [str, dict]:
            raise CorruptValue("its header does not describe the value")
    keys = [key for key, _ in items]
    if len(set(keys)) != len(keys):
        raise CorruptValue("its header names a key twice")
    return keys, [node for _, node in items]


def _slot(tensor: Tensor, form: Form) -> Slot:
    """Return the array that takes the tensor's data; raises CorruptValue where the form does not go with it."""
    dtype, shape = DTYPES[tensor.dtype], tensor.shape
    if form.complex128:
        if tensor.dtype != "F64" or shape[-1:] != (2,):
            raise CorruptValue("its header calls an array complex128 that is not held as pairs of F64")
        dtype, shape = np.dtype("<c16"), shape[:-1]
    flat = form.kind in ("bytes", "pickle")
    if (flat and (tensor.dtype != "U8" or len(shape) != 1)) or (form.kind == "scalar" and shape):
        raise CorruptValue(f"its header calls an array of shape {shape} {form.kind}")
    return Slot(dtype, shape, form)
