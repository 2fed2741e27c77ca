"""The file name of any key stays inside its folder, is at most 255 bytes long, and is the name of no other key."""

from fuzzing import atheris, fuzz

with atheris.instrument_imports(include=["simai_rules"]):
    from simai_rules.staging.keys import TEMPORARY, file_name


def target(data: bytes) -> None:
    """Make two keys out of the bytes and compare their names."""
    source = atheris.FuzzedDataProvider(data)
    first = source.ConsumeUnicode(source.ConsumeIntInRange(1, 400))
    second = source.ConsumeUnicode(400)
    for key in (first, second):
        if not key:
            return
        name = file_name(key)
        if not name.isascii() or not name.isprintable() or set(name) & set("/\0") or len(name) > 255:
            raise AssertionError(f"{key!r} has the file name {name!r}")
        if name.startswith((".", TEMPORARY)):
            raise AssertionError(f"{key!r} has the hidden name {name!r}")
    others = {second, file_name(first), first.replace("/", "%2F"), first.rstrip("."), first.lower()} - {first, ""}
    for other in others:
        if file_name(other) == file_name(first):
            raise AssertionError(f"{first!r} and {other!r} have the same name {file_name(first)!r}")


if __name__ == "__main__":
    fuzz(target, [b"../../x", b"a/b" * 30, b"\xff\xd8" * 50, b"%2E#" * 60])
