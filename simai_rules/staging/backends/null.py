"""No transport at all: what is written is dropped, and reads are answered from memory.

Kept are each value's header and its size, so that a read gives a value of the right type, dtype and shape. The content
of its arrays, and of bytes, is whatever the memory held that the read has allocated. Texts, numbers and lists stand in
the header and come back as they were. What a verb takes here is the cost of simai-rules' own layers, and no backend can
be faster. The values are those of one process: another one has none of them.
"""

from collections.abc import Sequence
from time import perf_counter_ns, sleep

from simai_rules.staging.backend import Buffer
from simai_rules.staging.errors import CorruptValue, StagingError, shorten
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.plan import read_plan

_PAUSE_S = 0.001
_runs: dict[str, dict[str, tuple[bytes, int]]] = {}
"""Header and size of every value by run and key; all clients of this process share them."""


class NullValue:
    """A value whose arrays are left as they were allocated."""

    __slots__ = ("header", "nbytes")
    source = "no place"

    def __init__(self, header: bytes, nbytes: int) -> None:
        self.header, self.nbytes = header, nbytes

    def read_header(self) -> bytes:
        """Not needed: the header comes along."""
        return self.header

    def readinto(self, view: memoryview) -> None:
        """Leave the memory as it is."""

    def close(self) -> None:
        """Nothing to end."""


class Null:
    """The client half of null."""

    name, where = "null", "this process"

    def __init__(self, run_id: str) -> None:
        self._values = _runs.setdefault(run_id, {})

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:  # noqa: ARG002
        """Remember the header and the size."""
        header = bytes(buffers[0])[8:]
        if b"pickle" in header or b"xxh3" in header:
            _refuse_what_needs_content(key, header, nbytes)
        there = key in self._values
        self._values[key] = header, nbytes
        return there

    def open(self, key: str, deadline_ns: int) -> NullValue:  # noqa: ARG002
        """Return a value of the header and size that were put; raises KeyError where there is none."""
        return NullValue(*self._values[key])

    def exists(self, key: str, deadline_ns: int) -> bool:  # noqa: ARG002
        """Return whether this process has put it."""
        return key in self._values

    def delete(self, key: str, deadline_ns: int) -> bool:  # noqa: ARG002
        """Forget the key."""
        return self._values.pop(key, None) is not None

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Look again and again: only another thread of this process can put it."""
        while key not in self._values:
            left = (deadline_ns - perf_counter_ns()) / 1e9
            if left <= 0:
                return False
            sleep(min(left, _PAUSE_S))
        return True

    def close(self) -> None:
        """Nothing to release."""


def _refuse_what_needs_content(key: str, header: bytes, nbytes: int) -> None:
    """Raise StagingError for a value with a checksum, and a pickled one: that would run whatever the memory holds."""
    try:
        plan, _, checksum = read_plan(header, nbytes)
    except CorruptValue:
        return
    if plan.pickled or checksum is not None:
        what = "is staged by pickle" if plan.pickled else "has a checksum"
        raise StagingError(
            f"null keeps no content, so the value of key {shorten(key)}, which {what}, "
            "could not be read back. Stage it without, or choose another backend."
        )


def connect(info: ServerInfo, deadline_ns: int) -> Null:  # noqa: ARG001
    """Return a client of the run's values in this process."""
    return Null(info.run_id)
