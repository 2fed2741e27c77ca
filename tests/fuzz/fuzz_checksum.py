"""A value with a checksum of which one byte was changed is refused: it never comes back as another value."""

from fuzzing import atheris, fuzz

with atheris.instrument_imports(include=["simai_rules"]):
    from staging_values import decoded, encoded, same

    from simai_rules.staging.errors import StagingError

import numpy as np


def target(data: bytes) -> None:
    """Make a value out of the bytes, stage it with a checksum and change one byte."""
    source = atheris.FuzzedDataProvider(data)
    length = source.ConsumeIntInRange(0, 40)
    values = (
        np.frombuffer(source.ConsumeBytes(8 * length).ljust(8 * length, b"\1"), source.PickValueInList(["f8", "i8"])),
        source.ConsumeUnicodeNoSurrogates(length),
        {"a": np.arange(length, dtype="u1"), source.ConsumeUnicode(8): [source.ConsumeFloat(), length]},
        source.ConsumeBytes(length),
    )
    value = values[source.ConsumeIntInRange(0, len(values) - 1)]
    staged = bytearray(encoded(value, checksum=True))
    if not same(value, decoded(bytes(staged))):
        raise AssertionError("what was staged with a checksum does not come back")
    place = source.ConsumeIntInRange(0, len(staged) - 1)
    staged[place] ^= source.ConsumeIntInRange(1, 255)
    try:
        back = decoded(bytes(staged))
    except StagingError:
        return
    raise AssertionError(f"byte {place} was changed, and {back!r:.200} was read")


if __name__ == "__main__":
    fuzz(target, [bytes(range(40)), b"\0" * 100, b"\xff" * 100])
