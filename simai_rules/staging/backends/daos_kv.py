"""Key-value objects of a DAOS container, by pydaos. Tested against a stand-in of pydaos, not on real DAOS yet.

A run has one object of its own, in which lie

    k<file name of the key>     b"v" and the value, or, for a long one, b"c" and its bytes, their chunks' and their name
    c<client>.<number>.<chunk>  a chunk of a long value, under a name that is never used again
    run                         the id of the run

DAOS replaces the value of a key as a whole, so a reader of a short value gets the old one or the new one. Of a long one
the chunks come first, then the entry that names them, and the chunks of the value before are removed last: a reader
who misses one looks for the entry again. DAOS does not tell a writer which entry it has just replaced, so where two
writers replace one key at the same time, chunks may stay until the run ends. How large a value may be is not
documented; chunks of 1 MiB are what pydaos fetches in one round trip, up to 16 of them at the same time. It takes and
gives `bytes` only, so each side copies.

pydaos has no deadlines, and it waits in C with the interpreter's lock held, so that this process can keep none either.
That a DAOS does not answer any more is noticed by the server, which asks it from another process and ends the run.
"""

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import perf_counter_ns
from typing import Any, NamedTuple, NoReturn

from simai_rules.errors import MissingProgram
from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingError, StagingFull, shorten
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.keys import file_name
from simai_rules.staging.safetensors import header_length
from simai_rules.staging.waiting import pause_after

CHUNK = 1024 * 1024
AT_ONCE = 16
"""Requests that pydaos keeps in flight."""
RUN = "run"
_PATIENCE_NS = 10**9
"""Least time for looking again at a key that others replace, whatever the deadline."""
_SHORTEST_S = 0.0005
"""The least pause between two looks."""

_LONG = re.compile(rb"c([0-9]{1,12}) ([0-9]+) (c[0-9a-f]{16}\.[0-9]+)")
"""An entry that names chunks."""

Entries = dict[str, bytes | None]


class Chunks(NamedTuple):
    """Where a long value is."""

    nbytes: int
    chunk: int
    name: str

    @property
    def names(self) -> Iterator[str]:
        """The names of the chunks, in their order."""
        return (f"{self.name}.{number}" for number in range(-(-self.nbytes // self.chunk)))


class DaosValue:
    """A value that has been fetched; its parts are let go as they are read."""

    def __init__(self, parts: Iterable[memoryview], nbytes: int, source: str) -> None:
        self._parts, self.nbytes, self.source = deque(parts), nbytes, source
        start = self._parts[0] if self._parts else memoryview(b"")
        end = 8 + int.from_bytes(start[:8], "little")
        self.header: bytes | None = None
        if end <= len(start):
            self.header = bytes(start[8:end])
            self._parts[0] = start[end:]

    def read_header(self) -> bytes:
        """Return a header that is longer than the first part, or raise CorruptValue."""
        prefix = bytearray(min(8, self.nbytes))
        self.readinto(memoryview(prefix))
        text = bytearray(header_length(prefix, self.nbytes))
        self.readinto(memoryview(text))
        return bytes(text)

    def readinto(self, view: memoryview) -> None:
        """Fill an array's memory with the next bytes of the value."""
        view = bytes_of(view)
        while view:
            if not self._parts:
                raise CorruptValue(f"it ends {len(view)} bytes early")
            part = self._parts.popleft()
            taken = part[: len(view)]
            view[: len(taken)] = taken
            view = view[len(taken) :]
            if len(taken) < len(part):
                self._parts.appendleft(part[len(taken) :])

    def close(self) -> None:
        """Let the rest go."""
        self._parts.clear()


class DaosKv:
    """The client half of the backend daos-kv."""

    name = "daos-kv"

    def __init__(self, info: ServerInfo) -> None:
        pool, container, name = (str(info.address[part]) for part in ("pool", "container", "object"))
        self.where = f"{pool}/{container}/{name}"
        self._pydaos, self._run_id = import_pydaos(), info.run_id
        try:
            self._object: Any = self._pydaos.DCont(pool, container).get(name)
        except self._pydaos.DObjNotFound:
            self._gone()
        except self._pydaos.PyDError as error:
            self._fail(error, "be reached")
        self._client, self._number = os.urandom(8).hex(), 0
        self._look(RUN, "be reached")

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:  # noqa: ARG002
        """Store the value, in one entry or in chunks; return whether that replaced one."""
        entry, what = _entry(key), f"take key {shorten(key)} ({nbytes} bytes)"
        if nbytes < CHUNK:
            old = self._look(entry, what)
            self._store({entry: b"".join((b"v", *map(bytes_of, buffers)))}, what)
        else:
            self._number += 1
            new = Chunks(nbytes, CHUNK, f"c{self._client}.{self._number}")
            try:
                pieces = zip(new.names, _pieces(buffers), strict=True)
                while group := dict(islice(pieces, AT_ONCE)):
                    self._store(group, what)
                    group.clear()  # not kept beside the next
                old = self._look(entry, what)
                self._store({entry: f"c{new.nbytes} {new.chunk} {new.name}".encode()}, what)
            except BaseException:
                with contextlib.suppress(StagingError):
                    self._remove(new)
                raise
        self._remove_chunks(old)
        return old is not None

    def open(self, key: str, deadline_ns: int) -> DaosValue:
        """Fetch the value; raises KeyError where there is none.

        All of it is fetched here: once the first bytes are handed on, a value that is replaced could not be changed
        for the new one any more.
        """
        entry, what, source = _entry(key), f"give key {shorten(key)}", f"{self.where}, entry {_entry(key)}"
        until = max(deadline_ns, perf_counter_ns() + _PATIENCE_NS)
        found = self._look(entry, what)
        while found is not None:
            try:
                chunks = _chunks(found)
            except ValueError:
                raise CorruptValue(
                    f"Key {shorten(key)} on {self.name} ({source}) has an entry that no writer makes. Stage it again."
                ) from None
            if chunks is None:
                return DaosValue([memoryview(found)[1:]], len(found) - 1, source)
            parts = self._fetch(chunks, what)
            if parts is not None:
                return DaosValue(parts, chunks.nbytes, source)
            again = self._look(entry, what)
            if again == found:
                raise CorruptValue(f"Key {shorten(key)} on {self.name} ({source}) has lost chunks. Stage it again.")
            if perf_counter_ns() > until:
                raise StagingError(
                    f"Key {shorten(key)} on {self.name} ({self.where}) is replaced faster than it can be read. Write "
                    "each step under a key of its own."
                )
            found = again
        raise KeyError(key)

    def exists(self, key: str, deadline_ns: int = 0) -> bool:  # noqa: ARG002
        """Return whether the key has an entry."""
        return self._look(_entry(key), f"look for key {shorten(key)}") is not None

    def delete(self, key: str, deadline_ns: int) -> bool:  # noqa: ARG002
        """Remove the key's entry, then its chunks."""
        entry, what = _entry(key), f"delete key {shorten(key)}"
        found = self._look(entry, what)
        if found is not None:
            self._store({entry: None}, what)
            self._remove_chunks(found)
        return found is not None

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Look again and again: DAOS tells nobody of what happens to a key."""
        start = perf_counter_ns()
        while not self.exists(key):
            now = perf_counter_ns()
            if now >= deadline_ns:
                return False
            time.sleep(min(pause_after(now - start, _SHORTEST_S), (deadline_ns - now) / 1e9))
        return True

    def close(self) -> None:
        """Let the object go; pydaos then closes its handles."""
        self._object = None

    def _look(self, entry: str, what: str) -> bytes | None:
        """Return the content of an entry; raises ServerLost where the object is not, or not any more, the run's."""
        found = self._get({entry: None, RUN: None}, what)
        if found[RUN] != self._run_id.encode():
            self._gone()
        return found[entry]

    def _get(self, wanted: Entries, what: str) -> Entries:
        try:
            self._object.bget(wanted)
        except self._pydaos.PyDError as error:
            self._fail(error, what)
        return wanted

    def _store(self, entries: Mapping[str, bytes | None], what: str) -> None:
        try:
            self._object.bput(entries)
        except self._pydaos.PyDError as error:
            self._fail(error, what)

    def _fetch(self, chunks: Chunks, what: str) -> list[memoryview] | None:
        """Return the chunks; None where one of them has gone."""
        parts: list[memoryview] = []
        names = chunks.names
        while group := list(islice(names, AT_ONCE)):
            found = self._get(dict.fromkeys(group), what)
            for name in group:
                part = found[name]
                if part is None:
                    return None
                parts.append(memoryview(part))
        return parts

    def _remove_chunks(self, entry: bytes | None) -> None:
        """Remove the chunks that an entry names; those of a damaged one are not known, and go with the run."""
        with contextlib.suppress(ValueError):
            if chunks := _chunks(entry):
                self._remove(chunks)

    def _remove(self, chunks: Chunks) -> None:
        self._store(dict.fromkeys(chunks.names), "remove what was replaced")

    def _gone(self) -> NoReturn:
        raise ServerLost(
            f"The DAOS object {self.where} is gone or not that of the run {self._run_id}: its server has stopped and "
            "emptied it. See the server's log and failures/ in the point's results."
        )

    def _fail(self, error: Exception, what: str) -> NoReturn:
        """Raise the staging error that an error of pydaos means."""
        if "DER_NOSPACE" in str(error):
            raise StagingFull(
                f"{self.name}: the pool of {self.where} has no room to {what} ({error}). Stage smaller or fewer values "
                "at a time (let the reader keep up), or use a larger pool."
            ) from None
        raise ServerLost(
            f"{self.name}: {self.where} cannot {what} ({error}). Is DAOS up (daos pool query), and its agent on this "
            "node?"
        ) from None


def connect(info: ServerInfo, deadline_ns: int) -> DaosKv:  # noqa: ARG001
    """Open the run's object; raises ServerLost where it is not there or not the run's."""
    return DaosKv(info)


def import_pydaos() -> Any:
    """Return the package pydaos; raises MissingProgram with the way to get it."""
    try:
        import pydaos
    except ImportError as error:
        raise MissingProgram(
            f"The backend daos-kv needs the Python package pydaos, which cannot be imported ({error}). It comes with "
            "DAOS, not from PyPI: load the site's module (module load daos) and use a Python that it was built for, "
            "or put its folder on PYTHONPATH. Else use the backend daos-posix."
        ) from None
    return pydaos


def _entry(key: str) -> str:
    """Return the entry of a key. pydaos passes names on as C strings, which a NUL ends; file names have none."""
    return f"k{file_name(key)}"


def _chunks(entry: bytes | None) -> Chunks | None:
    """Return where a long value is; None for a short one, and where there is none.

    Raises ValueError for an entry that no writer makes.
    """
    if entry is None or entry.startswith(b"v"):
        return None
    found = _LONG.fullmatch(entry)
    if not found or int(found[2]) != CHUNK:
        raise ValueError
    return Chunks(int(found[1]), CHUNK, found[3].decode())


def _pieces(buffers: Sequence[Buffer]) -> Iterator[bytes]:
    """Cut what the buffers hold together into chunks."""
    parts: list[memoryview] = []
    room = CHUNK
    for buffer in buffers:
        rest = bytes_of(buffer)
        while rest:
            parts.append(rest[:room])
            room -= len(parts[-1])
            rest = rest[len(parts[-1]) :]
            if not room:
                yield b"".join(parts)
                parts, room = [], CHUNK
    if parts:
        yield b"".join(parts)
