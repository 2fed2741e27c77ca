"""A connection that speaks redis' protocol (RESP2) without copying values: sendmsg out of arrays, recv into arrays.

Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/. Time limits are the kernel's (SO_RCVTIMEO,
SO_SNDTIMEO), because Python's own would cost a poll before every call and rule out MSG_WAITALL, which fills a whole
array by one call.
"""

import contextlib
import select
import socket
import struct
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any, NoReturn

from simai_rules.staging.backend import Buffer, size_of
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.vectored import IOV_MAX, write_rest

_PATIENCE_NS = 10**9
"""Least time that the server gets for its next byte, whatever the deadline: it may be serving others."""
_RENEW_NS = 10**8
"""The kernel's limit is set anew before a call that comes this long after the last time it was set."""
_BUFFER = 16384
LONGEST_VALUE = 512 * 1024 * 1024
"""Bytes that one value of redis holds at most."""
_LONGEST_REPLY = 16 * 1024 * 1024
"""Most bytes or items of a reply that is no value: names, ids, lists of servers."""
_DEEPEST = 4


class ReplyError(Exception):
    """An error reply of the server, such as `OOM command not allowed…`."""


class Connection:
    """One TCP connection to a redis server.

    After a ServerLost it is closed and of no more use. A deadline holds for a server that is silent, which is noticed
    at most a second after it: a transfer that still moves when its deadline passes goes on.
    """

    def __init__(self, host: str, port: int, deadline_ns: int) -> None:
        self.where = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=_left_ns(deadline_ns) / 1e9)
        except OSError as error:
            raise ServerLost(
                f"The redis server at {self.where} cannot be reached ({error}). It has stopped, is on a node that this "
                "one cannot reach, or was never started: see its log."
            ) from None
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._deadline_ns = deadline_ns
        self._limit()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._socket.close()

    def send(self, commands: Sequence[Buffer], deadline_ns: int) -> None:
        """Send whole commands; their replies are then awaited until the same deadline."""
        self._deadline_ns = deadline_ns
        self._limit()
        try:
            sent = self._socket.sendmsg(commands[:IOV_MAX])
            if sent != size_of(commands):
                write_rest(self._send_more, commands, sent)
        except OSError as error:
            self._lose(error)

    def _send_more(self, buffers: Sequence[Buffer]) -> int:
        self._limit()
        return self._socket.sendmsg(buffers)

    def reply(self, nested: int = 0) -> Any:
        """Return the next reply: str, int, bytes, None, or a list of these. Raises ReplyError for an error reply."""
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode(errors="replace")
        if kind == b"$":
            return None if rest == b"-1" else self._exactly(self._number(rest, _LONGEST_REPLY))
        if kind == b":":
            return self._number(rest, 2**63)
        if kind != b"*" or nested == _DEEPEST:
            self._lose(None)
        return [self.reply(nested + 1) for _ in range(self._number(rest, _LONGEST_REPLY))]

    def value_size(self) -> int | None:
        """Return the size of the value that comes next, to be read by `readinto`; None where there is no value."""
        line = self.line()
        if line == b"$-1":
            return None
        return self._number(line[1:] if line[:1] == b"$" else b"", LONGEST_VALUE)

    def _number(self, text: bytes, most: int) -> int:
        """Return a number of a reply; what is no server of ours may send anything: nothing is allocated for it."""
        if not text.isdigit() or len(text) > 19 or int(text) > most:
            self._lose(None)
        return int(text)

    def line(self) -> bytes:
        """Return the next line of a reply without its end; raises ReplyError for an error reply."""
        while (stop := self._buffer.find(b"\r\n", self._begin, self._end)) < 0:
            self._fill()
        line = bytes(self._view[self._begin : stop])
        self._begin = stop + 2
        if line[:1] == b"-":
            raise ReplyError(line[1:].decode(errors="replace"))
        return line

    def _exactly(self, count: int) -> bytes:
        text = bytearray(count)
        self.readinto(memoryview(text), last=True)
        return bytes(text)

    def readinto(self, view: memoryview, last: bool) -> None:
        """Fill `view` with the next bytes of a reply; after the `last` ones of a value, take the line's end too."""
        held = min(self._end - self._begin, len(view))
        view[:held] = self._view[self._begin : self._begin + held]
        self._begin += held
        view = view[held:]
        while len(view):
            self._renew_limit()
            try:
                count = self._socket.recv_into(view, 0, socket.MSG_WAITALL)
            except OSError as error:
                self._lose(error)
            if count < len(view):
                if not count:
                    self._lose(None)
                self._limit()  # the kernel has waited for all of its time
            view = view[count:]
        if last:
            self.end_line()

    def end_line(self) -> None:
        """Take the end of a line, which also follows a value."""
        while self._end - self._begin < 2:
            self._fill()
        self._begin += 2

    def _fill(self) -> None:
        """Take what has come into the buffer."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin:
            held = self._end - self._begin
            self._buffer[:held] = self._buffer[self._begin : self._end]
            self._begin, self._end = 0, held
        if self._end == _BUFFER:
            self._lose(None)  # a line of this length is not redis' language
        self._renew_limit()
        try:
            count = self._socket.recv_into(self._view[self._end :])
        except OSError as error:
            self._lose(error)
        if not count:
            self._lose(None)
        self._end += count

    def wait(self, deadline_ns: int) -> bool:
        """Return whether something of a reply is there before the deadline; it stays to be read."""
        left_ms = (deadline_ns - perf_counter_ns()) / 1e6
        return self._end > self._begin or (left_ms > 0 and bool(self._poll.poll(left_ms)))

    def _renew_limit(self) -> None:
        """Set the limit anew if part of the time has passed since: it is a span for one call, not a point in time."""
        if perf_counter_ns() - self._limited_ns > _RENEW_NS:
            self._limit()

    def _limit(self) -> None:
        """Let the kernel end the next call at the deadline."""
        self._limited_ns = perf_counter_ns()
        seconds, rest = divmod(_left_ns(self._deadline_ns) // 1000, 10**6)
        limit = struct.pack("@ll", seconds, rest)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _lose(self, error: OSError | None) -> NoReturn:
        """Close the connection, which is of no more use, and raise ServerLost."""
        with contextlib.suppress(OSError):
            self._socket.close()
        if isinstance(error, BlockingIOError):
            reason = "has not answered before the deadline: it is frozen, overloaded or cut off"
        elif error is None:
            reason = "has closed the connection, or does not speak redis' protocol"
        else:
            reason = f"has broken the connection ({error})"
        raise ServerLost(f"The redis server at {self.where} {reason}. See its log.") from None


def _left_ns(deadline_ns: int) -> int:
    return max(deadline_ns - perf_counter_ns(), _PATIENCE_NS)


def command(*words: bytes) -> bytes:
    """Return a command of short words as bytes to send."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
