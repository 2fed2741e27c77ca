"""Staging in Dragon's dictionary: the DataStore's verbs against the library's own calls on the same bytes.

python -m benchmarks.dragon: each row gives the medians of `stage_write`/`stage_read` and of `d[key] = bytes`/`d[key]`
by the same process, and the median quotient of rounds in which both ran one after the other. Non-zero exit if a target
is missed. What the library reads stays bytes; what is read here is an array.
"""

import sys

import numpy as np

from benchmarks.common import Table, client, compare, payload, rate, size
from benchmarks.staging import timed

SIZES = (4_000, 4_000_000, 64_000_000)
TARGET = 0.9


def main() -> int:
    """Run the benchmark; return the number of missed targets, at most 1."""
    table = Table(("backend", "size", "verb", "ours", "library's", "ratio", "target"))
    with client("dragon") as (store, address):
        from dragon.data import DDict

        library = DDict.attach(address["dictionary"], timeout=60)
        for nbytes in SIZES:
            data = payload(nbytes)
            same = data.tobytes()
            rounds = 51 if nbytes < 1e6 else 11
            store.stage_write("ours", data)
            library["library"] = same
            assert np.array_equal(store.stage_read("ours"), data)
            assert library["library"] == same
            for verb, result in (
                (
                    "write",
                    compare(
                        lambda _, data=data: timed(lambda: store.stage_write("ours", data)),
                        lambda _, same=same: timed(lambda: library.__setitem__("library", same)),
                        rounds,
                    ),
                ),
                (
                    "read",
                    compare(
                        lambda _: timed(lambda: store.stage_read("ours")),
                        lambda _: timed(lambda: library["library"]),
                        rounds,
                    ),
                ),
            ):
                cells = ("dragon", size(nbytes), verb, rate(nbytes, result.ours_s), rate(nbytes, result.raw_s))
                table.add(*cells, f"{result.ratio:.2f}", target=f">= {TARGET}", met=result.ratio >= TARGET)
        library.detach()
    return min(table.failed, 1)


if __name__ == "__main__":
    sys.exit(main())
