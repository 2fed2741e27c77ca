"""A client of a running staging server that damages what is staged: python fault_client.py garble|flip SERVER_JSON.

It works on the bytes below the DataStore, through the backend's own client, and prints the keys that it damaged.
"""

import sys
import time
from pathlib import Path

from simai_rules.staging.backends import connect
from simai_rules.staging.info import ServerInfo

# The ranks are there before they have loaded torch and begin to stage.
_DEADLINE_S = 60.0


def main() -> None:
    action, file = sys.argv[1], Path(sys.argv[2])
    info = ServerInfo.read(file)
    backend = connect(info, _in(_DEADLINE_S))
    until = time.monotonic() + _DEADLINE_S
    damaged: list[str] = []
    step = 0
    # Of rank 0 whatever is staged and not yet read; the reader comes by later.
    while not damaged and time.monotonic() < until:
        for key in [f"snapshot/0/{step + n}" for n in range(50)]:
            if backend.exists(key, _in(5)):
                old = _raw(backend, key)
                new = b"\xff" * 64 + old[64:] if action == "garble" else old[:-3] + bytes([old[-3] ^ 0x10]) + old[-2:]
                backend.put(key, [new], len(new), _in(5))
                damaged.append(key)
        if not damaged:
            time.sleep(0.02)
            # A reader that is faster than we look has taken some already.
            step = _first(backend, step)
    backend.close()
    print(*damaged)


def _raw(backend, key: str) -> bytes:
    """All bytes of a value, the header with its length included."""
    incoming = backend.open(key, _in(5))
    header = incoming.header if incoming.header is not None else incoming.read_header()
    rest = bytearray(incoming.nbytes - 8 - len(header))
    incoming.readinto(memoryview(rest))
    incoming.close()
    return len(header).to_bytes(8, "little") + header + bytes(rest)


def _first(backend, step: int) -> int:
    for ahead in range(2000):
        if backend.exists(f"snapshot/0/{step + ahead}", _in(5)):
            return step + ahead
    return step


def _in(seconds: float) -> int:
    return time.perf_counter_ns() + int(seconds * 1e9)


if __name__ == "__main__":
    main()
