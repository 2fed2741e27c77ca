import numpy as np

from simai_rules.analysis.grid import grids
from simai_rules.analysis.recommendation import headline, verdicts
from simai_rules.analysis.results import PointResult
from simai_rules.analysis.samples import PARTS, Samples, Transfers


def point(backend, elements, milliseconds, repeat=0, asides=0.0, dropped=0):
    """A point whose writes and reads take `milliseconds` each, give or take 1 %, and its polls and deletes `asides`."""
    seconds = milliseconds / 1000 * np.linspace(0.99, 1.01, 51)
    transfers = Transfers(seconds, np.full(51, elements * 4))
    settings = {"backend": backend, "elements": elements, "nodes": 1, "repeat": repeat}
    samples = Samples(transfers, transfers, dict.fromkeys(PARTS, 0.0) | {"poll and delete": asides / 1000})
    counts = {"write": {"ok": 60 - dropped, "discarded": dropped}, "poll": {"ok": 1000}}
    rows = [
        {"operation": operation, "status": status, "count": count}
        for operation, statuses in counts.items()
        for status, count in statuses.items()
    ]
    return PointResult("p", None, settings, "done", rows=rows, samples=samples)


def failed(backend, elements):
    return PointResult("p", None, {"backend": backend, "elements": elements, "repeat": 0, "nodes": 1}, "failed", "x")


def answer(*points):
    (grid,) = grids(points)
    found = verdicts(grid)
    return found, headline(found)


def test_one_backend_fastest_everywhere():
    found, text = answer(*(point(b, e, t * e) for b, t in (("redis", 3), ("node-local", 1.5)) for e in (1000, 10_000)))
    assert text == (
        "node-local writes and reads fastest at both message sizes compared; the next, redis, takes 2.0 times as long."
    )
    assert found[0].text == "node-local is fastest; redis takes 2.0 times as long"
    assert np.isclose(found[0].ranking[0][1].value, 3.0)


def test_different_backends_at_different_sizes():
    _, text = answer(
        point("redis", 1000, 1), point("filesystem", 1000, 4),
        point("redis", 10_000, 30), point("filesystem", 10_000, 10),
    )  # fmt: skip
    assert text == (
        "redis writes and reads fastest at 4 KB; the next, filesystem, takes 4.0 times as long. "
        "filesystem writes and reads fastest at 40 KB; the next, redis, takes 3.0 times as long."
    )


def test_what_the_times_leave_out_is_said():
    found, text = answer(
        point("redis", 1000, 2, asides=9), point("filesystem", 1000, 1, asides=3),
        point("redis", 10_000, 20, asides=50), failed("filesystem", 10_000),
    )  # fmt: skip
    assert text.endswith(
        "Looking for data and deleting it takes longer than the transfers themselves: "
        "filesystem at 4 KB; redis at 4 KB and 40 KB. No result: filesystem at 40 KB."
    )
    assert found[0].asides == {"redis": 0.009, "filesystem": 0.003}


def test_what_a_stream_dropped_is_said_where_it_is_ranked():
    found, text = answer(
        *(point(b, e, t) for b, t in (("redis", 2), ("filesystem", 4)) for e in (1000, 10_000)),
        point("adios2", 1000, 1, dropped=24), point("adios2", 1000, 1, repeat=1), point("adios2", 10_000, 3),
    )  # fmt: skip
    assert text.endswith("Dropped snapshots, which are in none of these times: adios2 (20 %) at 4 KB.")
    assert found[0].text == "adios2 is fastest; redis takes 2.0 times as long; snapshots dropped: adios2 (20 %)"
    assert "dropped" not in found[1].text


def test_overlapping_intervals_are_no_clear_difference():
    found, text = answer(point("redis", 1000, 1.0), point("node-local", 1000, 1.001), point("filesystem", 1000, 12))
    assert (
        text
        == "No clear difference between node-local and redis at 4 KB; the next, filesystem, takes 12 times as long."
    )
    assert found[0].text == "no clear difference between node-local and redis; filesystem takes 12 times as long"
    assert set(found[0].level) == {"redis", "node-local"}


def test_a_backend_without_a_result_is_named_and_never_ranked():
    found, _ = answer(point("redis", 1000, 1), point("node-local", 1000, 2), failed("filesystem", 1000))
    assert found[0].without == ["filesystem"]
    assert found[0].text.endswith("(no result: filesystem)")


def test_without_a_comparison_there_is_no_recommendation():
    assert answer(point("redis", 1000, 1))[1] == "No comparison yet: only redis has results."
    assert answer(failed("redis", 1000))[1] == "No recommendation yet: no point has measured transfers."
