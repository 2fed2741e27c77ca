"""Staging in a redis server, by our own client: what redis-py copies, this does not."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, NoReturn

from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.backends import redis_lock
from simai_rules.staging.backends.resp import LONGEST_VALUE, Connection, ReplyError, command
from simai_rules.staging.errors import CorruptValue, ServerLost, StagingError, StagingFull, shorten
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.safetensors import header_length

DATA = b"simai:data:"
LOCK = b"simai:lock:"
RUN_ID = b"simai:run_id"
_CHANGED = ("MOVED", "ASK", "CLUSTERDOWN", "READONLY", "MASTERDOWN")
"""Error replies of a cluster that is no longer as its server.json says."""
_NO_PASSWORD = re.compile("no password is set|without any password configured")
_LOOK_NS = 10**9
"""A waiting reader asks this often whether the server still answers, and has the key."""


class RedisValue:
    """The reply to a GET that is being read. Left early, it costs its connection."""

    __slots__ = ("_backend", "_connection", "_left", "nbytes")

    def __init__(self, backend: "Redis", connection: Connection, nbytes: int) -> None:
        self._backend, self._connection, self._left = backend, connection, nbytes
        self.nbytes = nbytes
        if not nbytes:
            connection.end_line()

    @property
    def source(self) -> str:
        """The server's address."""
        return self._backend.where

    header = None

    def read_header(self) -> bytes:
        """Return the header."""
        prefix = bytearray(min(8, self.nbytes))
        self._read(memoryview(prefix))
        text = bytearray(header_length(prefix, self.nbytes))
        self._read(memoryview(text))
        return bytes(text)

    def readinto(self, view: memoryview) -> None:
        """Fill an array's memory with the next bytes of the value."""
        self._read(bytes_of(view))

    def _read(self, view: memoryview) -> None:
        if len(view) > self._left:
            raise CorruptValue(f"it ends {len(view) - self._left} bytes early")
        if view:
            self._connection.readinto(view, last=len(view) == self._left)
            self._left -= len(view)

    def close(self) -> None:
        """Give up the connection if the value was not read to its end."""
        if self._left:
            self._backend.drop()


@dataclass(frozen=True)
class Address:
    """One redis-server of a run."""

    host: str
    port: int
    password: str
    run_id: str
    tag: bytes = b""
    """Stands before every key in a cluster: a hash tag such as `{42}`, by which it belongs to this server."""


class Redis:
    """The client half of the backend redis.

    Two connections, each made when it is first needed and made anew after an error: one for commands, one on which
    a waiting reader is told of its key (keyspace notifications). A lock has a third one: see `redis_lock`.
    """

    name = "redis"

    def __init__(self, address: Address, deadline_ns: int) -> None:
        self._address = address
        self._data, self._lock = DATA + address.tag, LOCK + address.tag
        self.where = f"{address.host}:{address.port}"
        self._commands: Connection | None = None
        self._news: Connection | None = None
        self.lock_connection: Connection | None = None
        """The one of the last lock, which the next one uses again."""
        self.ask(deadline_ns)

    def put(self, key: str, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> bool:
        """SET the key; an EXISTS sent along tells whether it was there, for no round trip more."""
        if nbytes > LONGEST_VALUE:
            raise StagingError(
                f"Key {shorten(key)} has {nbytes} bytes; a value in redis holds at most {LONGEST_VALUE} (512 MiB). "
                "Stage it in parts under several keys, or use the backend node-local or filesystem."
            )
        name = self._name(key)
        start = command(b"EXISTS", name) + b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, nbytes)
        existed, _ = self.ask(deadline_ns, start, *buffers, b"\r\n", replies=2, what=f"write key {shorten(key)}")
        return bool(existed)

    def open(self, key: str, deadline_ns: int) -> RedisValue:
        """Send a GET and read the size of its value; raises KeyError where there is none."""
        connection = self._connected(deadline_ns)
        try:
            connection.send((command(b"GET", self._name(key)),), deadline_ns)
            size = connection.value_size()
        except ReplyError as error:
            self.fail(error, f"read key {shorten(key)}")
        except BaseException:
            self.drop()
            raise
        if size is None:
            raise KeyError(key)
        return RedisValue(self, connection, size)

    def exists(self, key: str, deadline_ns: int) -> bool:
        """Ask whether the key is there."""
        [there] = self.ask(
            deadline_ns, command(b"EXISTS", self._name(key)), replies=1, what=f"look for key {shorten(key)}"
        )
        return bool(there)

    def delete(self, key: str, deadline_ns: int) -> bool:
        """UNLINK the key: redis frees its memory beside its other work."""
        [gone] = self.ask(
            deadline_ns, command(b"UNLINK", self._name(key)), replies=1, what=f"delete key {shorten(key)}"
        )
        return bool(gone)

    def wait(self, key: str, deadline_ns: int) -> bool:
        """Subscribe to what happens to the key, look for it, and then sleep until the server says that it was set."""
        return self.wait_for(b"set", self._name(key), lambda: self.exists(key, deadline_ns), deadline_ns)

    def wait_for(self, event: bytes, name: bytes, look: Callable[[], bool], deadline_ns: int) -> bool:
        """Sleep until the server tells of `event` on the key `name`, or `look`, asked now and then, is true."""
        channel = b"__keyspace@0__:" + name
        try:
            if self._news is None:
                self._news = self.new_connection(deadline_ns)
            self._news.send((command(b"SUBSCRIBE", channel),), deadline_ns)
            while self._news.reply()[:2] != [b"subscribe", channel]:
                pass
            there = look()
            while not there and perf_counter_ns() < deadline_ns:
                until_ns = min(deadline_ns, perf_counter_ns() + _LOOK_NS)
                there = self._told(self._news, [b"message", channel, event], until_ns) or look()
            self._news.send((command(b"UNSUBSCRIBE", channel),), deadline_ns)
        except BaseException:
            self._drop_news()
            raise
        return there

    @staticmethod
    def _told(news: Connection, message: list[bytes], until_ns: int) -> bool:
        """Return whether the server says `message` before `until_ns`."""
        while news.wait(until_ns):
            if news.reply() == message:
                return True
        return False

    def lock(self, key: str, deadline_ns: int) -> AbstractContextManager[None]:
        """Return a context that holds the lock of `key`; see `redis_lock`."""
        return redis_lock.hold(self, self._lock + _encoded(key), f"lock key {shorten(key)}", deadline_ns)

    def close(self) -> None:
        """Close all connections."""
        self.drop()
        self._drop_news()
        if self.lock_connection:
            self.lock_connection.close()
        self.lock_connection = None

    def drop(self) -> None:
        """Give up the connection for commands, on which an answer may be half read; the next verb makes a new one."""
        if self._commands:
            self._commands.close()
        self._commands = None

    def _drop_news(self) -> None:
        if self._news:
            self._news.close()
        self._news = None

    def ask(self, deadline_ns: int, *commands: Buffer, replies: int = 0, what: str = "") -> list[Any]:
        """Send commands and return their replies; raises the staging error that an error reply means."""
        connection = self._connected(deadline_ns)
        if not replies:
            return []
        answers: list[Any] = []
        refused: ReplyError | None = None
        try:
            connection.send(commands, deadline_ns)
            for _ in range(replies):
                try:
                    answers.append(connection.reply())
                except ReplyError as error:
                    refused = error
        except BaseException:
            self.drop()
            raise
        if refused:
            self.fail(refused, what)
        return answers

    def _connected(self, deadline_ns: int) -> Connection:
        if self._commands is None:
            self._commands = self.new_connection(deadline_ns)
        return self._commands

    def new_connection(self, deadline_ns: int) -> Connection:
        """Return a connection to the server of this run; raises ServerLost where there is another one."""
        address = self._address
        connection = Connection(address.host, address.port, deadline_ns)
        try:
            login = command(b"AUTH", address.password.encode())
            connection.send((login, command(b"GET", RUN_ID + address.tag)), deadline_ns)
            try:
                connection.reply()
            except ReplyError as error:
                if not _NO_PASSWORD.search(str(error)):  # then the GET tells what counts
                    self._refused(error)
            try:
                run_id = connection.reply()
            except ReplyError as error:
                if str(error).startswith(_CHANGED):
                    self.fail(error, "connect")
                self._refused(error)
            if run_id != address.run_id.encode():
                raise ServerLost(
                    f"The redis server at {self.where} belongs to the run {_text(run_id)}, not to {address.run_id!r}. "
                    "Check that server.json is the one of the run that is going on."
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _refused(self, error: ReplyError) -> NoReturn:
        """Raise what an error reply to the first words on a connection means."""
        if "max number of clients" in str(error):
            raise ServerLost(
                f"The redis server at {self.where} takes no more connections ({error}). Each client of the run "
                "has up to three; raise the limit of open files (ulimit -n) where the server is started."
            ) from None
        raise ServerLost(
            f"The redis server at {self.where} refuses this run's password ({error}). Another server has taken "
            "the port: check that server.json is the one of the run that is going on."
        ) from None

    def fail(self, error: ReplyError, what: str) -> NoReturn:
        """Raise the staging error that an error reply means."""
        text = str(error)
        if text.startswith("OOM"):
            raise StagingFull(
                f"The redis server at {self.where} has no memory left to {what} ({text}). Stage smaller or fewer "
                "values at a time (let the reader keep up), or give the server more memory."
            ) from None
        if text.startswith(_CHANGED):
            raise ServerLost(
                f"The redis cluster is not whole any more: {self.where} could not {what} ({text}). One of its servers "
                "has died or was cut off from the others; see the server's log."
            ) from None
        raise StagingError(f"The redis server at {self.where} refuses to {what}: {text}.") from None

    def _name(self, key: str) -> bytes:
        return self._data + _encoded(key)


def connect(info: ServerInfo, deadline_ns: int) -> Redis:
    """Connect and check that the server, this node's own where each has one, is of this run; else raises ServerLost."""
    address = info.address_here
    return Redis(
        Address(str(address["host"]), int(address["port"]), str(address["password"]), info.run_id), deadline_ns
    )


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _text(run_id: Any) -> str:
    return repr(run_id.decode(errors="replace")) if isinstance(run_id, bytes) else "nobody"
