"""Locks in a redis server, each held by a connection: it is free again when that has gone, however its process ended.

The key of a lock names the connection of its holder by the id that the server gave it, which is never given again. Who
finds it taken asks the server whether that connection is still there. So there is no expiry that a long work could
outlast, and nothing to renew. The kernel closes the connections of a process that ends; where a whole node is lost, the
server notices by its keepalive (30 s). A holder that is halted goes on to hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from simai_rules.staging.backends.resp import Connection, ReplyError, command
from simai_rules.staging.errors import ServerLost

if TYPE_CHECKING:
    from simai_rules.staging.backends.redis import Redis

# Take the lock KEYS[1] for ARGV[1] if nobody holds it, or ARGV[2], of whom it is known that it has gone. "" is success.
_TAKE = b"""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return holder end
redis.call('SET', KEYS[1], ARGV[1])
return ''
"""
_RELEASE = b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RELEASE_NS = 10**10


@contextmanager
def hold(redis: "Redis", name: bytes, what: str, deadline_ns: int) -> Iterator[None]:
    """Hold the lock `name`; raises TimeoutError where others hold it until the deadline. `what` is for messages."""
    # A lock within a lock has a connection of its own.
    connection = redis.lock_connection or redis.new_connection(deadline_ns)
    redis.lock_connection = None
    try:
        token = b"%d" % _ask(redis, connection, deadline_ns, what, b"CLIENT", b"ID")
        gone = b""
        while holder := _ask(redis, connection, deadline_ns, what, b"EVAL", _TAKE, b"1", name, token, gone):
            if not _alive(redis, holder, deadline_ns):
                gone = holder
            elif perf_counter_ns() >= deadline_ns:
                raise TimeoutError
            else:
                redis.wait_for(b"del", name, lambda: _is_free(redis, name, deadline_ns), deadline_ns)
        try:
            yield
        finally:
            # Late is better than never: the work may have lasted beyond the deadline for getting the lock.
            until_ns = perf_counter_ns() + _RELEASE_NS
            if not _ask(redis, connection, until_ns, "un" + what, b"EVAL", _RELEASE, b"1", name, token):
                raise ServerLost(f"The redis server at {redis.where} has lost the lock that was held ({what}).")
    except TimeoutError:
        _keep(redis, connection)
        raise
    except BaseException:
        connection.close()
        raise
    _keep(redis, connection)


def _keep(redis: "Redis", connection: Connection) -> None:
    """Keep the connection for the next lock, unless that of a lock within this one is kept already."""
    if redis.lock_connection:
        connection.close()
    else:
        redis.lock_connection = connection


def _ask(redis: "Redis", connection: Connection, deadline_ns: int, what: str, *words: bytes) -> Any:
    connection.send((command(*words),), deadline_ns)
    try:
        return connection.reply()
    except ReplyError as error:
        redis.fail(error, what)


def _alive(redis: "Redis", holder: bytes, deadline_ns: int) -> bool:
    """Whether the connection `holder` is there."""
    [listed] = redis.ask(deadline_ns, command(b"CLIENT", b"LIST", b"ID", holder), replies=1, what="list a client")
    return bool(listed)


def _is_free(redis: "Redis", name: bytes, deadline_ns: int) -> bool:
    [holder] = redis.ask(deadline_ns, command(b"GET", name), replies=1, what="look at a lock")
    return holder is None or not _alive(redis, holder, deadline_ns)
