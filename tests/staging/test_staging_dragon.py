"""What is special about dragon: a runtime of several processes, which nothing of it may outlive."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from simai_rules.config.backends import DragonConfig
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.process import Process
from simai_rules.staging.backends.dragon_attachment import Attachment
from simai_rules.staging.backends.dragon_caller import Caller
from simai_rules.staging.backends.dragon_dictionary import Dictionary
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.errors import ServerLost, StagingError, StagingFull
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import ServerFailed
from simai_rules.staging.servers import dragon as server
from simai_rules.staging.servers import dragon_traces

pytest.importorskip("dragon", reason="dragonhpc is not installed")
CONFIG = '{"type": "dragon", "total_mem": 268435456}'
START_S, END_S = 120, 60
runs_dragon = pytest.mark.dragon
"""A runtime keeps a core busy, and hangs now and then where it has to share it: `make test-dragon` runs these alone."""


class Serve:
    """`simai-rules serve` with a Dragon runtime, and what it has on this machine."""

    def __init__(self, folder: Path) -> None:
        self.file, self.log = folder / "server.json", folder / "serve.log"
        command = [sys.executable, "-m", "simai_rules.cli", "serve", "--config", CONFIG, "--output", str(self.file)]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                command, env=os.environ | {"TMPDIR": str(folder)}, stdout=output, stderr=output, start_new_session=True
            )

    def wait_until(self, state: str, seconds: float) -> ServerInfo:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.file.exists() and (info := ServerInfo.read(self.file)).state == state:
                return info
            time.sleep(0.05)
        raise AssertionError(f"not {state}: {self.file.read_text()}\n{self.log.read_text()}")

    def look(self, info: ServerInfo) -> None:
        """Remember the runtime's processes and segments."""
        self.run_folder = Path(info.run_folder)
        folder = self.run_folder / "dragon"
        self.processes = {pid: Process.of(pid) for pid in dragon_traces.processes(folder)}
        self.segments = {path for pid in self.processes for path in dragon_traces.segments(pid)}

    def parts(self) -> dict[str, int]:
        """Return the pids of the runtime's first process, of the service in it and of the dictionary's manager."""
        launcher = ServerInfo.read(self.file).address["process"][0]
        others = [pid for pid in self.processes if pid != launcher]
        service = next(pid for pid in others if b"dragon_service" in Path(f"/proc/{pid}/cmdline").read_bytes())
        holders = [pid for pid in others if any("/DDD" in path for path in dragon_traces.segments(pid))]
        return {"launcher": launcher, "service": service, "manager": next(pid for pid in holders if pid != service)}

    def left(self) -> list[str]:
        here = [f"process {pid}" for pid, process in self.processes.items() if process and process.alive]
        here += [path for path in self.segments if Path(path).exists()]
        return here + ([str(self.run_folder)] if self.run_folder.exists() else [])

    def left_after(self, seconds: float) -> list[str]:
        deadline = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def ended(served: Serve) -> None:
    served.process.terminate()
    try:
        served.process.wait(60)
    finally:
        served.process.kill()
        served.process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One that the tests leave as it was."""
    served = Serve(tmp_path_factory.mktemp("dragon"))
    try:
        served.look(served.wait_until("ready", START_S))
        yield served
    finally:
        ended(served)
    assert served.left_after(END_S) == []


@pytest.fixture
def own(tmp_path):
    """One for a test that breaks it."""
    served = Serve(tmp_path)
    try:
        served.look(served.wait_until("ready", START_S))
        yield served
    finally:
        ended(served)


@pytest.fixture
def connect():
    stores = []

    def open_store(served, **options):
        stores.append(DataStore("test", served.file, **({"timeout": 30} | options)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@runs_dragon
def test_a_full_dictionary_is_told_and_can_be_used_on(shared, connect):
    store = connect(shared, timeout=3)
    with pytest.raises(StagingFull, match=r"backends\.dragon\.total_mem"):
        store.stage_write("big", np.zeros(40_000_000))
    store.stage_write("small", 1)
    assert store.stage_read("small") == 1


@runs_dragon
def test_a_value_that_dragon_has_dropped_is_not_taken_for_one(shared, connect):
    """Dragon tells no writer that it has no block for a value while less than 90 % of its memory is taken."""
    store = connect(shared)
    for key, elements in (("half", 9_000_000), ("eighth", 2_600_000), ("dropped", 12_000_000)):
        store.stage_write(key, np.zeros(elements))
    assert store.stage_read("half").size == 9_000_000
    with pytest.raises(StagingError, match="has the key without its value"):
        store.stage_read("dropped", timeout=5)
    assert all(store.clean_staged_data(key) for key in ("half", "eighth", "dropped"))
    store.stage_write("dropped", 1)
    assert store.stage_read("dropped") == 1


@runs_dragon
def test_another_run_id_is_refused(shared):
    info = ServerInfo.read(shared.file)
    with pytest.raises(ServerLost, match="belongs to the run"):
        DataStore("test", ServerInfo.from_dict(info.as_dict() | {"run_id": "other"}), timeout=10)


@runs_dragon
def test_a_put_that_is_terminated_is_finished_first(shared, connect):
    """Clients that are ended by SIGTERM in a row leave a dictionary that answers."""
    program = (
        "import sys, numpy\n"
        "from simai_rules.staging.datastore import DataStore\n"
        "store = DataStore('writer', sys.argv[1], timeout=60)\n"
        "data = numpy.zeros(1_000_000)\n"
        "print('started', flush=True)\n"
        "while True: store.stage_write('key', data)\n"
    )
    for number in range(4):
        writer = subprocess.Popen([sys.executable, "-c", program, str(shared.file)], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"started\n"
        time.sleep(0.3 + 0.017 * number)
        writer.terminate()
        assert writer.wait(30) == -signal.SIGTERM
        writer.stdout.close()
    assert connect(shared).stage_read("key").shape == (1_000_000,)


@runs_dragon
def test_a_call_that_never_comes_back_ends_the_client_and_not_the_process(shared):
    """The library hangs in the client: its verbs raise, at once after the first, and the process ends by itself."""
    program = (
        "import sys, time\n"
        "from simai_rules.staging.datastore import DataStore\n"
        "from simai_rules.staging.errors import ServerLost\n"
        "store = DataStore('hanging', sys.argv[1], timeout=2)\n"
        "store.stage_write('key', 1)\n"
        "store._backend._caller.post(lambda: time.sleep(3600))\n"
        "start = time.monotonic()\n"
        "verbs = (lambda: store.stage_write('key', 2), lambda: store.stage_read('key'),\n"
        "    lambda: store.poll_staged_data('key'), lambda: store.clean_staged_data('key'))\n"
        "for verb in verbs:\n"
        "    try: verb()\n"
        "    except ServerLost as error: print(error)\n"
        "store.close()\n"
        "assert time.monotonic() - start < 30\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(shared.file)], check=True, timeout=90, capture_output=True, text=True
    )
    assert done.stdout.count("the dictionary does not answer") == 4


@runs_dragon
@pytest.mark.parametrize("victim", ["manager", "serve"])  # the runtime's first process: tests/faults
def test_a_killed_runtime_ends_the_run_and_leaves_nothing(own, connect, victim):
    assert len(own.processes) >= 5
    assert len(own.segments) >= 8
    store = connect(own)
    store.stage_write("key", 1)
    os.kill({"serve": own.process.pid, **own.parts()}[victim], signal.SIGKILL)
    own.process.wait(END_S)
    assert own.wait_until("failed", END_S).reason
    assert own.left_after(END_S) == []
    with pytest.raises(ServerLost, match="has ended"):
        store.stage_read("key")


@runs_dragon
def test_a_manager_that_is_halted_fails_the_run(own):
    deadline, manager = time.monotonic() + END_S, own.parts()["manager"]
    while own.process.poll() is None and time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.kill(manager, signal.SIGSTOP)  # whoever asks it something lets it go on
        time.sleep(0.02)
    assert "halted" in own.wait_until("failed", END_S).reason
    assert own.left_after(END_S) == []


@runs_dragon
def test_a_client_killed_in_the_middle_of_a_put_is_noticed(own, connect):
    """The client sends the beginning of a put as Dragon's own client would, and ends without the rest."""
    program = (
        "import os, sys\n"
        "from simai_rules.staging.datastore import DataStore\n"
        "from time import perf_counter_ns\n"
        "store = DataStore('wedge', sys.argv[1], timeout=60)\n"
        "inner = store._backend._dictionary\n"
        "manager = inner._manager(b'key', perf_counter_ns() + 10**10)\n"
        "stream = manager.sendh(stream_channel=inner._dict._main_stream_channel, timeout=5)\n"
        "stream.send_bytes(inner._message('DDPut', persist=False).serialize(), timeout=5)\n"
        "os._exit(7)\n"
    )
    store = connect(own, timeout=3)
    store.stage_write("key", 1)
    os.kill(own.process.pid, signal.SIGSTOP)  # who would end it all
    try:
        wedge = subprocess.run([sys.executable, "-c", program, str(own.file)], check=False, timeout=60)
        assert wedge.returncode == 7
        for verb in (lambda: store.stage_write("key", np.zeros(1000)), lambda: store.stage_read("key", timeout=3)):
            start = time.monotonic()
            with pytest.raises(ServerLost, match=r"the dictionary d(oes|id) not answer"):
                verb()
            assert time.monotonic() - start < 30
    finally:
        os.kill(own.process.pid, signal.SIGCONT)
    assert "killed in the middle of a put" in own.wait_until("failed", END_S).reason
    assert own.left_after(END_S) == []


@runs_dragon
def test_a_start_that_is_no_longer_wanted_ends_early(tmp_path):
    served = Serve(tmp_path)
    try:
        info = served.wait_until("starting", START_S)
        runtime = Path(info.run_folder, "dragon")
        deadline = time.monotonic() + START_S
        while not (runtime / "segments").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        served.look(info)
        assert served.processes
        served.process.terminate()
        assert served.process.wait(END_S) == 0
        assert "ready" not in served.log.read_text()
        assert served.left_after(END_S) == []
    finally:
        ended(served)


@pytest.mark.parametrize(("seconds", "kept"), [(0.5, True), (60, False)])
def test_signals_wait_for_the_answer_but_not_for_long(seconds, kept):
    seen = []
    caller = Caller()
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(time.monotonic()))
    ours = signal.getsignal(signal.SIGTERM)
    start = time.monotonic()

    def act():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
        return "answer"

    try:
        if kept:
            assert caller.call(act, time.perf_counter_ns() + 20 * 10**9) == "answer"
            assert seen[0] - start >= seconds
        else:
            with pytest.raises(ServerLost, match="does not answer"):
                caller.call(act, time.perf_counter_ns() + 5 * 10**9)
            assert 2 <= seen[0] - start < 5.5
        assert len(seen) == 1
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
        caller.end()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, lambda *_: None])
def test_signals_are_handled_as_before_after_a_call(handler):
    caller = Caller()
    before = signal.signal(signal.SIGHUP, handler)
    try:
        during = caller.call(lambda: signal.getsignal(signal.SIGHUP), time.perf_counter_ns() + 20 * 10**9)
        assert (during is handler) == (handler is signal.SIG_IGN)
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)
        caller.end()


def test_an_answer_to_another_question_is_refused():
    messages = pytest.importorskip("dragon.infrastructure.messages")
    dictionary = Dictionary.__new__(Dictionary)
    dictionary._messages = messages
    answer = messages.DDPutResponse(1, ref=7, err=3, errInfo="why").serialize()
    assert dictionary._read(answer, SimpleNamespace(tag=7)) == (3, "why")
    with pytest.raises(StagingError, match="answered question 7, not 8"):
        dictionary._read(answer, SimpleNamespace(tag=8))


def test_a_runtime_that_was_just_looked_at_is_not_looked_at_again(monkeypatch):
    attachment = Attachment.__new__(Attachment)
    attachment._checked_ns, looks = 0, []
    monkeypatch.setattr(attachment, "check", lambda: looks.append(1))
    attachment.check_often()
    attachment.check_often()
    assert len(looks) == 1
    attachment._checked_ns -= 2 * 10**8
    attachment.check_often()
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("total_mem", "needed", "message"),
    [(64 * 2**20, 64 * 2**20, r"backends\.dragon\.total_mem to at least"), (1 << 50, 0, "/dev/shm has")],
)
def test_too_little_memory_is_refused_before_anything_is_started(tmp_path, total_mem, needed, message):
    (tmp_path / "run").mkdir()
    made = server.make_server(DragonConfig(total_mem=total_mem), RunFolder(tmp_path / "run"), ["here"], needed)
    with pytest.raises(ServerFailed, match=message):
        made.start()
    made.stop()
    assert list((tmp_path / "run").iterdir()) == []


def test_several_nodes_are_refused(tmp_path):
    with pytest.raises(ServerFailed, match="nodes: 1"):
        server.make_server(DragonConfig(), RunFolder(tmp_path), ["one", "two"], 0)


def test_cleaning_removes_what_was_noted_and_nothing_else(tmp_path):
    ours, theirs = (Path(f"/dev/shm/simai-rules-test-dragon-{os.getpid()}-{name}") for name in ("ours", "theirs"))
    try:
        for file in (ours, theirs):
            file.write_text("x")
        inode = theirs.stat().st_ino
        (tmp_path / "segments").write_text(f"{ours.stat().st_ino} {ours}\n{inode + 10_000} {theirs}\n1 /etc/passwd\n")
        marked = subprocess.Popen(
            ["sleep", "60"], env=os.environ | {dragon_traces.MARK: str(tmp_path)}, start_new_session=True
        )
        other = subprocess.Popen(["sleep", "60"], env=os.environ | {dragon_traces.MARK: f"{tmp_path}-2"})
        subprocess.run([sys.executable, "-P", dragon_traces.__file__, str(tmp_path)], check=True, timeout=30)
        assert marked.wait(5) == -signal.SIGKILL
        assert other.poll() is None
        assert not ours.exists()
        assert theirs.exists()
        other.kill()
        other.wait()
    finally:
        ours.unlink(missing_ok=True)
        theirs.unlink(missing_ok=True)
