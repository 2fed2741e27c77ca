import pytest

from simai_rules.analysis.samples import samples_of
from simai_rules.events.recorder import Recorder
from simai_rules.events.store import read_events, write_events

MS = 1_000_000


def test_transfers_leave_out_waiting_warm_up_and_damaged_reads_and_parts_are_per_snapshot(tmp_path):
    simulation, training = Recorder("simulation", 0, "n"), Recorder("training", 0, "n")
    for recorder in (simulation, training):
        recorder.record("write" if recorder is simulation else "read", 0, 900 * MS, nbytes=10, transport_ns=900 * MS)
        recorder.phase = "measured"
    for _ in range(2):
        for _ in range(5):
            simulation.record("compute", 0, 20 * MS)
            simulation.record("poll", 0, 1 * MS, found=False)
        simulation.record("wait", 0, 10 * MS, wait_ns=10 * MS)
        simulation.record("write", 0, 5 * MS, nbytes=10, serialize_ns=1 * MS, transport_ns=4 * MS)
        training.record("train", 0, 60 * MS)
        training.record("read", 0, 9 * MS, nbytes=10, wait_ns=6 * MS, transport_ns=2 * MS, deserialize_ns=1 * MS)
        training.record("delete", 0, 2 * MS)
        training.record("wait", 0, 3 * MS, wait_ns=3 * MS)  # for a stream's step
    training.record("read", 0, 70 * MS, nbytes=10, transport_ns=70 * MS, status="torn")
    tables = {}
    for recorder in (simulation, training):
        write_events(recorder, None, tmp_path / "x.parquet", {})
        tables[recorder.component] = read_events(tmp_path / "x.parquet")
    samples = samples_of(tables)
    assert samples.write.seconds.tolist() == pytest.approx([0.005, 0.005])
    assert samples.read.seconds.tolist() == pytest.approx([0.003, 0.003])
    assert samples.read.rates.tolist() == pytest.approx([10 / 0.003 / 1e6] * 2)
    assert samples.parts == pytest.approx(
        {
            "compute": 0.100, "checkpoint": 0, "barrier": 0, "train": 0.060, "infer": 0, "serialize": 0.001,
            "write transport": 0.004, "wait": 0.019, "read transport": 0.002, "deserialize": 0.001,
            "poll and delete": 0.007, "publish and take": 0,
        }
    )  # fmt: skip


def test_phases_barriers_inference_and_weights_are_parts_of_their_own(tmp_path):
    recorders = {name: Recorder(name, 0, "n") for name in ("simulation", "training", "inference")}
    simulation, training, inference = recorders.values()
    simulation.record("compute", 0, 500 * MS, kernel="Sort")  # at the start, before the first iteration
    simulation.record("start", 0, 500 * MS)
    for recorder in recorders.values():
        recorder.phase = "measured"
    for _ in range(2):
        simulation.record("compute", 0, 20 * MS, kernel="FFT", iteration=1)
        simulation.record("barrier", 0, 3 * MS)
        simulation.record("agree", 0, 1 * MS)
        simulation.record("compute", 0, 7 * MS, kernel="WriteNonMPI", iteration=1)
        simulation.record("checkpoint", 0, 7 * MS)
        simulation.record("write", 0, 5 * MS, nbytes=10, transport_ns=5 * MS)
        training.record("infer", 0, 60 * MS, wait_ns=MS)
        training.record("publish", 0, 4 * MS)
        training.record("read", 0, 2 * MS, nbytes=10, transport_ns=2 * MS)
        inference.record("infer", 0, 30 * MS)
        inference.record("take", 0, 6 * MS)
        inference.record("poll", 0, 1 * MS, found=False)
    tables = {}
    for recorder in recorders.values():
        write_events(recorder, None, tmp_path / "x.parquet", {})
        tables[recorder.component] = read_events(tmp_path / "x.parquet")
    assert {part: seconds for part, seconds in samples_of(tables).parts.items() if seconds} == pytest.approx(
        {
            "compute": 0.020, "checkpoint": 0.007, "barrier": 0.004, "infer": 0.090,
            "write transport": 0.005, "read transport": 0.002, "publish and take": 0.011,
        }
    )  # fmt: skip
