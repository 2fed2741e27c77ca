"""The line between the writer and the reader of one stream: they find each other, and each sees how the other ends.

SST itself waits without a deadline, for a reader to come and for room in its queue, while it holds Python's interpreter
lock, and says nothing to a writer whose reader has died. So the two ends have a TCP connection of their own, on the
chosen interface: what would block in SST is waited for here, with a deadline, and a connection that breaks is a death.

The writer listens until its reader has come; where, and with which token, is in the file `<stream>.link` of the run's
folder. Afterwards each message is one letter, one number, and with SENT the
text that describes the step where that is short.
"""

import hmac
import json
import os
import secrets
import select
import socket
import struct
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns, sleep

from simai_rules.staging.errors import ServerLost, StagingError, StreamTimeout, shorten
from simai_rules.staging.keys import SUFFIX, file_name

_MESSAGE = struct.Struct("<cqH")
"""A letter, a number, and how many bytes follow."""
_AT_ONCE = 16_384
_LONGEST_HELLO = 1000
_GREETING_NS = 1_000_000_000
"""Whoever connects has to show the token in this time; others wait meanwhile."""
_LOOK_EVERY_S = 0.01
# A partner whose node is gone, and which so cannot close the connection, is given up after 5 s and 5 s more.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 5))

SENT, ENDED = b"S", b"E"
"""The writer has sent so many steps in all; these were all."""
READ, DRAINED, LEFT = b"R", b"D", b"L"
"""The reader has given back so many steps in all; it has found no more; it has closed."""


def base_name(name: str) -> str:
    """Return the file name, without an ending, for the stream `name`: any text, and it stays in the folder."""
    return file_name(name)[: -len(SUFFIX)]


class Link:
    """One end of the line.

    Attributes: lost (the partner's end is closed); sent, ended, read, drained, left: what the partner said; texts: what
    it said with each SENT, until somebody takes it from there.
    """

    def __init__(self, name: str, connection: socket.socket, partner: str) -> None:
        self.name, self.partner = name, partner
        self.sent = self.read = 0
        self.drained = self.left = self.lost = False
        self.ended: int | None = None
        self.texts: deque[bytes] = deque()
        self._connection = connection
        self._half = self._unsent = b""
        # Not select(), which cannot watch descriptors from 1024 on.
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def tell(self, message: bytes, number: int = 0, text: bytes = b"") -> None:
        """Send a message, with at most 65535 bytes of text; that the partner is gone is found out by `hear`.

        What the connection does not take at once, because the partner hears nothing, is sent when it answers.
        """
        self._unsent += _MESSAGE.pack(message, number, len(text)) + text
        self._send()

    def hear(self, until_ns: int = 0) -> bool:
        """Take in what has come; wait for something until `until_ns` if nothing has. Return whether something came."""
        if self.lost or (until_ns and not self._poll.poll(max(0, until_ns - perf_counter_ns()) / 1e6)):
            return False
        try:
            received = self._connection.recv(_AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        self.lost = not received
        self._half += received
        while len(self._half) >= _MESSAGE.size:
            message, number, length = _MESSAGE.unpack_from(self._half)
            end = _MESSAGE.size + length
            if len(self._half) < end:
                break
            self._take_in(message, number, self._half[_MESSAGE.size : end])
            self._half = self._half[end:]
        if self._unsent:
            self._send()
        return True

    def _take_in(self, message: bytes, number: int, text: bytes) -> None:
        if message == SENT:
            self.sent = number
            self.texts.append(text)
        elif message == READ:
            self.read = number
        elif message == ENDED:
            self.ended = number
        elif message == DRAINED:
            self.drained = True
        elif message == LEFT:
            self.left = True

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except OSError:
            return  # what is not sent stays, and of a connection that is broken nobody asks for it

    def partner_died(self, role: str) -> ServerLost:
        """Return the error that says that the partner has ended without closing the stream."""
        return ServerLost(
            f"The {role} of the stream {shorten(self.name)} is gone: {self.partner} has ended without closing it. See "
            f"the log of the {role}'s component."
        )

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


def await_reader(name: str, folder: Path, host: str, deadline_ns: int) -> Link:
    """Offer the stream `name` at the address `host`, and return the line to its reader.

    Raises StreamTimeout where none comes, StagingError where the stream has a writer already.
    """
    seconds = (deadline_ns - perf_counter_ns()) / 1e9
    with socket.create_server((host, 0)) as listener:
        token = secrets.token_hex(16)
        offer = {"host": host, "port": listener.getsockname()[1], "token": token, "process": _me()}
        path = folder / f"{base_name(name)}.link"
        _write_new(path, json.dumps(offer), name)
        try:
            while (left := (deadline_ns - perf_counter_ns()) / 1e9) > 0:
                listener.settimeout(left)
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    partner = _greeting(connection, token)
                    if partner:
                        return Link(name, connection, partner)
                    connection.close()
            cause = "It has not come that far (give a longer timeout) or has failed (see its log)."
            raise StreamTimeout(name, str(folder), seconds, "was opened by no reader", cause)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def find_writer(name: str, folder: Path, deadline_ns: int) -> Link:
    """Return the line to the writer of the stream `name`; raises StreamTimeout where there is none."""
    seconds = (deadline_ns - perf_counter_ns()) / 1e9
    path = folder / f"{base_name(name)}.link"
    while True:
        # A file without somebody who listens: its writer is dead, or has another reader. Half a file: it is on its way.
        # Anything else in it: it is none, and what is there may still be replaced by one.
        with suppress(OSError, ValueError, OverflowError, KeyError, TypeError):
            offer = json.loads(path.read_text())
            left = max((deadline_ns - perf_counter_ns()) / 1e9, 0.1)
            connection = socket.create_connection((offer["host"], offer["port"]), timeout=left)
            connection.sendall(json.dumps({"token": offer["token"], "process": _me()}).encode() + b"\n")
            if connection.recv(1) == b"\n":
                return Link(name, connection, offer["process"])
            connection.close()
        if perf_counter_ns() > deadline_ns:
            cause = (
                "It has not come that far (give a longer timeout), has failed (see its log), or has a reader already."
            )
            raise StreamTimeout(name, str(folder), seconds, "was opened by no writer", cause)
        sleep(_LOOK_EVERY_S)


def forget(name: str, folder: Path) -> None:
    """Remove the offer of a stream that was closed, so that it can be opened again."""
    (folder / f"{base_name(name)}.link").unlink(missing_ok=True)


def _greeting(connection: socket.socket, token: str) -> str:
    """Return what the partner says of itself, once it has shown the token; "" for anybody else."""
    received, deadline_ns = b"", perf_counter_ns() + _GREETING_NS
    try:
        while not received.endswith(b"\n") and len(received) < _LONGEST_HELLO:
            connection.settimeout(max(deadline_ns - perf_counter_ns(), 1) / 1e9)
            more = connection.recv(_LONGEST_HELLO)
            if not more:
                return ""
            received += more
        hello = json.loads(received)
        if not hmac.compare_digest(str(hello["token"]).encode(), token.encode()):
            return ""
        connection.sendall(b"\n")
        return str(hello["process"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""


def _write_new(path: Path, text: str, name: str) -> None:
    """Write a private file; raises StagingError where there is one. A reader tries again when it saw a half of it."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        raise StagingError(
            f"The stream {shorten(name)} in {path.parent} has a writer, or had one that died. A stream has one writer "
            "and one reader at a time: close it first, or take another name."
        ) from None
    except FileNotFoundError:
        raise ServerLost(f"The staging folder {path.parent} is gone: its server has stopped. See its log.") from None


def _me() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"
