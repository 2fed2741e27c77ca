"""A client of a running staging server that damages a staged value: fault_client.py garble|flip SERVER_JSON PID...

It works on the bytes below the DataStore, through the backend's own client, and prints the key that it damaged. The
processes PID, the readers, are halted meanwhile, so that none of them takes the value before it is damaged.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from simai_rules.staging.backends import connect
from simai_rules.staging.info import ServerInfo

# The ranks are there before they have loaded torch and begin to stage.
_DEADLINE_S = 60.0
_STEPS = 2000


def main() -> None:
    action, file, readers = sys.argv[1], Path(sys.argv[2]), [psutil.Process(int(pid)) for pid in sys.argv[3:]]
    backend = connect(ServerInfo.read(file), _in(_DEADLINE_S))
    until = time.monotonic() + _DEADLINE_S
    damaged = ""
    # A halted reader may have opened the oldest; the newest is read later.
    while not damaged and time.monotonic() < until:
        if len(_staged(backend)) > 1:
            with _halted(readers):
                if len(keys := _staged(backend)) > 1:
                    damaged = keys[-1]
                    old = _raw(backend, damaged)
                    flipped = old[:-3] + bytes([old[-3] ^ 0x10]) + old[-2:]
                    new = b"\xff" * 64 + old[64:] if action == "garble" else flipped
                    backend.put(damaged, [new], len(new), _in(5))
        time.sleep(0.02)
    backend.close()
    print(damaged)


_first = 0


def _staged(backend) -> list[str]:
    """The snapshots of rank 0 that are staged, the oldest first; those that an earlier look found gone stay so."""
    global _first
    found: list[str] = []
    for step in range(_first, _STEPS):
        key = f"snapshot/0/{step}"
        if backend.exists(key, _in(5)):
            _first = _first if found else step
            found.append(key)
        elif found:
            break
    return found


@contextmanager
def _halted(processes: Sequence[psutil.Process]) -> Iterator[None]:
    try:
        for process in processes:
            process.suspend()
        while any(process.status() != psutil.STATUS_STOPPED for process in processes):
            time.sleep(0.01)
        yield
    finally:
        for process in processes:
            process.resume()


def _raw(backend, key: str) -> bytes:
    """All bytes of a value, the header with its length included."""
    incoming = backend.open(key, _in(5))
    header = incoming.header if incoming.header is not None else incoming.read_header()
    rest = bytearray(incoming.nbytes - 8 - len(header))
    incoming.readinto(memoryview(rest))
    incoming.close()
    return len(header).to_bytes(8, "little") + header + bytes(rest)


def _in(seconds: float) -> int:
    return time.perf_counter_ns() + int(seconds * 1e9)


if __name__ == "__main__":
    main()
