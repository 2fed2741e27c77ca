"""Bytes in the distributed dictionary of Dragon (DDict), by our own client of its protocol.

DDict's own `d[key] = value` pickles into the stream of the message, piece by piece. A client that is killed meanwhile
leaves its manager waiting for the rest for ever, and a reader copies every piece twice. Here a value is first laid
ready in shared memory; what goes to the manager is its handle, in a tenth of a millisecond.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter_ns, sleep
from typing import Any

from simai_rules.staging.backend import Buffer, bytes_of
from simai_rules.staging.backends.dragon_attachment import first_line, seconds_until
from simai_rules.staging.errors import ServerLost, StagingError

RUN_ID = b"simai:run_id"
_KEY_HINT, _VALUE_HINT = 1, 2
_LOOK_S = 0.5
"""A waiting client looks this often whether the runtime is still there."""
_INTERNALS = ("_return_channel", "_buffered_return_channel", "_return_connector", "_buffered_return_connector")


class Full(Exception):
    """The dictionary, or the memory for values on their way, has no room."""


class Dropped(StagingError):
    """A value that is not there although its put succeeded."""


class Dictionary:
    """An attached DDict, and its messages for bytes: what the service of the runtime and the backend share.

    It raises Full, KeyError, and ServerLost where there is no answer before a deadline, if the library comes back to
    say so (see dragon_caller). After any other error it is unusable: an answer may be half read.
    """

    def __init__(self, text: str, deadline_ns: int, check: Callable[[], None] = lambda: None) -> None:
        from dragon.channels import ChannelEmpty, ChannelTimeout
        from dragon.data import DDict
        from dragon.dtypes import ADAPTIVE_WAIT
        from dragon.infrastructure import messages
        from dragon.rc import DragonError
        from dragon.utils import hash as hash_of

        self._messages, self._errors, self._hash, self._check = messages, DragonError, hash_of, check
        self._late, self._wait_mode = (ChannelEmpty, ChannelTimeout, TimeoutError), ADAPTIVE_WAIT
        try:
            self._dict: Any = DDict.attach(text, timeout=seconds_until(deadline_ns))
        except Exception as error:
            self._check()
            raise ServerLost(
                f"the dictionary does not answer ({type(error).__name__}: {first_line(error)}). See the log of the "
                "staging server"
            ) from error
        missing = [name for name in _INTERNALS if not hasattr(self._dict, name)]
        missing += [name for name in ("capnp_schema",) if not hasattr(messages, name)]
        if missing:
            raise StagingError(
                f"This version of dragonhpc is not one that simai-rules knows: it lacks {', '.join(missing)}. "
                "Install version 0.15: pip install 'dragonhpc==0.15.*'"
            )
        self._pool = self._dict._return_channel.get_pool()

    def put(self, key: bytes, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> None:
        """Store the buffers, not empty, under `key`."""
        manager = self._manager(key, deadline_ns)
        ready = self._lay_ready(buffers, nbytes, deadline_ns)
        try:
            message = self._message("DDPut", persist=False)
            with manager.sendh(
                stream_channel=self._dict._main_stream_channel, timeout=seconds_until(deadline_ns)
            ) as stream:
                stream.send_bytes(message.serialize(), timeout=seconds_until(deadline_ns))
                stream.send_bytes(key, arg=_KEY_HINT, timeout=seconds_until(deadline_ns))
                stream.send_mem(ready, arg=_VALUE_HINT, timeout=seconds_until(deadline_ns))
                ready = None  # the manager's
        finally:
            if ready is not None:
                ready.free()
        error, _ = self._answer(message, deadline_ns)
        if error == self._errors.MEMORY_POOL_FULL:
            raise Full
        if error != self._errors.SUCCESS:
            raise StagingError(f"the dictionary did not store it ({error})")

    def get(self, key: bytes, deadline_ns: int, *, remove: bool = False) -> Any:
        """Return the memory of a value, which the caller has to free; raises KeyError, Dropped."""
        manager = self._manager(key, deadline_ns)
        message = self._message("DDPop" if remove else "DDGet", key=key)
        self._send(message, manager)
        self._await(self._dict._return_channel, deadline_ns)
        stream = self._dict._return_connector.recvh(use_main_as_stream_channel=True, timeout=seconds_until(deadline_ns))
        memory = None
        try:
            error, reason = self._read(stream.recv_bytes(timeout=seconds_until(deadline_ns))[0], message)
            with suppress(EOFError):
                if error == self._errors.SUCCESS:
                    memory, _ = stream.recv_mem(timeout=seconds_until(deadline_ns))
                while True:
                    stream.recv_mem(timeout=seconds_until(deadline_ns))[0].free()
            stream.close(timeout=seconds_until(deadline_ns))
        except BaseException:
            with suppress(Exception):  # what is left of the stream; without a deadline it would be waited for
                stream.close(timeout=1.0)
            if memory is not None:
                memory.free()
            raise
        if error == self._errors.KEY_NOT_FOUND:
            raise KeyError(key)
        if error == self._errors.MEMORY_POOL_FULL:
            raise Full
        if error != self._errors.SUCCESS:
            raise StagingError(f"the dictionary does not give it ({error}: {reason})")
        if memory is None:
            # Seen with version 0.15: a put into a dictionary without a block of this size succeeds, but for the value.
            raise Dropped(
                "the dictionary has the key without its value. It probably had no block of memory for it when it was "
                "written, and told nobody. Dragon gives every value a power of two of bytes; set more "
                "backends.dragon.total_mem, or stage smaller or fewer values at a time (let the reader keep up)"
            )
        return memory

    def contains(self, key: bytes, deadline_ns: int) -> bool:
        """Return whether `key` is there."""
        message = self._message("DDContains", key=key)
        self._send(message, self._manager(key, deadline_ns))
        return bool(self._answer(message, deadline_ns)[0] == self._errors.SUCCESS)

    def close(self, deadline_ns: int) -> None:
        """Take leave of the managers."""
        self._dict._timeout = seconds_until(deadline_ns)
        self._dict.detach()

    def abandon(self) -> None:
        """Forget a dictionary whose runtime has gone: its own end would wait for an answer, and hold locks."""
        self._dict._managers, self._dict._orc_connector = {}, None
        self._dict._return_channel = self._dict._buffered_return_channel = self._dict._main_stream_channel = None

    def _lay_ready(self, buffers: Sequence[Buffer], nbytes: int, deadline_ns: int) -> Any:
        """Copy the buffers into memory of the runtime."""
        if nbytes > self._pool.size:
            raise Full
        while True:
            try:
                memory = self._pool.alloc(nbytes)
                break
            except Exception as error:
                # Others' values on their way may take the room; it is theirs for a moment only.
                if perf_counter_ns() > deadline_ns:
                    raise Full from error
                self._check()
                sleep(0.001)
        target, start = memory.get_memview(), 0
        for buffer in buffers:
            part = buffer if isinstance(buffer, bytes) else bytes_of(buffer)
            target[start : start + len(part)] = part
            start += len(part)
        return memory

    def _manager(self, key: bytes, deadline_ns: int) -> Any:
        self._dict._timeout = seconds_until(deadline_ns)
        number = self._hash(key) % self._dict._num_managers
        self._dict._check_manager_connection(number)
        return self._dict._managers[number]

    def _message(self, kind: str, **fields: Any) -> Any:
        tag = self._dict._tag_inc()
        return getattr(self._messages, kind)(tag, self._dict._client_id, chkptID=self._dict._chkpt_id, **fields)

    def _send(self, message: Any, manager: Any) -> None:
        self._dict._send([(message, None)], manager, buffered=True)

    def _answer(self, message: Any, deadline_ns: int) -> tuple[int, str]:
        """Return the error and the reason with which `message` is answered."""
        self._await(self._dict._buffered_return_channel, deadline_ns)
        with self._dict._buffered_return_connector.recvh(timeout=seconds_until(deadline_ns)) as stream:
            return self._read(stream.recv_bytes(timeout=seconds_until(deadline_ns))[0], message)

    def _read(self, text: bytes, message: Any) -> tuple[int, str]:
        """Return the error and the reason in an answer, which Dragon's `parse` takes a tenth of a millisecond for."""
        with self._messages.capnp_schema.MessageDef.from_bytes(text) as answer:
            value = answer.responseOption.value
            if value.ref != message.tag:
                raise StagingError(f"the dictionary answered question {value.ref}, not {message.tag}")
            return int(value.err), str(value.errInfo)

    def _await(self, channel: Any, deadline_ns: int) -> None:
        """Wait for an answer in small steps: the runtime may be gone, and then there is none."""
        while not self._polled(channel, min(_LOOK_S, seconds_until(deadline_ns))):
            self._check()
            if perf_counter_ns() > deadline_ns:
                raise ServerLost(
                    "the dictionary did not answer in time. A client that was killed in the middle of a put halts it "
                    "for all; see the log of the staging server"
                )

    def _polled(self, channel: Any, seconds: float) -> bool:
        """Return whether a message is in `channel` before `seconds` have passed."""
        try:
            return bool(channel.poll(timeout=seconds, wait_mode=self._wait_mode))
        except self._late:
            return False
