from simai_rules.events.recorder import FIELDS, Recorder
from simai_rules.staging.operation import Operation


def test_events_keep_their_order_and_the_phase_they_were_recorded_in():
    recorder = Recorder("simulation", 3, "node7", local_rank=1)
    recorder.record("compute", 10, 5, kernel="FFT", iteration=0)
    recorder.phase = "measured"
    recorder.record("train", 20, 7, loss=0.5)
    columns = recorder.columns()
    assert tuple(columns) == FIELDS
    assert columns["operation"] == ["compute", "train"]
    assert columns["phase"] == ["warmup", "measured"]
    assert columns["kernel"] == ["FFT", ""]
    assert columns["start_ns"] == [10, 20]
    assert columns["loss"] == [None, 0.5]
    assert columns["replaced"] == [None, None]
    assert len(recorder) == 2


def test_an_operation_of_a_datastore_is_recorded_with_all_its_parts():
    recorder = Recorder("training", 0, "node0")
    operation = Operation("read", "snapshot/0/4", 100, 50, 1, 2, 3, 4, nbytes=9, found=None, replaced=None)
    recorder.add(operation, iteration=8, step=4, status="torn")
    recorder.add(Operation("write", "k", 1, 2, replaced=True))
    recorder.add(Operation("poll", "k", 1, 2, found=False))
    rows = recorder.columns()
    first = {name: values[0] for name, values in rows.items()}
    assert first == {
        "operation": "read", "kernel": "", "phase": "warmup", "status": "torn", "key": "snapshot/0/4",
        "start_ns": 100, "duration_ns": 50, "serialize_ns": 1, "transport_ns": 2, "wait_ns": 3, "deserialize_ns": 4,
        "nbytes": 9, "iteration": 8, "step": 4, "replaced": None, "found": None, "loss": None,
        "calls": 0, "work_ns": 0, "device_ns": 0, "flops": 0.0,
    }  # fmt: skip
    assert rows["replaced"] == [None, True, None]
    assert rows["found"] == [None, None, False]


def test_a_kernel_is_recorded_with_its_calls_and_by_both_clocks():
    recorder = Recorder("simulation", 0, "node0")
    recorder.record("compute", 10, 50, kernel="FFT", nbytes=64, calls=2, work_ns=40, device_ns=30, flops=80.0)
    row = {name: values[0] for name, values in recorder.columns().items()}
    measured = ("duration_ns", "work_ns", "device_ns", "calls", "flops", "nbytes")
    assert [row[name] for name in measured] == [50, 40, 30, 2, 80.0, 64]


def test_without_events_the_columns_are_there_and_empty():
    assert Recorder("simulation", 0, "n").columns() == {name: [] for name in FIELDS}
