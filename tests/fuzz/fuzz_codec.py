"""Any bytes are read as a value or refused as CorruptValue or StagingError; what was read is staged and read alike."""

from fuzzing import atheris, fuzz

with atheris.instrument_imports(include=["simai_rules"]):
    from staging_values import decoded, encoded, same

    from simai_rules.staging.errors import StagingError
    from simai_rules.staging.safetensors import DTYPES, framed

import json
import sys
from typing import Any

import numpy as np

SEEDS = [
    np.arange(6, dtype="f4").reshape(2, 3),
    np.asfortranarray(np.ones((2, 3))),
    np.array([1 + 2j]),
    np.float32(1.5),
    b"bytes",
    {"a": np.zeros((0, 3), "i8"), "n": 3, "text": ["x", {"y": None}], "raw": b"ab"},
    [1, 2.5, "text"],
]


NUMBERS = [0, 1, 2, 3, 4, 8, 16, -1, 2**31, 2**62, 2**63, 2**64, 1.0, True, None, "1", float("nan")]
NAMES = ["a", "b", "data", "", "__metadata__", "\ud800"]
KINDS = ["array", "scalar", "bytes", "torch", "pickle", "odd", None, []]
WORDS = ["__metadata__", "simai", "json", "xxh3", "format", "root", "items", "tensor", "kind", "fortran", "complex128"]
WORDS += [*DTYPES, "dtype", "shape", "data_offsets", "pickle", "torch", "NaN", "1e999"]
WORDS += ['{\\"format\\": 1, \\"root\\": {']


def built(source: Any) -> bytes:
    """Return a header that is nearly right, with data of about the size that it tells."""

    def some(choices: list[Any], most: int) -> list[Any]:
        return [source.PickValueInList(choices) for _ in range(source.ConsumeIntInRange(0, most))]

    tensors, end = {}, 0
    for name in some(NAMES, 4):
        dtype, shape = source.PickValueInList([*DTYPES, "F4"]), some(NUMBERS if source.ConsumeBool() else [1, 2, 3], 4)
        size = DTYPES[dtype].itemsize if dtype in DTYPES else 4
        for number in shape:
            size *= number if type(number) is int and 0 <= number <= 16 else 1
        begin, end = end, end + size
        offsets = [begin, end] if source.ConsumeIntInRange(0, 9) else some(NUMBERS, 3)
        tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    nodes: list[Any] = []
    for number, name in enumerate(some(list(tensors) or NAMES, 4)):
        node = {"json": number} if source.ConsumeIntInRange(0, 3) == 0 else {"tensor": name}
        for field, values in (("kind", KINDS), ("fortran", NUMBERS), ("complex128", NUMBERS)):
            if source.ConsumeIntInRange(0, 3) == 0:
                node[field] = source.PickValueInList(values)
        nodes.append([source.PickValueInList(NAMES), node])
    root = {"items": nodes} if source.ConsumeBool() or not nodes else nodes[0][1]
    described = {"format": source.PickValueInList([1, 1, 1, 2]), "root": root}
    metadata = {"json": json.dumps(some(NUMBERS, 3)), "simai": json.dumps(described)}
    header = json.dumps({"__metadata__": metadata, **tensors} if source.ConsumeIntInRange(0, 5) else tensors)
    return framed(header) + bytes(max(0, end + source.ConsumeIntInRange(-1, 1) * (source.ConsumeIntInRange(0, 9) == 0)))


def plain(value: Any) -> Any:
    """Return `value` with its torch tensors as what they are made of, which can be compared."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    return [str(value.dtype), list(value.shape), value.reshape(-1).view(torch.uint8).numpy().tobytes()]


def target(data: bytes) -> None:
    """Read the bytes as they are, as the text of a header and its data, or as what a header is built by."""
    if data[:1] == b"B":
        data = built(atheris.FuzzedDataProvider(data[1:]))
    if data[:1] == b"H":
        # A right length before the header: without it hardly any mutation would get past the first eight bytes.
        header, _, rest = data[1:].partition(b"\0")
        data = len(header).to_bytes(8, "little") + header + rest
    try:
        value = decoded(data)
    except StagingError:
        return
    try:
        again = encoded(value)
    except TypeError as error:
        # JSON is read up to Python's depth, and written up to 100 levels.
        if "deep" not in str(error):
            raise
        return
    if not same(plain(value), plain(decoded(again))):
        raise AssertionError("the value that was read is not the one that comes back when it is staged")


def seeds() -> list[bytes]:
    """Return values as they are staged, and as header and data."""
    whole = [encoded(value, checksum=checksum) for value in SEEDS for checksum in (False, True)]
    split = []
    for data in whole:
        end = 8 + int.from_bytes(data[:8], "little")
        split.append(b"H" + data[8:end].rstrip() + b"\0" + data[end:])
    return [*whole, *split, framed("{}"), b"B" + bytes(range(100)), b"B" + bytes(range(255, 0, -1)) * 3]


if __name__ == "__main__":
    fuzz(target, seeds(), WORDS)
