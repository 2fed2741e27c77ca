"""Writing many buffers by few system calls: a header and arrays, without gluing them together."""

from collections.abc import Callable, Sequence

from simai_rules.staging.backend import Buffer, bytes_of

IOV_MAX = 1024
"""Buffers that Linux takes in one writev or sendmsg."""


def write_rest(step: Callable[[Sequence[Buffer]], int], buffers: Sequence[Buffer], written: int) -> None:
    """Call `step` (os.writev of a file, sendmsg of a socket) until it has taken all but the first `written` bytes.

    One call is enough for most values, and then this is not needed; it is where there are more than IOV_MAX buffers,
    where the kernel takes only a part (it never takes more than 2 GiB at once), or a signal cuts it short.
    """
    rest = [bytes_of(buffer) for buffer in buffers]
    first = 0
    while True:
        while first < len(rest) and written >= len(rest[first]):
            written -= len(rest[first])
            first += 1
        if first == len(rest):
            return
        rest[first] = rest[first][written:]
        written = step(rest[first : first + IOV_MAX])
