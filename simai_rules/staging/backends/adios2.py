"""Streams by ADIOS2's Sustainable Staging Transport (SST); values by key travel as files in the run's folder.

Each stream is a pair of serial engines: the wheel has no MPI. A step holds the data as blocks of one variable of bytes.
SST copies them once when the step ends and once when they are read, straight into the final array; nothing is joined
before. The value's header travels with the word that there is a step (`sst_link`); one that is long is a text in the
step, which SST sends with its metadata.

Waiting, for room or for a step, and dropping steps is done here, by what the two ends say over their `sst_link`. SST
2.12 itself blocks without a deadline while its queue is full; a reader's BeginStep ignores its timeout after a step
that SST's policy Discard has dropped, and crashes the process when its timeout passes while a large step comes in. As
with SST's policy, it is the newest step that is dropped while the queue is full.

Data is sent when the reader asks for it, not ahead (SpeculativePreloadMode): else SST's EndStep would block, without a
deadline, while the reader is halted. What is left of SST's own waits, in which no Python code can run, is ended with
the process: `sst_watchdog`.

SST has no password and listens on all addresses of the node, whatever its parameters say: once an engine is open, its
listening sockets are made deaf to all but the chosen interface's address.
"""

import ctypes
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from simai_rules.errors import MissingProgram
from simai_rules.staging.backend import Buffer
from simai_rules.staging.backends.files import Files
from simai_rules.staging.backends.sst_link import (
    DRAINED,
    ENDED,
    LEFT,
    READ,
    SENT,
    Link,
    await_reader,
    base_name,
    find_writer,
    forget,
)
from simai_rules.staging.backends.sst_sockets import accept_only, own_sockets, send_at_once
from simai_rules.staging.backends.sst_watchdog import Watchdog
from simai_rules.staging.errors import CorruptValue, StagingError, StreamTimeout, shorten
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.interface import address_of

_ARRIVES_S = 60.0
"""A step of which the writer has said that it was sent is there by then, or the writer is gone."""
_LINGER_NS = 1_000_000_000
_SHORT = 1000
"""Bytes of a step's description that are sent on the line; SST sends longer ones."""
_MOST_ON_THE_LINE = 16
"""Steps that the reader has not given back yet, and whose descriptions are on the line: it is to take all of them."""
_HEADER, _DATA = "header", "data"


@cache
def bindings() -> Any:
    """Import ADIOS2's bindings; raises MissingProgram where they are not installed."""
    # adios2 imports torch and cupy if it can, for a class that is not used here: seconds, and hundreds of megabytes.
    hidden = [name for name in ("torch", "cupy") if name not in sys.modules]
    without: dict[str, Any] = dict.fromkeys(hidden)  # None makes an import fail
    sys.modules.update(without)
    try:
        import adios2.bindings
    except ImportError as error:
        raise MissingProgram(
            f"The backend adios2 needs the package adios2, which cannot be imported ({error}). Get it by: pip install "
            "'simai-rules[adios2]'"
        ) from None
    finally:
        for name in hidden:
            del sys.modules[name]
    return adios2.bindings


class Options(NamedTuple):
    """How streams are opened: the backend's options, as in Adios2Config."""

    queue_limit: int
    queue_policy: str
    data_transport: str
    interface: str

    def engine(self) -> dict[str, str]:
        """Return the parameters of the engine."""
        return {
            "QueueLimit": str(self.queue_limit),
            "QueueFullPolicy": "Block",
            "DataTransport": self.data_transport,
            "NetworkInterface": self.interface,
            "RendezvousReaderCount": "1",
            "SpeculativePreloadMode": "OFF",
            "MarshalMethod": "BP5",
            "ControlTransport": "sockets",
            "OpenTimeoutSecs": "10",
        }


def connect(info: ServerInfo, deadline_ns: int) -> "Adios2":  # noqa: ARG001
    """Open the run's folder; raises ServerLost where it is not there, MissingProgram without the package."""
    bindings()
    return Adios2(Path(info.address["folder"]), Options(**info.address["streams"]))


class Adios2(Files):
    """Values by key as files, and streams."""

    def __init__(self, folder: Path, options: Options) -> None:
        # Writers on other nodes raise no events here: a look every 2 ms at first is what finds their files.
        super().__init__("adios2", folder, pause_s=0.002, trust_events=False)
        self._options = options

    def stream_writer(self, name: str, deadline_ns: int) -> "SstWriter":
        """Open the stream for writing and wait for its reader; raises StreamTimeout where none comes."""
        folder, host = Path(self.where), self._host()
        return SstWriter(folder, await_reader(name, folder, host, deadline_ns), self._options, host, deadline_ns)

    def stream_reader(self, name: str, deadline_ns: int) -> "SstReader":
        """Open the stream for reading and wait for its writer; raises StreamTimeout where none comes."""
        folder = Path(self.where)
        link = find_writer(name, folder, deadline_ns)
        return SstReader(folder, link, self._options, self._host(), deadline_ns)

    def _host(self) -> str:
        return address_of(self._options.interface, "backends.adios2.interface")


class _Engine:
    """An open SST engine, the line to the partner, and how both are left."""

    def __init__(self, folder: Path, link: Link, options: Options, host: str, deadline_ns: int, *, write: bool) -> None:
        self._sst, self._link, self._folder = bindings(), link, folder
        self._adios = self._sst.ADIOS()
        self._io = self._adios.DeclareIO("stream")
        self._io.SetEngine("SST")
        self._io.SetParameters(options.engine())
        self.queue_limit = options.queue_limit
        self.source = f"adios2 in {folder}"
        self._watchdog = Watchdog(
            f"The stream {shorten(link.name)} ({self.source}): SST did not come back by the deadline. {link.partner}, "
            "the other end, is halted, or has died while the stream was opened. See the log of its component."
        )
        before = own_sockets()
        try:
            mode = self._sst.Mode.Write if write else self._sst.Mode.Read
            with self._watchdog.until(deadline_ns):
                self._engine = self._io.Open(str(folder / base_name(link.name)), mode)
        except RuntimeError as error:
            link.close()
            self._watchdog.end()
            raise StagingError(
                f"The stream {shorten(link.name)} ({self.source}) cannot be opened by SST, with {options.engine()}: "
                f"{_plain(error)}"
            ) from None
        for descriptor in own_sockets() - before:
            accept_only(descriptor, host)
            send_at_once(descriptor)
        self._open = True

    def _leave_open(self) -> None:
        """Never free the engine: SST would wait for the partner if it were closed, and uses it at exit."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object((self._adios, self._io, self._engine)))


class SstWriter(_Engine):
    """The writing end of a stream."""

    def __init__(self, folder: Path, link: Link, options: Options, host: str, deadline_ns: int) -> None:
        super().__init__(folder, link, options, host, deadline_ns, write=True)
        one = np.zeros(1, np.uint8)
        self._header = self._io.DefineVariable(_HEADER, "")
        self._data = self._io.DefineVariable(_DATA, one, [], [], [1], False)
        self._discards = options.queue_policy == "discard"
        self.discarded = False
        self._steps = self._sent = 0
        self._text = b""
        self._kept: list[Any] = []

    def begin(self, deadline_ns: int) -> bool | None:
        """Wait until the queue has room, or drop this step; SST's EndStep then finds room and does not wait."""
        link = self._link
        link.hear()
        while not link.left:
            if link.lost:
                raise link.partner_died("reader")
            full = self._sent - link.read >= self.queue_limit
            if self._discards or not full:
                self.discarded = full
                return True
            if perf_counter_ns() > deadline_ns:
                return None
            link.hear(deadline_ns)
        return False

    def put(self, buffers: Sequence[Buffer], nbytes: int) -> None:
        """Begin SST's step and hand over the buffers, without a copy yet."""
        self._engine.BeginStep(self._sst.StepMode.Append, -1.0)
        self._text = b"%d %d %b" % (self._steps, nbytes, bytes(buffers[0][8:]))
        if len(self._text) > _SHORT or self._sent - self._link.read >= _MOST_ON_THE_LINE:
            self._engine.Put(self._header, self._text.decode("ascii"))
            self._text = b""
        for buffer in buffers[1:]:
            array = np.frombuffer(buffer, np.uint8)
            if array.size:
                self._kept.append(array)
                self._data.SetSelection(([], [array.size]))
                # By address: the bindings crash for an array that cannot be written to.
                place = array if array.flags.writeable else array.ctypes.data
                self._engine.Put(self._data, place, self._sst.Mode.Deferred)

    def end(self, deadline_ns: int) -> None:
        """Let SST copy the data and tell the reader."""
        if not self.discarded:
            # A reader that has given everything back asks for nothing: then there is nobody to wait for.
            with self._watchdog.until(deadline_ns) if self._sent > self._link.read else nullcontext():
                self._engine.EndStep()
            self._sent += 1
            self._link.tell(SENT, self._sent, self._text)
            self._kept.clear()
        self._steps += 1

    def abandon(self) -> None:
        """Cut the line, which says to the reader that this end is dead."""
        self._open = False
        self._link.hear()
        self._link.close()
        if self._link.lost or self._link.left:
            self._engine.Close()
        else:
            self._leave_open()
        self._watchdog.end()

    def close(self, deadline_ns: int) -> None:
        """Close the engine when the reader has found no more steps, because SST waits for that without a deadline."""
        if not self._open:
            return
        self._open = False
        link, start = self._link, perf_counter_ns()
        link.tell(ENDED, self._sent)
        link.hear()
        while not (link.drained or link.left or link.lost) and perf_counter_ns() < deadline_ns:
            link.hear(deadline_ns)
        if link.drained or link.left or link.lost:
            with self._watchdog.until(deadline_ns):
                self._engine.Close()
        else:
            self._leave_open()
        self._watchdog.end()
        link.close()
        forget(link.name, self._folder)
        # A reader that has every step but has not looked for another one yet will hear that there is none.
        if not (link.drained or link.left or link.lost or link.read == self._sent):
            cause = f"Its reader, {link.partner}, is too slow, or hangs (see its log); the rest may be lost."
            seconds = (perf_counter_ns() - start) / 1e9
            raise StreamTimeout(link.name, self.source, seconds, "was not read to its end", cause)


class SstReader(_Engine):
    """The reading end of a stream."""

    def __init__(self, folder: Path, link: Link, options: Options, host: str, deadline_ns: int) -> None:
        super().__init__(folder, link, options, host, deadline_ns, write=False)
        self.ended = False
        self._given_back = self._patience_ns = self._nbytes = 0
        self._header = b""

    def begin(self, deadline_ns: int) -> bool:
        """Wait until the writer has said that there is a step."""
        link = self._link
        while link.sent <= self._given_back:
            if link.ended is not None and link.ended <= self._given_back:
                self.ended = True
                link.tell(DRAINED)
                return False
            if link.lost:
                raise link.partner_died("writer")
            if not link.hear(deadline_ns) and perf_counter_ns() >= deadline_ns:
                return False
        return True

    def take(self) -> int:
        """Take the step from SST, where it is or soon will be."""
        link = self._link
        if self._engine.BeginStep(self._sst.StepMode.Read, _ARRIVES_S) != self._sst.StepStatus.OK:
            link.hear(perf_counter_ns() + _LINGER_NS)
            raise link.partner_died("writer")
        text = link.texts.popleft() or self._engine.Get(self._io.InquireVariable(_HEADER)).encode()
        step, nbytes, self._header = text.split(b" ", 2)
        self._nbytes = int(nbytes)
        return int(step)

    def open(self, deadline_ns: int) -> "SstValue":
        """Return the value of the step that has begun; each of its blocks is waited for that long."""
        self._patience_ns = deadline_ns - perf_counter_ns()
        return SstValue(self, self._header, self._nbytes)

    def read_block(self, number: int, array: Any) -> None:
        """Fill an array of bytes with block `number` of the step's data; raises CorruptValue where that is another."""
        variable = self._io.InquireVariable(_DATA)
        try:
            variable.SetBlockSelection(number)
            size = variable.SelectionSize()
            if size == array.size:
                with self._watchdog.until(perf_counter_ns() + self._patience_ns):
                    self._engine.Get(variable, array, self._sst.Mode.Sync)
        except RuntimeError as error:
            self._link.hear(perf_counter_ns() + _LINGER_NS)
            if self._link.lost:
                raise self._link.partner_died("writer") from None
            raise CorruptValue(f"its block {number} cannot be read ({_plain(error)})") from None
        if size != array.size:
            raise CorruptValue(f"its block {number} has {size} bytes, not {array.size}")

    def end(self) -> None:
        """Give the step back to SST, then tell the writer."""
        self._engine.EndStep()
        self._given_back += 1
        self._link.tell(READ, self._given_back)

    def close(self) -> None:
        """Tell the writer and close the engine."""
        if self._open:
            self._open = False
            self._link.tell(LEFT)
            self._engine.Close()
            self._watchdog.end()
            self._link.close()

    def abandon(self) -> None:
        """Cut the line, which says to the writer that this end is dead, and close the engine: SST waits for nobody."""
        self._open = False
        self._link.close()
        self._engine.Close()
        self._watchdog.end()


class SstValue:
    """The value of the step that is open."""

    def __init__(self, reader: SstReader, header: bytes, nbytes: int) -> None:
        self.header, self.nbytes, self.source = header, nbytes, reader.source
        self._reader, self._block = reader, 0

    def read_header(self) -> bytes:
        """Return the header, which came along."""
        return self.header

    def readinto(self, view: memoryview) -> None:
        """Fill an array's memory with the next block; empty arrays have none."""
        if view.nbytes:
            self._reader.read_block(self._block, np.frombuffer(view, np.uint8))
            self._block += 1

    def close(self) -> None:
        """Nothing to end: the step does that."""


def _plain(error: RuntimeError) -> str:
    """Return the last part of ADIOS2's message, which is coloured and repeats itself."""
    return str(error).splitlines()[0].rpartition(" : ")[2].replace("\x1b[0m", "").strip()
