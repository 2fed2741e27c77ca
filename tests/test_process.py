"""Processes: identity, death with the parent, orderly end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from simai_rules.process import Process, boot_of, dying_with, end, pid_space, wait_ended


def sleeper(**options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **options)


def test_identity_tells_a_process_from_a_later_one_with_its_pid():
    child = sleeper()
    process = Process.of(child.pid)
    assert process is not None
    assert process.alive
    assert not Process(child.pid, process.start + 1).alive
    child.kill()
    child.wait()
    assert not process.alive
    assert Process.of(child.pid) is None


def test_the_start_of_this_process_is_on_the_clock_of_the_measurements():
    code = "import time; from simai_rules.process import started_ns; print(time.perf_counter_ns(), started_ns())"
    before = time.perf_counter_ns()
    now, started = map(
        int, subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split()
    )
    # A clock tick is 10 ms.
    assert before - 20_000_000 <= started <= now


def test_where_pids_count_is_told_by_boot_and_namespace():
    boot, _, namespace = pid_space().rpartition("-")
    assert boot_of(pid_space()) == boot == Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "").strip()
    assert str(Path("/proc/self/ns/pid").readlink()) == f"pid:[{namespace}]"


def test_a_zombie_is_not_alive():
    child = sleeper()
    process = Process.of(child.pid)
    child.kill()
    assert wait_ended([process], 5) == []
    child.wait()


def test_stopped_process_is_seen():
    child = sleeper()
    process = Process.of(child.pid)
    try:
        assert not process.stopped
        child.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while not process.stopped and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.stopped
    finally:
        child.kill()
        child.wait()


def test_end_kills_what_ignores_sigterm():
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    process = Process.of(child.pid)
    end([process], grace=0.2)
    assert not process.alive
    assert child.wait() == -signal.SIGKILL


def test_child_dies_with_a_parent_that_is_killed():
    code = (
        "import os, subprocess, sys, time\n"
        "from simai_rules.process import dying_with\n"
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=dying_with(os.getpid()))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    grandchild = Process.of(int(parent.stdout.readline()))
    assert grandchild.alive
    parent.kill()
    parent.wait()
    assert wait_ended([grandchild], 5) == []


def test_child_of_a_parent_that_has_gone_does_not_start():
    child = subprocess.Popen(["sleep", "60"], preexec_fn=dying_with(os.getppid()))
    assert child.wait(10) == 1
