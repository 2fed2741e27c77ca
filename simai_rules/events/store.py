"""Events on disk: one Parquet file per component and point, gathered over MPI and written by rank 0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simai_rules.errors import UserError
from simai_rules.events.recorder import FIELDS, Recorder
from simai_rules.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

EVENTS_FORMAT = "1"
_TAG = 7301


class UnreadableEvents(UserError):
    """A file of events that is not there, cut short, or of another format."""


def schema() -> pa.Schema:
    """Return the columns of an events file: times in ns (int64), sizes in bytes, strings dictionary-encoded."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    types = {
        **dict.fromkeys(("operation", "kernel", "phase", "status"), word),
        "key": pa.string(),  # nearly every one is different: nothing to gain by a dictionary
        **dict.fromkeys(FIELDS[5:12], pa.int64()),
        "iteration": pa.int64(),
        "step": pa.int64(),
        "replaced": pa.bool_(),
        "found": pa.bool_(),
        "loss": pa.float64(),
        **dict.fromkeys(("calls", "work_ns", "device_ns"), pa.int64()),
        "flops": pa.float64(),
    }
    constant = [("component", word), ("host", word), ("rank", pa.int32()), ("local_rank", pa.int32())]
    return pa.schema([*constant, *((name, types[name]) for name in FIELDS)])


def _table(recorder: Recorder) -> pa.Table:
    import pyarrow as pa

    size = len(recorder)
    columns: dict[str, Any] = {
        "component": [recorder.component] * size,
        "host": [recorder.host] * size,
        "rank": [recorder.rank] * size,
        "local_rank": [recorder.local_rank] * size,
        **recorder.columns(),
    }
    return pa.table(columns, schema=schema())


def _to_bytes(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _from_bytes(content: bytes) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


def write_events(recorder: Recorder, comm: Any | None, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Gather the events of all ranks and let rank 0 write them to `path`, atomically; collective over `comm`.

    Ranks are received and written one after another, as compressed Arrow bytes: rank 0 holds one rank's events at a
    time, and the only limit is MPI's 2 GiB for the bytes of a single rank (about 50 million events).

    `metadata` goes into the file's schema beside the format version, the component and `clock_offsets`: a JSON list
    with, per rank, `[host, wall clock - perf_counter in ns]`.

    Raises UserError (on rank 0) where the file cannot be written.
    """
    import pyarrow.parquet as pq

    offset = [recorder.host, recorder.clock_offset_ns]
    offsets = [offset] if comm is None else comm.gather(offset)
    table = _table(recorder)
    if comm is not None and comm.Get_rank() > 0:
        comm.send(_to_bytes(table), dest=0, tag=_TAG)
        return
    described = schema().with_metadata(
        {
            "format": EVENTS_FORMAT,
            "component": recorder.component,
            "clock_offsets": json.dumps(offsets),
            **metadata,
        }
    )
    with (
        replacing(Path(path)) as temporary,
        pq.ParquetWriter(temporary, described, compression="zstd", write_page_checksum=True) as writer,
    ):
        writer.write_table(table.replace_schema_metadata(described.metadata))
        for received in _from_other_ranks(comm):
            writer.write_table(received.replace_schema_metadata(described.metadata))


def _from_other_ranks(comm: Any | None) -> Iterator[pa.Table]:
    """Give the events of rank 1, 2, … one after another, in the order of the ranks."""
    if comm is not None:
        for rank in range(1, comm.Get_size()):
            yield _from_bytes(comm.recv(source=rank, tag=_TAG))


def read_events(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file of events, or some of its columns; `table.schema.metadata` holds what `write_events` noted.

    Raises UnreadableEvents where it is missing, cut short, or of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Written as dictionaries, the strings come back as such (the Arrow schema is stored in the file).
        table = pq.ParquetFile(path, page_checksum_verification=True).read(columns=columns)
    except FileNotFoundError:
        raise UnreadableEvents(f"{path} is not there: the component did not come to its end") from None
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UnreadableEvents(
            f"{path} cannot be read ({reason}): it was cut short or overwritten. Delete it and run the point again"
        ) from error
    found = (table.schema.metadata or {}).get(b"format", b"none").decode()
    if found != EVENTS_FORMAT:
        raise UnreadableEvents(
            f"{path} has events format {found}, this version of simai-rules reads {EVENTS_FORMAT}. Run the point again"
        )
    return table
