"""Streams: values that one process hands to another step by step, where a backend offers that.

A stream has a name, one writer and one reader. The backend's ends (`StepWriter`, `StepReader`) move bytes;
`StreamWriter` and `StreamReader` add the codec, the timing and the order of calls, as DataStore does for values by key.
"""

from collections.abc import Sequence
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from simai_rules.staging.arrays import Array
from simai_rules.staging.backend import Buffer, Incoming
from simai_rules.staging.codec import decode, encode
from simai_rules.staging.errors import CorruptValue, StagingError, StreamTimeout, shorten
from simai_rules.staging.operation import Operation


class StepWriter(Protocol):
    """A backend's writing end of a stream. Deadlines are on the clock of `time.perf_counter_ns`."""

    source: str
    """Where the stream is, for messages."""
    queue_limit: int
    """Steps that may lie unread."""
    discarded: bool
    """The step that was begun is dropped, because there is no room and the stream is not to wait for it."""

    def begin(self, deadline_ns: int) -> bool | None:
        """Wait for room for a step: True when there is, None at the deadline, False if the reader has closed.

        Where the stream discards, it is True at once.

        Raises ServerLost where the reader has ended without closing.
        """

    def put(self, buffers: Sequence[Buffer], nbytes: int) -> None:
        """Hand over the step's value: a header and data, which stay as they are until `end` returns."""

    def end(self, deadline_ns: int) -> None:
        """Make the step visible to the reader."""

    def close(self, deadline_ns: int) -> None:
        """End the stream when all is read; a second call does nothing. Raises StagingError at the deadline."""

    def abandon(self) -> None:
        """End at once and without a word, as a process does that dies; then the reader gets ServerLost."""


class StepReader(Protocol):
    """A backend's reading end of a stream."""

    source: str
    queue_limit: int
    ended: bool
    """The writer has closed the stream and all its steps are read."""

    def begin(self, deadline_ns: int) -> bool:
        """Wait until there is a next step; False at the deadline, or if the stream has ended.

        Raises ServerLost where the writer has ended without closing.
        """

    def take(self) -> int:
        """Take the step that is there and return its number; this is not waiting but part of moving it.

        Raises ServerLost where the writer has ended without closing.
        """

    def open(self, deadline_ns: int) -> Incoming:
        """Begin to read the step's value."""

    def end(self) -> None:
        """Give the step back: the writer has room for another one."""

    def close(self) -> None:
        """Leave the stream; a second call does nothing. The writer is told."""

    def abandon(self) -> None:
        """Leave without a word, as a process does that dies; then the writer gets ServerLost."""


@runtime_checkable
class Streaming(Protocol):
    """An optional ability of a backend: streams between two processes of the run."""

    def stream_writer(self, name: str, deadline_ns: int) -> StepWriter:
        """Open the stream `name` (any text) for writing and wait for its reader; raises StagingError."""

    def stream_reader(self, name: str, deadline_ns: int) -> StepReader:
        """Open the stream `name` for reading and wait for its writer; raises StagingError."""


class _Stream:
    """What both ends have in common: a name, a step that is open or not, the last timing, one life."""

    def __init__(self, name: str, end: StepWriter | StepReader, timeout_ns: int, **codec: bool) -> None:
        self.name, self._timeout_ns, self._codec = name, timeout_ns, codec
        self._stage, self._in_step = end, False
        self._closed = self._used = False
        self._last: tuple[Any, ...] = ("", "", 0, 0)

    @property
    def last(self) -> Operation:
        """The timing of the last step, or of the last wait for one.

        After `begin_step` it is that wait, or that look. After `end_step` it is the write or read of the step, without
        what the caller did in between: its duration is the sum of its parts. A read's transport begins with taking the
        step, once it is known to be there, and ends with giving it back.
        """
        return Operation(*self._last)

    @property
    def queue_limit(self) -> int:
        """Steps that may lie unread."""
        return self._stage.queue_limit

    def _deadline(self, timeout: float | None) -> int:
        return perf_counter_ns() + (self._timeout_ns if timeout is None else int(timeout * 1e9))

    def _require(self, in_step: bool, used: bool | None = None) -> None:
        """Raise StagingError where a call comes out of order."""
        problem = ""
        if self._closed:
            problem = "has been closed and cannot be used on"
        elif in_step and not self._in_step:
            problem = "has no open step: call begin_step first"
        elif self._in_step and not in_step:
            problem = "has an open step: call end_step first"
        elif used is not None and used != self._used:
            problem = "has its one value of this step already" if self._used else "has no value in this step: write one"
        if problem:
            raise StagingError(f"The stream {shorten(self.name)} {problem}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            # The partner is not to take what has failed here for an orderly end.
            self._closed = True
            self._stage.abandon()

    def close(self) -> None:
        raise NotImplementedError


class StreamWriter(_Stream):
    """The writing end: `begin_step`, `write`, `end_step`, again and again, then `close`.

    Leaving its `with` block by an exception drops the stream at once, and the reader gets ServerLost.
    """

    _stage: StepWriter

    @property
    def discarded(self) -> bool:
        """Whether the last step that was begun is dropped: the queue was full, and the policy is to discard."""
        return self._stage.discarded

    def begin_step(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds (None: the DataStore's) for room; False if the reader has closed the stream.

        Raises StreamTimeout where there is no room in time, ServerLost where the reader has died.
        """
        self._require(in_step=False)
        start, waited = perf_counter_ns(), 0
        room = self._stage.begin(start)
        if room is None:
            room = self._stage.begin(self._deadline(timeout))
            waited = perf_counter_ns() - start
        if room is None:
            seconds = self._timeout_ns / 1e9 if timeout is None else timeout
            raise StreamTimeout(
                self.name,
                self._stage.source,
                seconds,
                "had no room for another step",
                f"{self.queue_limit} are unread (queue_limit): its reader is too slow, or hangs (see its log).",
            )
        self._in_step, self._used = room, False
        # There was room at once: nothing of that is worth to be called waiting.
        self._last = ("wait", self.name, start, waited, 0, 0, waited)
        return room

    def write(self, value: Any) -> None:
        """Hand over the value of this step, not to be changed before `end_step`; raises TypeError as stage_write.

        The value of a step that is discarded is not looked at.
        """
        self._require(in_step=True, used=False)
        start = perf_counter_ns()
        if self.discarded:
            self._used, self._began = True, (start, 0, 0, 0)
            return
        buffers, nbytes = encode(value, **self._codec)
        encoded = perf_counter_ns()
        self._stage.put(buffers, nbytes)
        self._used, self._began = True, (start, encoded - start, perf_counter_ns() - encoded, nbytes)

    def end_step(self) -> None:
        """Send the step on its way; afterwards the value is the caller's again."""
        self._require(in_step=True, used=True)
        begin = perf_counter_ns()
        self._stage.end(self._deadline(None))
        start, serialize, transport, nbytes = self._began
        transport += perf_counter_ns() - begin
        self._in_step = False
        self._last = ("write", self.name, start, serialize + transport, serialize, transport, 0, 0, nbytes)

    def close(self, timeout: float | None = None) -> None:
        """End the stream, when the reader has read all of it or has closed it; a second call does nothing.

        Raises StagingError if that takes longer than `timeout` seconds.
        """
        if not self._closed:
            self._closed = True
            self._stage.close(self._deadline(timeout))


class StreamReader(_Stream):
    """The reading end: `begin_step`, `read`, `end_step`, until the stream has `ended`, or `close` before that."""

    _stage: StepReader

    @property
    def ended(self) -> bool:
        """Whether the writer has closed the stream and all its steps are read."""
        return self._stage.ended

    def begin_step(self, timeout: float | None = None) -> int | None:
        """Wait up to `timeout` seconds (None: the DataStore's, 0: only look) for the next step; return its number.

        Steps are numbered from 0 in the order of writing; numbers that are left out were discarded. None: there is none
        yet, or no more (`ended`). Raises ServerLost where the writer has died.
        """
        self._require(in_step=False)
        start = perf_counter_ns()
        there = self._stage.begin(start if timeout == 0 else self._deadline(timeout))
        looked = perf_counter_ns()
        verb, *parts = ("poll", looked - start, 0) if timeout == 0 else ("wait", 0, looked - start)
        self._last = (verb, self.name, start, looked - start, 0, *parts, 0, 0, None, there)
        self._began = (0, 0, 0, 0)
        step = self._stage.take() if there else None
        self._taking = perf_counter_ns() - looked
        self._in_step = there
        return step

    def read(self, out: Array | None = None) -> Any:
        """Return the value of this step; with `out` as stage_read. It can be read again until `end_step`."""
        self._require(in_step=True)
        start = perf_counter_ns()
        try:
            incoming = self._stage.open(self._deadline(None))
            opened = perf_counter_ns()
            value, moving = decode(incoming, out=out, **self._codec)
        except (CorruptValue, StagingError) as error:
            raise type(error)(f"Stream {shorten(self.name)} ({self._stage.source}): {error}") from None
        end = perf_counter_ns()
        self._began = (start, opened - start + moving, end - opened - moving, incoming.nbytes)
        return value

    def end_step(self) -> None:
        """Give the step back, read or not: the writer has room for another one."""
        self._require(in_step=True)
        begin = perf_counter_ns()
        self._stage.end()
        end = perf_counter_ns()
        start, transport, deserialize, nbytes = self._began
        transport += self._taking + end - begin
        self._in_step = False
        self._last = (
            "read", self.name, start or begin, transport + deserialize, 0, transport, 0, deserialize, nbytes,
        )  # fmt: skip

    def close(self) -> None:
        """Leave the stream; the writer's next begin_step returns False. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._stage.close()
