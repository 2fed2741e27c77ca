"""The client that components stage with: four verbs, the same on every backend, each of them timed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import isnan
from numbers import Real
from pathlib import Path
from time import perf_counter_ns, sleep
from types import TracebackType
from typing import Any, NoReturn, Self

from simai_rules.staging.arrays import Array
from simai_rules.staging.backend import Backend, Locking
from simai_rules.staging.backends import connect
from simai_rules.staging.codec import decode, encode
from simai_rules.staging.errors import CorruptValue, LockTimeout, ServerLost, StagingError, StagingTimeout, shorten
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.keys import check_key
from simai_rules.staging.operation import Operation
from simai_rules.staging.stream import Streaming, StreamReader, StreamWriter

_LONGEST_S = 20 * 86_400.0
"""What stands for every longer wait: the system's calls count milliseconds in 32 bits."""
_ANSWER_NS = 1_000_000_000
"""What a server gets to answer in any case: that a key is waited for so briefly is no reason to call it lost."""


class DataStore:
    """Stages values under keys for other processes, and reads theirs.

    Arguments: `name` says whose client it is, in messages. `server_info` is the server's description or the path of
    its `server.json`; with a path, a server that is still starting is waited for. `timeout` is in seconds: how long
    `stage_read` waits for a key, and how long a server may stay silent (20 days at most, also for `math.inf`).
    `allow_pickle` lets values of any type be written, and read where their writer has set it too: only for writers
    whom you trust. With `checksum`, each value is written with one (XXH3), which counts as serialize; a value that has
    one is checked by every reader, set or not.

    What can be staged and what comes back is told in `simai_rules.staging.codec`. One DataStore belongs to one thread
    of one process: it has no locks, and must not be used on after a fork.
    """

    def __init__(
        self,
        name: str,
        server_info: ServerInfo | dict[str, Any] | str | Path,
        *,
        timeout: float = 120.0,
        allow_pickle: bool = False,
        checksum: bool = False,
    ) -> None:
        self.name = name
        self._last: tuple[Any, ...] = ("", "", 0, 0)
        self._timeout_ns, self._allow_pickle, self._checksum = _ns(timeout), allow_pickle, checksum
        deadline_ns = perf_counter_ns() + self._timeout_ns
        self._backend: Backend | None = connect(_find(server_info, deadline_ns), deadline_ns)

    def stage_write(self, key: str, value: Any) -> None:
        """Stage `value` under `key`: whoever reads gets what was there before or all of it.

        Raises TypeError for a type that cannot be staged, StagingFull where there is no room, ServerLost.
        """
        backend = self._backend
        if backend is None or type(key) is not str or not key:
            backend = self._begin(key)
        start = perf_counter_ns()
        buffers, nbytes = encode(value, allow_pickle=self._allow_pickle, checksum=self._checksum)
        encoded = perf_counter_ns()
        replaced = backend.put(key, buffers, nbytes, encoded + self._timeout_ns)
        end = perf_counter_ns()
        self._last = ("write", key, start, end - start, encoded - start, end - encoded, 0, 0, nbytes, replaced)

    def stage_read(self, key: str, *, timeout: float | None = None, out: Array | None = None) -> Any:
        """Return the value of `key`, waiting for it up to `timeout` seconds (None: the DataStore's).

        With `out`, a staged array of the same shape, dtype and memory order is read into it, and it is returned.
        Raises StagingTimeout where nothing was staged in time, CorruptValue, ServerLost, and StagingError where `out`
        does not fit.
        """
        backend = self._backend
        if backend is None or type(key) is not str or not key:
            backend = self._begin(key)
        start = perf_counter_ns()
        deadline_ns = start + (self._timeout_ns if timeout is None else _ns(timeout))
        waited = 0
        while True:
            try:
                incoming = backend.open(key, deadline_ns)
                break
            except KeyError:
                begin = perf_counter_ns()
                there = backend.wait(key, deadline_ns)
                waited += perf_counter_ns() - begin
                if not there:
                    seconds = self._timeout_ns / 1e9 if timeout is None else timeout
                    raise StagingTimeout(key, f"{backend.name} ({backend.where})", seconds) from None
        opened = perf_counter_ns()
        try:
            value, moving = decode(incoming, out=out, allow_pickle=self._allow_pickle)
        except (StagingError, OSError, MemoryError) as error:
            _explain(error, key, backend, incoming.source)
        finally:
            incoming.close()
        end = perf_counter_ns()
        transport, deserialize = opened - start - waited + moving, end - opened - moving
        self._last = ("read", key, start, end - start, 0, transport, waited, deserialize, incoming.nbytes)
        return value

    def poll_staged_data(self, key: str, timeout: float = 0.0) -> bool:
        """Return whether `key` is there, waiting for it up to `timeout` seconds.

        A server that is silent so long is lost; it gets a second at least, and the DataStore's timeout without one.
        """
        backend, timeout_ns = self._begin(key), _ns(timeout)
        patience_ns = max(timeout_ns, min(_ANSWER_NS, self._timeout_ns)) if timeout_ns > 0 else self._timeout_ns
        start = perf_counter_ns()
        found = backend.exists(key, start + patience_ns)
        looked = end = perf_counter_ns()
        if not found and timeout_ns > 0:
            found = backend.wait(key, start + timeout_ns)
            end = perf_counter_ns()
        self._last = ("poll", key, start, end - start, 0, looked - start, end - looked, 0, 0, None, found)
        return found

    def clean_staged_data(self, key: str) -> bool:
        """Remove `key`; return whether there was something to remove."""
        backend = self._begin(key)
        start = perf_counter_ns()
        removed = backend.delete(key, start + self._timeout_ns)
        duration = perf_counter_ns() - start
        self._last = ("delete", key, start, duration, 0, duration)
        return removed

    def lock(self, key: str, timeout: float | None = None) -> AbstractContextManager[None]:
        """Return a context that holds the lock of `key`: one client of the run at a time is inside.

        It excludes others from `lock` of the same key, not from reading and writing it. Entering waits up to `timeout`
        seconds (None: the DataStore's) and raises StagingTimeout where others hold the lock until then. Raises
        StagingError where the backend offers no lock.
        """
        backend = self._begin(key)
        if not isinstance(backend, Locking):
            raise StagingError(f"The backend {backend.name} offers no lock. Choose another one, or do without locking.")
        seconds = (self._timeout_ns if timeout is None else _ns(timeout)) / 1e9
        return _hold(backend, f"{backend.name} ({backend.where})", key, seconds)

    @property
    def has_streams(self) -> bool:
        """Whether the backend can hand values from one process to another step by step."""
        return isinstance(self._backend, Streaming)

    def stream_writer(self, name: str, *, timeout: float | None = None) -> StreamWriter:
        """Open the stream `name` for writing, waiting up to `timeout` seconds (None: the DataStore's) for its reader.

        Raises StreamTimeout where none comes, and StagingError where the backend has no streams.
        """
        backend, timeout_ns = self._streaming(name), self._timeout_ns if timeout is None else _ns(timeout)
        end = backend.stream_writer(name, perf_counter_ns() + timeout_ns)
        return StreamWriter(name, end, self._timeout_ns, allow_pickle=self._allow_pickle, checksum=self._checksum)

    def stream_reader(self, name: str, *, timeout: float | None = None) -> StreamReader:
        """Open the stream `name` for reading, waiting for its writer; the rest as for `stream_writer`."""
        backend, timeout_ns = self._streaming(name), self._timeout_ns if timeout is None else _ns(timeout)
        end = backend.stream_reader(name, perf_counter_ns() + timeout_ns)
        return StreamReader(name, end, self._timeout_ns, allow_pickle=self._allow_pickle)

    def _streaming(self, name: str) -> Streaming:
        backend = self._begin(name)
        if not isinstance(backend, Streaming):
            raise StagingError(
                f"The backend {backend.name} has no streams. Stage by key (stage_write, stage_read), or choose adios2."
            )
        return backend

    @property
    def last(self) -> Operation:
        """The timing of the last verb that came to its end. It is put together when it is asked for."""
        return Operation(*self._last)

    def close(self) -> None:
        """Release the connection; a second call does nothing. What was staged stays."""
        if self._backend:
            self._backend.close()
        self._backend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, key: str) -> Backend:
        check_key(key)
        if self._backend is None:
            raise StagingError(f"The DataStore {self.name!r} has been closed and cannot be used on.")
        return self._backend


def _ns(timeout: float) -> int:
    """Return a timeout, given in seconds, in nanoseconds; raises TypeError or ValueError for what is none."""
    if not isinstance(timeout, Real):
        raise TypeError(f"A timeout is a number of seconds, not {timeout!r:.80}.")
    if isnan(timeout):
        raise ValueError("A timeout is a number of seconds, not nan. To wait as long as it takes, give math.inf.")
    return int(min(timeout, _LONGEST_S) * 1e9)


@contextmanager
def _hold(backend: Locking, where: str, key: str, seconds: float) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(backend.lock(key, perf_counter_ns() + int(seconds * 1e9)))
        except TimeoutError:
            raise LockTimeout(key, where, seconds) from None
        yield


def _explain(error: StagingError | OSError | MemoryError, key: str, backend: Backend, source: str) -> NoReturn:
    """Raise `error`, of the codec or the file, again with the key, the backend and the place."""
    place = f"Key {shorten(key)} on {backend.name} ({source})"
    if isinstance(error, ServerLost):
        raise error
    if isinstance(error, OSError):
        raise StagingError(f"{place} cannot be read: {error.strerror}.") from None
    if isinstance(error, MemoryError):
        raise StagingError(f"{place} does not fit into this process' memory ({error}). Stage it in parts.") from None
    if isinstance(error, CorruptValue):
        raise CorruptValue(
            f"{place} is not a staged value: {error}. It was cut short, damaged, or overwritten by something else "
            "than simai-rules; stage it again."
        ) from None
    raise type(error)(f"{place}: {error}") from None


def _find(server_info: ServerInfo | dict[str, Any] | str | Path, deadline_ns: int) -> ServerInfo:
    """Return the server's description; waits for one that starts, raises ServerLost for one that is gone."""
    if isinstance(server_info, ServerInfo):
        info = server_info
    elif isinstance(server_info, dict):
        info = ServerInfo.from_dict(server_info)
    else:
        info = _read(Path(server_info))
        while info.state == "starting" and perf_counter_ns() < deadline_ns:
            sleep(0.01)
            info = _read(Path(server_info))
        if info.state == "starting":
            raise ServerLost(f"The {info.backend} server of {server_info} has not become ready in time. See its log.")
    if info.state in ("failed", "stopped"):
        reason = f": {info.reason}" if info.reason else ""
        raise ServerLost(f"The {info.backend} server of run {info.run_id} has {info.state}{reason}. See its log.")
    return info


def _read(path: Path) -> ServerInfo:
    try:
        return ServerInfo.read(path)
    except OSError as error:
        raise ServerLost(
            f"{path} cannot be read as a server.json ({error}). Start the staging server: simai-rules serve."
        ) from None
