"""How snapshots get from a simulation rank to its training rank: by key, or as the steps of a stream.

Both sides choose by what the backend offers. Each operation is recorded as its DataStore or stream timed it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, Self

from simai_rules.components.coupling import snapshot_key, stop_key, stream_name
from simai_rules.components.payload import Status, check
from simai_rules.errors import UserError

if TYPE_CHECKING:
    from simai_rules.config.experiment import Point
    from simai_rules.events.recorder import Recorder
    from simai_rules.staging.datastore import DataStore
    from simai_rules.staging.stream import StreamReader, StreamWriter

_LOOK_EVERY_S = 0.005


class Sender(Protocol):
    """The simulation's side."""

    def send(self, step: int, value: Any, iteration: int) -> bool:
        """Stage snapshot `step`, waiting for room; return False, and stage nothing, if the training says stop first."""


class Receiver(Protocol):
    """The training's side."""

    most: int
    """Snapshots that can be there at the same time."""

    def poll(self, iteration: int) -> bool:
        """Return whether there is a next snapshot, without waiting."""

    def receive(self, iteration: int) -> tuple[int, Status, Any]:
        """Return the step, the check's outcome and the value of the next snapshot, waiting for it.

        The check is outside of the timed part.
        """


class _Exchange:
    """What both ways have in common; leaving the `with` ends the exchange, by an exception at once."""

    def __init__(self, point: Point, store: DataStore, rank: int, recorder: Recorder) -> None:
        self._point, self._store, self._rank, self._recorder = point, store, rank, recorder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.__exit__(*exception)


class KeySender(_Exchange):
    """Each snapshot has a key of its own, and no more than `in_flight` of them lie unread."""

    def send(self, step: int, value: Any, iteration: int) -> bool:
        """Write the snapshot once there is room."""
        if step >= self._point.staging.in_flight and not self._room(step, iteration):
            return False
        self._store.stage_write(snapshot_key(self._rank, step), value)
        self._recorder.add(self._store.last, iteration=iteration, step=step)
        return True

    def _room(self, step: int, iteration: int) -> bool:
        """Wait until there is room for snapshot `step`; False if the training says stop first.

        Without it, a training that is slower than the simulation would let the staging area fill up, which on /dev/shm
        is the node's memory.
        """
        limits = self._point.staging
        oldest = snapshot_key(self._rank, step - limits.in_flight)
        full = self._store.poll_staged_data(oldest)
        self._recorder.add(self._store.last, iteration=iteration, step=step)
        if not full:
            return True
        start = time.perf_counter_ns()
        room = True
        while self._store.poll_staged_data(oldest):
            if self._store.poll_staged_data(stop_key(self._rank)):
                room = False
                break
            if time.perf_counter_ns() - start > limits.timeout * 1e9:
                raise UserError(
                    f"{limits.in_flight} snapshots are staged, and for {limits.timeout:g} s the training has not read "
                    f"the oldest, '{oldest}'. Either it is too slow for this simulation (raise simulation.write_every "
                    "or lower training.read_every), or it has failed (see its log)."
                )
            time.sleep(_LOOK_EVERY_S)
        waited = time.perf_counter_ns() - start
        self._recorder.record("wait", start, waited, iteration=iteration, step=step, key=oldest, wait_ns=waited)
        return room


class KeyReceiver(_Exchange):
    """Reads and deletes one key after another."""

    def __init__(self, point: Point, store: DataStore, rank: int, recorder: Recorder) -> None:
        super().__init__(point, store, rank, recorder)
        self.most = point.staging.in_flight
        self._step = 0

    def poll(self, iteration: int) -> bool:
        """Look for the next key."""
        found = self._store.poll_staged_data(snapshot_key(self._rank, self._step))
        self._recorder.add(self._store.last, iteration=iteration, step=self._step)
        return found

    def receive(self, iteration: int) -> tuple[int, Status, Any]:
        """Read the next key, check what came, and delete it."""
        step, key = self._step, snapshot_key(self._rank, self._step)
        snapshot = self._store.stage_read(key)
        operation = self._store.last
        status = check(snapshot, self._rank, step)
        self._recorder.add(operation, iteration=iteration, step=step, status=status)
        self._store.clean_staged_data(key)
        self._recorder.add(self._store.last, iteration=iteration, step=step)
        self._step += 1
        return step, status, snapshot


class StreamSender(_Exchange):
    """Each snapshot is a step of the rank's stream, which waits while its queue is full, or drops the step."""

    def __init__(self, point: Point, store: DataStore, rank: int, recorder: Recorder) -> None:
        super().__init__(point, store, rank, recorder)
        self._stream: StreamWriter = self._open.enter_context(store.stream_writer(stream_name(rank)))

    def send(self, step: int, value: Any, iteration: int) -> bool:
        """Write the snapshot as a step; one that is dropped is recorded with the status "discarded"."""
        stream, recorder = self._stream, self._recorder
        going_on = stream.begin_step()
        if stream.last.wait_ns:
            recorder.add(stream.last, iteration=iteration, step=step)
        if not going_on:
            return False
        stream.write(value)
        stream.end_step()
        recorder.add(stream.last, iteration=iteration, step=step, status="discarded" if stream.discarded else "ok")
        return True


class StreamReceiver(_Exchange):
    """Reads the steps of the rank's stream; those that the writer has dropped are never seen."""

    def __init__(self, point: Point, store: DataStore, rank: int, recorder: Recorder) -> None:
        super().__init__(point, store, rank, recorder)
        self._stream: StreamReader = self._open.enter_context(store.stream_reader(stream_name(rank)))
        self.most = self._stream.queue_limit
        self._begun: int | None = None

    def poll(self, iteration: int) -> bool:
        """Begin the next step if it is there."""
        self._begun = self._stream.begin_step(timeout=0)
        self._recorder.add(self._stream.last, iteration=iteration, step=-1 if self._begun is None else self._begun)
        return self._begun is not None

    def receive(self, iteration: int) -> tuple[int, Status, Any]:
        """Read the step that has begun, or the next, and give it back; then check what came."""
        stream, step, self._begun = self._stream, self._begun, None
        if step is None:
            step = stream.begin_step()
            self._recorder.add(stream.last, iteration=iteration, step=-1 if step is None else step)
        if step is None:
            seconds = self._point.staging.timeout
            why = "has ended" if stream.ended else f"has sent none within {seconds:g} s (staging.timeout)"
            raise UserError(f"The training has no snapshot to learn from: the simulation {why}. See its log.")
        snapshot = stream.read()
        stream.end_step()
        operation = stream.last
        status = check(snapshot, self._rank, step)
        self._recorder.add(operation, iteration=iteration, step=step, status=status)
        return step, status, snapshot


def sender(point: Point, store: DataStore, rank: int, recorder: Recorder) -> KeySender | StreamSender:
    """Return the simulation's side, ready to send; waits for the training's where that is needed."""
    return (StreamSender if store.has_streams else KeySender)(point, store, rank, recorder)


def receiver(point: Point, store: DataStore, rank: int, recorder: Recorder) -> KeyReceiver | StreamReceiver:
    """Return the training's side, ready to receive; waits for the simulation's where that is needed."""
    return (StreamReceiver if store.has_streams else KeyReceiver)(point, store, rank, recorder)
