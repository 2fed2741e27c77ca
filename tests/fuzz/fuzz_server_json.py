"""Any content of a server.json is read as the description of a server or refused as ServerLost."""

import dataclasses
import json

from fuzzing import atheris, fuzz

with atheris.instrument_imports(include=["simai_rules"]):
    from simai_rules.staging.errors import ServerLost
    from simai_rules.staging.info import ServerInfo

INFO = ServerInfo("redis", "0123456789abcdef", "ready", hosts=("a", "b"), address={"port": 1}, run_folder="/x", pid=7)


class Held:
    """A file that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_bytes(self) -> bytes:
        """Return its content, as Path.read_bytes does."""
        return self._data


VALUES = [None, True, 1, -1, 2**70, 1.5, float("nan"), "", "ready", "failed", "odd", "\ud800", [], ["a"], [1], {}]


def built(data: bytes) -> bytes:
    """Return a server.json that is nearly right."""
    source = atheris.FuzzedDataProvider(data)
    content = INFO.as_dict()
    for _ in range(source.ConsumeIntInRange(0, 4)):
        name = source.PickValueInList([*content, "more"])
        if source.ConsumeBool():
            content.pop(name, None)
        else:
            content[name] = source.PickValueInList(VALUES)
    return json.dumps(content).encode()


def target(data: bytes) -> None:
    """Read the bytes, or what is built by them, as a server.json; what was read can be written and read again."""
    if data[:1] == b"B":
        data = built(data[1:])
    try:
        info = ServerInfo.read(Held(data))  # type: ignore[arg-type]
    except ServerLost as error:
        str(error)
        return
    again = ServerInfo.from_dict(json.loads(json.dumps(info.as_dict())))
    if repr(again) != repr(info):
        raise AssertionError(f"{info} came back as {again}")


def seeds() -> list[bytes]:
    """Return files of each state."""
    states = ("starting", "ready", "failed", "stopped")
    return [json.dumps(dataclasses.replace(INFO, state=state).as_dict()).encode() for state in states] + [
        b"{}",
        b"[]",
        b"B" + bytes(range(40)),
    ]


if __name__ == "__main__":
    words = [json.dumps(field.name) + ":" for field in dataclasses.fields(INFO)]
    fuzz(target, seeds(), [*words, "null", "[", "{", "NaN", "1e999", "true", '"ready"'])
