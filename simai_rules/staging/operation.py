"""What one verb of a DataStore took, split into its parts."""

from dataclasses import dataclass


@dataclass(slots=True)
class Operation:
    """One timed verb of a DataStore. Times are nanoseconds of `time.perf_counter_ns`.

    The parts do not overlap and add up to the duration, but for the few microseconds between them: `serialize_ns`
    (value to header and buffers), `transport_ns` (moving bytes, and looking for the key), `wait_ns` (the key was not
    there yet), `deserialize_ns` (reading the header, allocating, building the value). The page faults of a freshly
    allocated array happen while it is filled and so count as transport.
    """

    verb: str
    """write, read, poll or delete."""
    key: str
    start_ns: int
    duration_ns: int
    serialize_ns: int = 0
    transport_ns: int = 0
    wait_ns: int = 0
    deserialize_ns: int = 0
    nbytes: int = 0
    """Bytes of the value as it was moved: header and data."""
    replaced: bool | None = None
    """write: whether the key was there before; None where that is not known."""
    found: bool | None = None
    """poll: whether the key is there."""
