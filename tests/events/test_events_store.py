import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simai_rules.errors import UserError
from simai_rules.events.recorder import Recorder
from simai_rules.events.store import UnreadableEvents, read_events, schema, write_events


def recorder_with(events=5, rank=0, host="node0"):
    recorder = Recorder("simulation", rank, host)
    for number in range(events):
        recorder.record("write", 100 * number, 10 + number, key=f"k{number}", nbytes=number, replaced=number % 2 == 0)
    return recorder


def test_what_is_written_is_read_with_types_and_metadata(tmp_path):
    path = tmp_path / "new folder" / "simulation.parquet"
    recorder = recorder_with()
    write_events(recorder, None, path, {"run_id": "abc", "point": "backend~redis"})
    table = read_events(path)
    assert table.schema.equals(schema())
    assert table.column("duration_ns").to_pylist() == [10, 11, 12, 13, 14]
    assert table.column("replaced").to_pylist() == [True, False, True, False, True]
    assert table.column("component").to_pylist() == ["simulation"] * 5
    metadata = table.schema.metadata
    assert metadata[b"run_id"] == b"abc"
    assert metadata[b"point"] == b"backend~redis"
    assert json.loads(metadata[b"clock_offsets"]) == [["node0", recorder.clock_offset_ns]]
    assert [child.name for child in path.parent.iterdir()] == ["simulation.parquet"]


def test_no_events_are_a_file_without_rows(tmp_path):
    write_events(recorder_with(0), None, tmp_path / "x.parquet", {})
    assert read_events(tmp_path / "x.parquet").num_rows == 0


RANKS = """
import sys
from mpi4py import MPI
from simai_rules.events.capsule import write_capsule
from simai_rules.events.recorder import Recorder
from simai_rules.events.store import write_events

comm = MPI.COMM_WORLD
recorder = Recorder("training", comm.Get_rank(), f"node{comm.Get_rank() // 2}", comm.Get_rank() % 2)
for number in range(100 * comm.Get_rank()):
    recorder.record(f"operation{comm.Get_rank()}", number, comm.Get_rank())
write_events(recorder, comm, sys.argv[1], {"run_id": "r"})
write_capsule(recorder, comm, sys.argv[2], {"run_id": "r"})
"""


def test_ranks_are_gathered_over_mpi_into_one_file(tmp_path):
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("no mpiexec here")
    events, capsule = tmp_path / "training.parquet", tmp_path / "training.capsule.json"
    command = [mpiexec, "-n", "3", sys.executable, "-c", RANKS, str(events), str(capsule)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    table = read_events(events)
    assert table.column("rank").to_pylist() == [1] * 100 + [2] * 200
    assert table.column("operation").to_pylist() == ["operation1"] * 100 + ["operation2"] * 200
    assert table.column("host").to_pylist() == ["node0"] * 100 + ["node1"] * 200
    offsets = json.loads(table.schema.metadata[b"clock_offsets"])
    assert [host for host, _ in offsets] == ["node0", "node0", "node1"]
    content = json.loads(capsule.read_text())
    assert [each["rank"] for each in content["ranks"]] == [0, 1, 2]
    assert set(content["nodes"]) == {"node0", "node1"}
    assert content["software"]["mpi_library"]


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_a_file_cut_short_is_named_as_such(tmp_path, kept):
    path = tmp_path / "simulation.parquet"
    write_events(recorder_with(1000), None, path, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UnreadableEvents, match=r"simulation.parquet cannot be read .*cut short or overwritten"):
        read_events(path)


def test_noise_anywhere_in_the_file_is_noticed(tmp_path):
    path = tmp_path / "simulation.parquet"
    write_events(recorder_with(2000), None, path, {})
    content, dice = path.read_bytes(), random.Random(1)
    for _ in range(40):
        position = dice.randrange(len(content) - 64)
        path.write_bytes(content[:position] + dice.randbytes(64) + content[position + 64 :])
        with pytest.raises(UnreadableEvents):
            read_events(path)


def test_a_missing_file_and_one_of_another_format_are_told_apart(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(UnreadableEvents, match="is not there"):
        read_events(tmp_path / "none.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UnreadableEvents, match="has events format none"):
        read_events(tmp_path / "other.parquet")


def test_where_it_cannot_be_written_the_error_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_events(recorder_with(), None, tmp_path / "file" / "x.parquet", {})
