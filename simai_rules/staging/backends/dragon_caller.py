"""Calls of Dragon's library with an end: some of them wait without one, whatever timeout they are given.

They wait without Python's global lock. So one thread of its own makes a client's calls, and who has ordered one gives
up on that thread when its time has passed. It is a daemon: it keeps no process from ending.
"""

import _signal  # type: ignore[import-not-found]  # see _Kept
import signal
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter_ns
from types import FrameType
from typing import Any, TypeVar

from simai_rules.staging.errors import ServerLost

_ENDING = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGHUP))
_IGNORED = int(signal.SIG_IGN)
_GRACE_NS = 10**9
"""The library's own timeouts, which leave a client that can be used on, come first."""
T = TypeVar("T")
_KEPT_NS = 2 * 10**9
_LOOK_S = 0.25
_Answer = SimpleQueue[tuple[Any, BaseException | None]]


class Caller:
    """A thread that calls the library, one call after another."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Callable[[], Any], _Answer] | None] = SimpleQueue()
        self.lost = False
        """Whether it was given up: nothing can be asked any more."""
        threading.Thread(target=_work, args=(self._orders,), name="dragon", daemon=True).start()

    def call(self, action: Callable[[], T], deadline_ns: int) -> T:
        """Return what `action` returns; raises what it raises, and ServerLost a second after the deadline.

        A process that dies in the middle of a call may leave a message cut off or a lock of the shared memory held,
        which halts the dictionary for all. So signals that end this process wait for the answer, two seconds at most.
        """
        if self.lost:
            raise _lost()
        answer: _Answer = SimpleQueue()
        end_ns = deadline_ns + _GRACE_NS
        with _Kept() as kept:
            self._orders.put((action, answer))
            while True:
                try:
                    result, error = answer.get(timeout=max(0.0, min(_LOOK_S, (end_ns - perf_counter_ns()) / 1e9)))
                    break
                except Empty:
                    kept.release_old()
                    if perf_counter_ns() > end_ns:
                        self.lost = True
                        raise _lost() from None
        if error is None:
            return result  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del error  # it leads to this frame, which leads to it

    def post(self, action: Callable[[], Any]) -> None:
        """Have something called before the next call, and do not wait for it; its errors are dropped."""
        self._orders.put((action, SimpleQueue()))

    def end(self) -> None:
        """End the thread after what was ordered."""
        self._orders.put(None)


def _lost() -> ServerLost:
    return ServerLost(
        "the dictionary does not answer: a call of Dragon's library has not come back, and this client was given up. "
        "See the log of the staging server"
    )


def _work(orders: "SimpleQueue[tuple[Callable[[], Any], _Answer] | None]") -> None:
    while order := orders.get():
        action, answer = order
        try:
            answer.put((action(), None))
        except BaseException as error:
            answer.put((None, error))
        del order, action, answer  # what they lead to may be memory of the runtime


class _Kept:
    """A context that keeps the signals that end a process for its end.

    A client of another thread than the main one is not protected: Python handles signals in that thread only. The
    functions are those under `signal`'s own, which make an enum of each handler: a tenth of a millisecond per call.
    """

    def __init__(self) -> None:
        self._came: list[tuple[int, int]] = []
        self._handlers: list[tuple[int, Any]] = []

    def __enter__(self) -> "_Kept":
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                old = _signal.getsignal(number)
                if old is not None and old != _IGNORED:
                    self._handlers.append((number, old))
                    _signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        handlers, self._handlers = self._handlers, []
        for number, old in handlers:
            _signal.signal(number, old)
        came, self._came = self._came, []
        for number, _ in came:
            signal.raise_signal(number)

    def release_old(self) -> None:
        """Keep nothing any more if a signal has waited for too long."""
        if self._came and perf_counter_ns() - self._came[0][1] > _KEPT_NS:
            self.__exit__()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append((number, perf_counter_ns()))
