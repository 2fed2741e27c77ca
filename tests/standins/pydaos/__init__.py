"""A stand-in for pydaos, the Python interface of DAOS, for tests on machines without DAOS. It is not pydaos.

It has the calls of pydaos 2.2 to 2.4 that simai-rules uses, with what is odd about them:

- putting None, "" or b"" deletes; deleting, or popping, what is not there is no error, and pop returns nothing;
- values are bytes or text (TypeError else) and come back as bytes; keys are C strings, which end at a NUL;
- `bget` changes the dict that it is given, in which a missing key gets the value None;
- values above `DDict.value_size` take a second round trip (`round_trips` counts them; the real one has no such count);
- there is no call to remove an object from a container, nor one with a deadline, and while a call waits, the process
  stands still: pydaos waits in C and keeps the interpreter's lock.

The label of a pool is the folder in which this one keeps it, with a folder per container, one per object in that and
one file per key, so that all processes see the same. The text of a file `fault` in the pool's folder says what is
wrong with its DAOS: `dead` (every call fails), `full` (every put fails) or `hanging` (no call returns).
"""

import ctypes
import uuid
from hashlib import sha256
from pathlib import Path

_PAUSE_US = 200_000


class PyDError(Exception):
    """An operation that could not be completed."""

    def __init__(self, message, rc):
        super().__init__(f"{message}: {rc}")


class DObjNotFound(Exception):
    """There is no object of that name."""

    def __init__(self, name):
        self.name = name
        super().__init__(self)

    def __str__(self):
        return f"Failed to open '{self.name}'"


class DCont:
    """A container of type PYTHON."""

    def __init__(self, pool=None, cont=None, path=None):
        if path is not None or pool is None or cont is None:
            raise PyDError("invalid pool or container UUID", "DER_INVAL")
        self.pool, self.cont = pool, cont
        self._pool = Path(pool)
        self._folder = self._pool / cont
        self._fault("failed to access container")
        if not self._folder.is_dir():
            raise PyDError("failed to access container", "DER_NONEXIST")

    def get(self, name):
        self._fault("failed to look up name")
        if not (self._folder / name).is_dir():
            raise DObjNotFound(name)
        return DDict(name, self)

    def __getitem__(self, name):
        return self.get(name)

    def dict(self, name, v=None):
        self._fault("failed to create DAOS dict")
        try:
            (self._folder / name).mkdir()
        except FileExistsError:
            raise PyDError("failed to create DAOS dict", "DER_EXIST") from None
        made = DDict(name, self)
        made.bput(v)
        return made

    def _fault(self, message, writing=False):
        while True:
            try:
                fault = (self._pool / "fault").read_text().strip()
            except FileNotFoundError:
                return
            if fault == "dead":
                raise PyDError(message, "DER_TIMEDOUT")
            if fault == "full" and writing:
                raise PyDError(message, "DER_NOSPACE")
            if fault != "hanging":
                return
            ctypes.PyDLL(None).usleep(_PAUSE_US)  # PyDLL keeps the interpreter's lock


def _c_string(key):
    text = key.encode() if isinstance(key, str) else key
    if not isinstance(text, bytes):
        raise TypeError(f"expected bytes, {type(key).__name__} found")
    return text.partition(b"\0")[0]


class DDict:
    """A key-value object."""

    value_size = 1024 * 1024

    def __init__(self, name, cont):
        self.name, self.cont, self.round_trips = name, cont, 0
        self._folder = cont._folder / name

    def get(self, key):
        found = self.bget({key: None})[key]
        if found is None:
            raise KeyError(key)
        return found

    __getitem__ = get

    def put(self, key, val):
        self.bput({key: val})

    __setitem__ = put

    def pop(self, key):
        self.put(key, None)

    __delitem__ = pop

    def bget(self, d, value_size=None):
        self.cont._fault("failed to retrieve KV value")
        if d is None:
            return d
        for key in d:
            path, start = self._place(key)
            try:
                d[key] = path.read_bytes()[start:]
            except FileNotFoundError:
                d[key] = None
            self.round_trips += 1 + (len(d[key] or b"") > (value_size or self.value_size))
        return d

    def bput(self, d):
        self.cont._fault("failed to store KV value", writing=bool(d) and any(d.values()))
        for key, value in (d or {}).items():
            path, _ = self._place(key)
            if isinstance(value, str):
                value = value.encode()
            if value is not None and not isinstance(value, bytes):
                raise TypeError(f"expected bytes, {type(value).__name__} found")
            if not value:
                path.unlink(missing_ok=True)
                continue
            name = _c_string(key)
            temporary = path.with_name(f".{uuid.uuid4().hex}")
            with temporary.open("wb") as file:
                file.write(len(name).to_bytes(8, "little") + name)
                file.write(value)
            temporary.rename(path)
            self.round_trips += 1

    def _place(self, key):
        """Return the key's file, and where in it the value begins: its own name stands before."""
        name = _c_string(key)
        return self._folder / sha256(name).hexdigest(), 8 + len(name)

    def __iter__(self):
        self.cont._fault("failed to enumerate Dictionary")
        for file in list(self._folder.iterdir()):
            if not file.name.startswith("."):
                try:
                    content = file.read_bytes()
                except FileNotFoundError:
                    continue
                yield content[8 : 8 + int.from_bytes(content[:8], "little")].decode()

    def __len__(self):
        return sum(1 for _ in self)

    def __bool__(self):
        return any(True for _ in self)

    def __contains__(self, key):
        try:
            self.get(key)
        except KeyError:
            return False
        return True

    def dump(self):
        return self.bget(dict.fromkeys(self))
