import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from simai_rules.analysis.summary import rows_of, write_summary
from simai_rules.events.recorder import Recorder
from simai_rules.events.store import read_events, write_events

AXES = {"backend": "redis", "elements": 1000, "nodes": 1, "repeat": 0}
MS = 1_000_000


def rows(tmp_path, recorder):
    write_events(recorder, None, tmp_path / "x.parquet", {})
    return rows_of(read_events(tmp_path / "x.parquet"), AXES)


def measuring(component="training", rank=0):
    recorder = Recorder(component, rank, "node0")
    recorder.phase = "measured"
    return recorder


def test_statistics_of_known_durations(tmp_path):
    recorder = measuring()
    for duration in (1, 2, 3, 4, 10):
        recorder.record("compute", 0, duration * MS, kernel="FFT")
    (row,) = rows(tmp_path, recorder)
    assert row["count"] == 5
    assert row["kernel"] == "FFT"
    assert row["mean_s"] == pytest.approx(0.004)
    assert row["std_s"] == pytest.approx(np.sqrt((9 + 4 + 1 + 0 + 36) / 4) / 1000)
    assert row["median_s"] == pytest.approx(0.003)
    # Linear interpolation: 0.95 * 4 = 3.8, so 80 % of the way from 4 to 10 ms.
    assert row["p95_s"] == pytest.approx(0.0088)
    assert row["p99_s"] == pytest.approx(0.00976)
    assert row["max_s"] == pytest.approx(0.010)
    assert row["throughput_MBps"] is None


def test_throughput_is_all_bytes_over_all_transfer_time_without_the_wait(tmp_path):
    recorder = measuring()
    parts = {"serialize_ns": 0, "deserialize_ns": 1 * MS}
    recorder.record("read", 0, 105 * MS, nbytes=4_000_000, wait_ns=100 * MS, transport_ns=4 * MS, **parts)
    recorder.record("read", 0, 15 * MS, nbytes=4_000_000, transport_ns=14 * MS, **parts)
    (row,) = rows(tmp_path, recorder)
    assert row["throughput_MBps"] == pytest.approx(8 / 0.020)
    assert row["mean_wait_s"] == pytest.approx(0.050)
    assert row["mean_transport_s"] == pytest.approx(0.009)
    assert row["mean_deserialize_s"] == pytest.approx(0.001)
    assert row["mean_s"] == pytest.approx(0.060)
    assert (row["nbytes"], row["total_bytes"]) == (4_000_000, 8_000_000)


def test_first_and_replaced_writes_and_the_outcome_of_polls_are_apart(tmp_path):
    recorder = measuring()
    for replaced, duration in ((False, 1), (True, 9), (True, 11), (None, 5)):
        recorder.record("write", 0, duration * MS, replaced=replaced)
    recorder.record("poll", 0, 2 * MS, found=True)
    recorder.record("poll", 0, 3 * MS, found=False)
    found = {(row["operation"], row["variant"]): row["mean_s"] * 1000 for row in rows(tmp_path, recorder)}
    assert found == pytest.approx(
        {
            ("poll", "absent"): 3,
            ("poll", "found"): 2,
            ("write", ""): 5,
            ("write", "first"): 1,
            ("write", "replaced"): 10,
        }
    )


def test_warm_up_is_counted_and_in_no_statistic(tmp_path):
    recorder = Recorder("training", 0, "node0")
    recorder.record("init", 0, 7 * MS)
    recorder.record("read", 0, 1000 * MS, nbytes=5)
    recorder.phase = "measured"
    recorder.record("read", 0, 2 * MS, nbytes=5)
    init, read = rows(tmp_path, recorder)
    assert (read["count"], read["warmup_count"], read["max_s"]) == (1, 1, pytest.approx(0.002))
    assert read["std_s"] is None
    assert (init["operation"], init["count"], init["mean_s"]) == ("init", 1, pytest.approx(0.007))


def test_an_operation_of_the_warm_up_only_has_a_row_without_statistics(tmp_path):
    recorder = Recorder("training", 0, "node0")
    recorder.record("read", 0, MS, nbytes=5)
    (row,) = rows(tmp_path, recorder)
    assert (row["count"], row["warmup_count"], row["mean_s"]) == (0, 1, None)


def test_reads_that_are_not_intact_have_rows_of_their_own(tmp_path):
    recorder = measuring()
    for status in ("ok", "ok", "stale", "torn"):
        recorder.record("read", 0, MS, status=status)
    assert {row["status"]: row["count"] for row in rows(tmp_path, recorder)} == {"ok": 2, "stale": 1, "torn": 1}


def test_the_slowest_rank_has_its_mean(tmp_path, two_ranks):
    table = two_ranks({0: [1, 3], 2: [5, 9]})
    (row,) = rows_of(table, AXES)
    assert row["max_rank_mean_s"] == pytest.approx(0.007)
    assert row["ranks"] == 2


@pytest.fixture
def two_ranks(tmp_path):
    import pyarrow as pa

    def make(durations):
        tables = []
        for rank, values in durations.items():
            recorder = measuring(rank=rank)
            for value in values:
                recorder.record("train", 0, value * MS)
            write_events(recorder, None, tmp_path / "x.parquet", {})
            tables.append(read_events(tmp_path / "x.parquet").replace_schema_metadata(None))
        return pa.concat_tables(tables)

    return make


def test_no_events_have_no_rows(tmp_path):
    assert rows(tmp_path, measuring()) == []


def test_parquet_and_csv_hold_the_same_with_axes_first(tmp_path):
    recorder = measuring()
    recorder.record("compute", 0, MS, kernel="FFT")
    axes = {**AXES, "simulation.write_every": 10, "kernels": [{"name": "FFT"}]}
    write_events(recorder, None, tmp_path / "x.parquet", {})
    made = rows_of(read_events(tmp_path / "x.parquet"), axes)
    outputs = [tmp_path / "summary.parquet", tmp_path / "summary.csv"]
    write_summary(made, outputs)
    table = pq.read_table(outputs[0])
    first = ["backend", "elements", "nodes", "repeat", "simulation.write_every", "kernels", "component"]
    assert table.column_names[:7] == first
    assert table.column("kernels").to_pylist() == ['[{"name": "FFT"}]']
    with outputs[1].open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["mean_s"]) == table.column("mean_s").to_pylist()[0]
    assert list(row) == table.column_names
