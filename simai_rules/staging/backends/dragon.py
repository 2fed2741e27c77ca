"""Staging in the distributed dictionary of Dragon (DDict).

Every call of Dragon's library is made by a thread that is given up at the deadline (dragon_caller): a verb comes back,
whatever the library does. A client whose thread was given up is dead; its later verbs fail at once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import perf_counter_ns, sleep
from typing import Any, NoReturn, TypeVar

from simai_rules.errors import MissingProgram
from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.backends.dragon_attachment import Attachment, first_line
from simai_rules.staging.backends.dragon_caller import Caller
from simai_rules.staging.backends.dragon_dictionary import RUN_ID, Dictionary, Dropped, Full
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingError, StagingFull, shorten
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.safetensors import header_length

T = TypeVar("T")
PREFIX = b"simai:data:"
_ANSWER_NS = 2 * 10**9
"""The dictionary gets so long for an answer, however close the deadline is."""
_LEAVE_NS = 3 * 10**9
_FEW = 65_536
"""Bytes that are copied sooner than another thread is asked to free them."""
_PAUSES_S = (0.0005, 0.02)
"""The shortest and the longest pause between two looks for a key."""


class DragonValue:
    """A value in shared memory that is being read."""

    __slots__ = ("_free", "_position", "_view", "nbytes", "source")

    def __init__(self, view: memoryview, source: str, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free
        self._position, self.source, self._view = 0, source, view
        self.nbytes = len(view)

    header = None

    def read_header(self) -> bytes:
        """Return the header."""
        length = header_length(bytes(self._next(8)), self.nbytes)
        return bytes(self._next(length))

    def readinto(self, view: memoryview) -> None:
        """Copy the next bytes into an array's memory."""
        target = bytes_of(view)
        target[:] = self._next(len(target))

    def _next(self, length: int) -> memoryview:
        start = self._position
        if self._free is None or start + length > self.nbytes:
            raise CorruptValue(f"it ends {start + length - self.nbytes} bytes early")
        self._position += length
        return self._view[start : start + length]

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        free, self._free, self._view = self._free, None, memoryview(b"")
        if free is not None:
            free()


class Dragon:
    """The client half of the backend dragon."""

    name = "dragon"

    def __init__(self, info: ServerInfo, deadline_ns: int) -> None:
        self._text = str(info.address["dictionary"])
        self._run_id = info.run_id
        self._dictionary: Dictionary | None = None
        self._caller = Caller()
        self._attachment: Attachment | None = None
        self.where = f"dragon runtime of process {info.address['process'][0]}"
        try:
            with self._explained("connect"):
                self._attachment = self._caller.call(lambda: Attachment.use(info, deadline_ns), deadline_ns)
            self._prove(deadline_ns)
        except BaseException:
            self.close()
            raise

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> None:
        """Lay the value ready and hand it to the dictionary."""
        name = _name(key)
        with self._explained(f"write key {shorten(key)} of {nbytes} bytes"):
            self._ask(lambda d, end_ns: d.put(name, buffers, nbytes, end_ns), deadline_ns)

    def open(self, key: str, deadline_ns: int) -> DragonValue:
        """Have the dictionary copy the value for this reader; raises KeyError where there is none."""
        name = _name(key)
        with self._explained(f"read key {shorten(key)}"):
            view, free = self._ask(lambda d, end_ns: self._taken(d.get(name, end_ns)), deadline_ns)
        return DragonValue(view, self.where, free)

    def exists(self, key: str, deadline_ns: int) -> bool:
        """Ask whether the key is there."""
        name = _name(key)
        with self._explained(f"look for key {shorten(key)}"):
            return self._ask(lambda d, end_ns: d.contains(name, end_ns), deadline_ns)

    def delete(self, key: str, deadline_ns: int) -> bool:
        """Take the value out of the dictionary; its memory comes along and is freed, uncopied."""
        name = _name(key)

        def take(dictionary: Dictionary, end_ns: int) -> None:
            with suppress(Dropped):
                dictionary.get(name, end_ns, remove=True).free()

        with self._explained(f"delete key {shorten(key)}"):
            try:
                self._ask(take, deadline_ns)
            except KeyError:
                return False
            return True

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Look again after ever longer pauses: DDict tells nobody of a key that comes."""
        pause_s, longest_s = _PAUSES_S
        while not self.exists(key, deadline_ns):
            left_s = (deadline_ns - perf_counter_ns()) / 1e9
            if left_s <= 0:
                return False
            sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.2, longest_s)
        return True

    def close(self) -> None:
        """Take leave of the dictionary and, with the last DataStore of this process, of the runtime."""
        self._drop()
        attachment, self._attachment = self._attachment, None
        with suppress(Exception):  # a runtime that does not answer has nothing to be detached from
            if attachment is not None:
                self._caller.call(attachment.release, perf_counter_ns() + _LEAVE_NS)
        self._caller.end()

    def _taken(self, memory: Any) -> tuple[memoryview, Callable[[], None]]:
        """Return the bytes in memory of the runtime, and what frees it; few bytes are copied, and it is freed at once.

        To be called by the caller's thread.
        """
        view = bytes_of(memory.get_memview())
        if len(view) > _FEW:
            caller = self._caller
            return view, lambda: caller.post(memory.free)
        copy = memoryview(bytes(view))
        memory.free()
        return copy, _nothing

    def _prove(self, deadline_ns: int) -> None:
        """Check that the dictionary is the one of this run; raises ServerLost where it is not."""

        def read(dictionary: Dictionary, end_ns: int) -> bytes:
            view, free = self._taken(dictionary.get(RUN_ID, end_ns))
            found = bytes(view)
            free()
            return found

        with self._explained("connect"):
            try:
                found = self._ask(read, deadline_ns).decode(errors="replace")
            except KeyError:
                found = "nobody"
        if found != self._run_id:
            raise ServerLost(
                f"The {self.where} belongs to the run {found!r}, not to {self._run_id!r}. Check that server.json is "
                "the one of the run that is going on."
            )

    def _ask(self, question: Callable[[Dictionary, int], T], deadline_ns: int) -> T:
        """Return what `question` gets out of the dictionary, which is attached anew after an error.

        The deadline that it is given leaves time for one answer: to be cut off in the middle costs the connection.
        """
        attachment = self._attachment
        if attachment is None:
            raise StagingError("This connection to dragon has been closed.")
        attachment.check_often()
        end_ns = max(deadline_ns, perf_counter_ns() + _ANSWER_NS)

        def ask() -> T:
            if self._dictionary is None:
                self._dictionary = Dictionary(self._text, end_ns, attachment.check)
            return question(self._dictionary, end_ns)

        return self._caller.call(ask, end_ns)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Say what could not be done where the dictionary or its library fails, and give up the connection."""
        try:
            yield
        except KeyError:
            raise
        except Full:
            raise StagingFull(
                f"The {self.where} has no room to {what}. Dragon gives every value a power of two of bytes and "
                "keeps a tenth of its memory free; stage smaller or fewer values at a time (let the reader keep up), "
                "or set more backends.dragon.total_mem."
            ) from None
        except MissingProgram:
            raise
        except (StagingError, OSError) as error:
            self._drop()
            self._fail(what, error)
        except Exception as error:
            self._drop()
            if self._attachment is not None:
                self._attachment.check()
            self._fail(what, error)
        except BaseException:
            self._drop()
            raise

    def _fail(self, what: str, error: Exception) -> NoReturn:
        text = str(error) if isinstance(error, StagingError) else f"{type(error).__name__}: {first_line(error)}"
        kind = type(error) if isinstance(error, StagingError) else ServerLost
        raise kind(f"The {self.where} could not {what}: {text}") from None

    def _drop(self) -> None:
        """Give up the connection to the dictionary, on which an answer may be half read."""
        attachment = self._attachment

        def leave() -> None:
            dictionary, self._dictionary = self._dictionary, None
            if dictionary is None or attachment is None:
                return
            with suppress(Exception):  # it is given up anyway
                if attachment.alive:
                    dictionary.close(perf_counter_ns() + 10**9)
                else:
                    dictionary.abandon()

        self._caller.post(leave)


def connect(info: ServerInfo, deadline_ns: int) -> Dragon:
    """Attach to the runtime and check that it is the one of this run; raises ServerLost where it is not."""
    return Dragon(info, deadline_ns)


def _nothing() -> None:
    """Free nothing."""


def _name(key: str) -> bytes:
    return PREFIX + key.encode("utf-8", "surrogatepass")
