"""The checks of the fault matrix notice what they look for: each is shown a thing that was left on purpose."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import traces as tests_traces
from fault_case import Case, Subject, matches
from fault_list import FAULTS, fill
from fault_subjects import SUBJECTS
from room import Room, lacks_rights
from table import BEGIN, END, render, replaced
from test_faults_matrix import rows
from traces import Traces


@pytest.fixture(params=["room", "no room"])
def either(request, tmp_path):
    """Traces with a room and, as where none can be made, without."""
    if request.param == "room" and lacks_rights():
        pytest.skip(lacks_rights())
    folder = tmp_path / "tmp"
    folder.mkdir()
    room = Room(tmp_path) if request.param == "room" else None
    view = Traces(folder, room)
    yield view
    view.end()
    if room:
        room.close()


def python(view, code, **options):
    """Run a program as a part of a run; return it when it has printed a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=view.environment, preexec_fn=view.enter, stdout=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip
    assert child.stdout.readline() == "there\n"
    return child


def end(child):
    child.kill()
    child.communicate()


def test_nothing_is_left_at_first(either):
    assert either.left() == []


def test_a_process_is_seen(either):
    child = python(either, "import time; print('there', flush=True); time.sleep(60)")
    assert [line for line in either.left() if line.startswith(f"{child.pid} ")]
    end(child)
    assert either.left() == []


def test_a_process_that_hides_its_origin_is_seen_in_a_room(traces):
    if not traces.room:
        pytest.skip(lacks_rights())
    child = python(traces, "import time; print('there', flush=True); time.sleep(60)", cwd="/", start_new_session=True)
    traces.environment.pop("TMPDIR")
    other = python(traces, "import time; print('there', flush=True); time.sleep(60)", cwd="/")
    assert traces.pids() == [child.pid, other.pid]
    end(child)
    end(other)
    assert traces.left() == []


def test_a_process_outside_is_not_seen(either):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd="/"):
        assert either.left() == []


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_a_listening_socket_is_seen_also_when_its_process_has_gone(either, family):
    address = {"AF_INET": ("127.0.0.1", 0), "AF_INET6": ("::1", 0), "AF_UNIX": f"\0simai-test-{time.time_ns()}"}[family]
    try:
        server = socket.socket(getattr(socket, family))
        server.bind(address)
    except OSError as error:
        pytest.skip(f"{family}: {error}")
    server.listen()
    # A child inherits the socket; this process, which is none of the run, keeps it open when the child has ended.
    code = "import time; print('there', flush=True); time.sleep(60)"
    child = python(either, code, pass_fds=[server.fileno()])
    assert len(either.listening()) == 1
    either.note_segments()
    end(child)
    assert len(either.left()) == 1
    server.close()
    assert either.left() == []


def test_a_file_in_shared_memory_is_seen(either):
    name = f"simai-rules-{secrets.token_hex(8)}"
    code = f"open('/dev/shm/{name}', 'w'); print('there', flush=True)"
    python(either, code).wait()
    assert either.left() == [f"/dev/shm/{name}" if either.room else name]
    subprocess.run(["rm", f"/dev/shm/{name}"], preexec_fn=either.enter, check=True)
    assert either.left() == []


def test_a_file_of_another_program_is_not_seen_where_no_room_can_be_made(tmp_path):
    view = Traces(tmp_path)
    with tempfile.NamedTemporaryFile(prefix="simai-rules-test-", dir="/dev/shm"):
        assert view.left() == []


def test_a_kernel_without_ipv6_is_no_obstacle(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("tcp", "unix"):
            (tmp_path / name).write_bytes((Path("/proc/net") / name).read_bytes())
        monkeypatch.setattr(tests_traces, "_NET", tmp_path)
        view = Traces(tmp_path)
        monkeypatch.setattr(view, "pids", lambda: [os.getpid()])
        assert f"tcp port {server.getsockname()[1]}" in view.listening().values()


def test_what_ranks_wrote_down_is_looked_for(either):
    name = f"/dev/shm/mpich_shm_test_{time.time_ns()}"
    python(either, f"open('{name}', 'w'); print('there', flush=True)").wait()
    segments = either.folder / "simai-rules-0/run-1/segments"
    segments.mkdir(parents=True)
    (segments / "1").write_text(f"{name}\n")
    either.note_segments()
    assert name in either.left()
    subprocess.run(["rm", name], preexec_fn=either.enter, check=True)
    assert either.left() == [str(segments.parent)]


def test_a_temporary_file_anywhere_is_seen(traces):
    if not traces.room:
        pytest.skip(lacks_rights())
    python(traces, "import os; os.mkdir('/tmp/left'); open('/tmp/file', 'w'); print('there', flush=True)").wait()
    (traces.folder / "in TMPDIR").touch()
    assert traces.left() == [str(traces.folder / "in TMPDIR"), "/tmp/file", "/tmp/left"]


def test_files_in_the_folder_of_the_experiment_are_seen(traces, tmp_path):
    case = Case(Subject("filesystem"), traces, tmp_path / "e")
    assert case.left() == []
    half = case.point / ".training.parquet.1.tmp"
    half.parent.mkdir(parents=True)
    half.touch()
    (case.folder / "staging").mkdir()
    assert case.left() == [f"staging in {case.folder}", f"{half.name} in {case.folder}"]


def test_filling_a_disk_fills_it(traces, tmp_path):
    if not traces.room:
        pytest.skip(lacks_rights())
    case = Case(Subject("filesystem"), traces, tmp_path / "e")
    disk = case.small_disk(case.folder / "disk", 1)
    fill(disk, but=8192)
    (disk / "small").write_bytes(bytes(4096))
    with pytest.raises(OSError, match="No space"):
        (disk / "large").write_bytes(bytes(100_000))
    (disk / "large").unlink()
    assert case.left() == [f"disk/small in {case.folder}"]
    case.undo.close()
    assert list((case.folder / "disk").iterdir()) == []


def test_a_component_that_says_nothing_is_noticed(traces, tmp_path):
    case = Case(Subject("filesystem"), traces, tmp_path / "e")
    notes = case.point / "failures"
    notes.mkdir(parents=True)

    def note(component, **entry):
        (notes / f"{component}.json").write_text(json.dumps({"component": component, "reason": "because"} | entry))

    note("server", time=time.time())
    note("simulation", time=case.started - 1)
    assert case.silent() == ["simulation", "training"]
    note("simulation", time=time.time())
    assert case.silent() == ["training"]
    (case.point / "training.parquet").touch()
    assert case.silent() == []


def test_a_fault_that_needs_a_room_is_in_a_row_of_its_own():
    groups = [faults for subject, faults in (row.values for row in rows()) if subject.backend == "redis"]
    assert all(len(group) == 1 for group in groups if any(fault.needs_room for fault in group))
    assert any(fault.needs_room for group in groups for fault in group)
    redis = next(subject for subject in SUBJECTS if subject.backend == "redis")
    often = {fault.name for fault in FAULTS if fault.often and not fault.not_for(redis)}
    assert {fault.name for group in groups for fault in group} == often


def test_reasons_are_matched_over_line_breaks_and_strictly():
    assert matches("was ended by SIGKILL", "a rank was\n  ended by SIGKILL")
    assert not matches("was ended by SIGKILL", "a rank was ended")


def test_every_fault_has_a_name_of_its_own_and_applies_to_a_backend():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(any(not fault.not_for(subject) for subject in SUBJECTS) for fault in FAULTS)


def test_the_table_says_what_the_results_say(tmp_path):
    first, second = FAULTS[0].name, FAULTS[1].name
    values = {
        (first, "redis"): "1.5 s", (first, "filesystem"): "not applicable: filesystem has no server process",
        (second, "redis"): "FAILED",
    }  # fmt: skip
    text = render(values, ["filesystem", "redis"], "2026-01-01 on a machine")
    lines = text.splitlines()
    assert [line for line in lines if line.startswith(f"| {first}")] == [f"| {first} | n/a [1] | ok, 1.5 s |"]
    assert [line for line in lines if line.startswith(f"| {second}")] == [f"| {second} | not run | **FAILED** |"]
    assert "[1] has no server process" in text
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(page, text) == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"
    assert Path(__file__).parent.name == "faults"
