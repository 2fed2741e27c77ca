import pyarrow.parquet as pq
import pytest

from simai_rules.analysis.rates import COLUMNS, EVENT_COLUMNS, RATES
from simai_rules.analysis.summary import rows_of
from simai_rules.events.recorder import Recorder
from simai_rules.events.store import read_events, write_events

MS = 1_000_000


def kernel(recorder, milliseconds, *, calls=2, device_ms=0, flops=0.0, nbytes=0, iteration=0, name="FFT"):
    recorder.record(
        "compute", 0, 100 * MS, iteration=iteration, kernel=name, calls=calls, work_ns=round(milliseconds * MS),
        device_ns=round(device_ms * MS), flops=flops, nbytes=nbytes,
    )  # fmt: skip


@pytest.fixture
def rows(tmp_path):
    """The rows of recorders of one component, by kernel and variant."""

    def read(*recorders):
        import pyarrow as pa

        tables = []
        for recorder in recorders:
            write_events(recorder, None, tmp_path / "x.parquet", {})
            tables.append(read_events(tmp_path / "x.parquet").replace_schema_metadata(None))
        found = rows_of(pa.concat_tables(tables), {"backend": "redis"})
        return {(row["kernel"], row["variant"]): row for row in found}

    return read


def measuring(rank=0):
    recorder = Recorder("simulation", rank, "node0")
    recorder.phase = "measured"
    return recorder


def test_rates_are_those_of_an_event_over_the_time_of_its_calls(rows):
    recorder = measuring()
    for milliseconds in (1, 2, 4):
        kernel(recorder, milliseconds, flops=8e6, nbytes=4_000_000)
    row = rows(recorder)["FFT", ""]
    assert (row["count"], row["calls"]) == (3, 6)
    assert row["median_call_s"] == pytest.approx(0.001)
    # 8, 4 and 2 GFLOP/s; 5 % lie a tenth of the way from the slowest to the median.
    assert row["median_GFLOPps"] == pytest.approx(4)
    assert row["p5_GFLOPps"] == pytest.approx(2.2)
    assert row["p95_GFLOPps"] == pytest.approx(7.6)
    assert row["median_GBps"] == pytest.approx(2)


def test_the_time_of_the_device_goes_before_that_of_the_clock(rows):
    recorder = measuring()
    kernel(recorder, 10, device_ms=2, flops=8e6)
    row = rows(recorder)["FFT", ""]
    assert row["median_GFLOPps"] == pytest.approx(4)
    assert row["median_call_s"] == pytest.approx(0.001)


def test_the_slowest_rank_is_that_of_the_smallest_median(rows):
    ranks = [measuring(rank) for rank in range(3)]
    for recorder, times in zip(ranks, ((1, 1, 1), (8, 2, 2), (1, 1, 8)), strict=True):
        for milliseconds in times:
            kernel(recorder, milliseconds, flops=8e6)
    row = rows(*ranks)["FFT", ""]
    assert row["median_GFLOPps"] == pytest.approx(8)
    assert row["slowest_rank_GFLOPps"] == pytest.approx(4)


def test_without_operations_or_bytes_there_is_no_rate_and_never_a_zero(rows):
    recorder = measuring()
    kernel(recorder, 1, nbytes=1000, name="Ring")
    kernel(recorder, 1, flops=1000, name="own")
    kernel(recorder, 1, name="nothing")
    found = rows(recorder)
    assert {name for name in RATES if found["Ring", ""][name] is not None} == {
        name for name in RATES if name.endswith("GBps")
    }
    assert {name for name in RATES if found["own", ""][name] is not None} == {
        name for name in RATES if name.endswith("GFLOPps")
    }
    assert all(found["nothing", ""][name] is None for name in RATES)
    assert found["nothing", ""]["calls"] == 2


def test_ranks_and_iterations_with_nothing_to_do_slow_nobody_down(rows):
    first, second = measuring(), measuring(1)
    kernel(first, 1, nbytes=2_000_000, name="WriteSingleRank")
    kernel(second, 1, name="WriteSingleRank")
    kernel(first, 1, flops=2e6)
    kernel(first, 0, calls=0)  # its drawn time was shorter than a call
    found = rows(first, second)
    assert found["WriteSingleRank", ""]["slowest_rank_GBps"] == pytest.approx(2)
    assert found["FFT", ""]["p5_GFLOPps"] == pytest.approx(2)
    assert found["FFT", ""]["count"] == 2


def test_kernels_of_the_start_are_a_row_of_their_own_and_those_of_the_warm_up_in_none(rows):
    recorder = Recorder("simulation", 0, "node0")
    kernel(recorder, 1, flops=9e6, iteration=-1)
    recorder.record("start", 0, 100 * MS)
    kernel(recorder, 4, flops=2e6, iteration=0)
    recorder.phase = "measured"
    kernel(recorder, 1, flops=2e6, iteration=1)
    found = rows(recorder)
    assert found["FFT", "start"]["median_GFLOPps"] == pytest.approx(9)
    assert (found["FFT", ""]["count"], found["FFT", ""]["warmup_count"]) == (1, 1)
    assert found["FFT", ""]["median_GFLOPps"] == pytest.approx(2)
    assert (found["", ""]["operation"], found["", ""]["count"]) == ("start", 1)


def test_sizes_of_a_kernel_that_a_rank_runs_are_rows_of_their_own(rows):
    ranks = [measuring(rank) for rank in range(2)]
    for recorder in ranks:
        kernel(recorder, 1, flops=9e6)
        for calls in (1, 3, 7):
            kernel(recorder, 2, calls=calls, flops=calls * 4e6 / 3)
            kernel(recorder, 1, calls=calls, flops=calls * 1e6 / 3)
        kernel(recorder, 0, calls=0)
    found = rows(*ranks)
    counts = {variant: row["count"] for (_, variant), row in found.items()}
    assert counts == {"size 1": 6, "size 2": 6, "size 3": 2, "": 2}
    assert found["FFT", "size 1"]["median_GFLOPps"] == pytest.approx(1)
    assert found["FFT", "size 2"]["median_GFLOPps"] == pytest.approx(2)


def test_sizes_that_differ_between_ranks_alone_are_one_row(rows):
    ranks = [measuring(rank) for rank in range(3)]
    for recorder, faces in zip(ranks, (1, 2, 1), strict=True):
        kernel(recorder, 1, nbytes=faces * 1_000_000, name="Halo")
        kernel(recorder, 1, nbytes=faces * 1_000_000, name="Halo")
    found = rows(*ranks)
    assert list(found) == [("Halo", "")]
    assert found["Halo", ""]["ranks"] == 3
    for recorder, faces in zip(ranks, (1, 2, 1), strict=True):
        kernel(recorder, 1, nbytes=faces * 5_000_000, name="Halo")
    assert {variant: row["count"] for (_, variant), row in rows(*ranks).items()} == {"size 1": 6, "size 2": 3}


def test_files_without_these_columns_are_read_as_before(tmp_path):
    recorder = measuring()
    kernel(recorder, 1, flops=2e6, nbytes=5)
    file = tmp_path / "x.parquet"
    write_events(recorder, None, file, {})
    pq.write_table(pq.read_table(file).drop_columns(list(EVENT_COLUMNS)), file)
    (row,) = rows_of(read_events(file), {})
    assert row["mean_s"] == pytest.approx(0.1)
    assert all(row[name] is None for name in COLUMNS)


def test_operations_that_are_no_kernels_have_no_rate(rows):
    recorder = measuring()
    recorder.record("infer", 0, 5 * MS, calls=7)
    recorder.record("write", 0, 5 * MS, nbytes=100, transport_ns=5 * MS)
    assert all(row[name] is None for row in rows(recorder).values() for name in COLUMNS)
