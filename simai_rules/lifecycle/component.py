"""`simai-rules run simulation|training`: one component of a point on its ranks, from waiting for the server to the end.

This process starts the launcher (mpiexec) and watches it, the server and the other components. Whatever fails, it ends
its ranks, says why in its log and in the run's folder, and exits with an error.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from simai_rules.config.experiment import Point
from simai_rules.errors import UserError
from simai_rules.launch.launcher import find_launcher, rank_environment
from simai_rules.launch.placement import Placement, place
from simai_rules.lifecycle.run_folder import RunEnded, RunFolder
from simai_rules.lifecycle.serve import NODES_DEADLINE_S
from simai_rules.lifecycle.watch import Watch
from simai_rules.process import Process, end, wait_ended
from simai_rules.staging.info import ServerInfo

_LOOK_EVERY_S = 0.05
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where MPI puts it on Linux
_BYTES_PER_RANK = 2 * 1024 * 1024
"""Shared memory that MPI takes for each rank of a node (MPICH: 1 MB)."""
# After a failure the others get this long to notice it and to say so, before Snakemake ends them by SIGKILL.
_LINGER_S = 2.0


class ComponentFailed(UserError):
    """A component ended without its result, or because of another part of the run."""


def run_component(
    name: str, point_file: Path, point: Point, server_file: Path, output: Path, parent: int | None
) -> int:
    """Run component `name` of `point` and return 0 when `output` (its events) is there. parent: see Watch.

    Raises ComponentFailed or Ending with the reason otherwise; the reason is then in the run's folder as well.
    """
    watch = Watch(parent)
    info = _wait_for_server(server_file, point, watch)
    run = RunFolder(Path(info.run_folder))
    try:
        run.set_component(name, "running")
        placement = place(point, info.hosts)[name]
        program = [sys.executable, "-m", "simai_rules.components.entry", name]
        program += ["--point", str(point_file), "--server", str(server_file), "--output", str(output)]
        _run_ranks(
            name, find_launcher(point.system.launcher).command(placement, program), placement, run, server_file, watch
        )
        if not output.exists():
            raise ComponentFailed(f"{name} ended without an error but left no {output}; see its log")
        run.set_component(name, "done")
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error} (see its log)"
        with suppress(RunEnded):
            run.fail(name, reason)
            run.set_component(name, "failed")
            _linger(run)
        raise
    return 0


def _wait_for_server(file: Path, point: Point, watch: Watch) -> ServerInfo:
    """Return the server's info once it is ready; raises ComponentFailed with its reason, or at the deadline."""
    deadline = time.monotonic() + NODES_DEADLINE_S + point.staging.start_timeout
    while True:
        watch.check()
        info = _read(file)
        if info is not None and info.state == "ready":
            return info
        if info is not None and info.state != "starting":
            raise ComponentFailed(f"the staging server of {point.backend} has {info.state}: {info.reason}")
        if info is not None and Process.of(info.pid) is None:
            raise ComponentFailed(
                f"the staging server of {point.backend} (process {info.pid}) was killed while starting"
            )
        if time.monotonic() > deadline:
            raise ComponentFailed(f"{file} did not say that the staging server is ready; see the server's log")
        time.sleep(_LOOK_EVERY_S)


def _run_ranks(
    name: str, command: Sequence[str], placement: Placement, run: RunFolder, server_file: Path, watch: Watch
) -> None:
    """Start the ranks and wait for their end; raises when they, the server or another component fail."""
    _check_shared_memory(name, placement)
    child = run.start_child(command, env=os.environ | rank_environment(placement), owner=name)
    try:
        while child.poll() is None:
            time.sleep(_LOOK_EVERY_S)
            watch.check()
            _check_failures(name, run, server_file)
    finally:
        if child.poll() is None:
            _end_launcher(child)
        # A launcher that was killed, or whose helper on the node was, may have left ranks.
        end(run.processes(name), grace=0.0)
    if child.returncode != 0:
        # A rank that could not go on because of the server or a peer is not the cause.
        _check_failures(name, run, server_file)
        raise ComponentFailed(f"{name}: {_how_it_ended(child.returncode)}")


def _check_shared_memory(name: str, placement: Placement) -> None:
    """Raise ComponentFailed where the ranks of this node could not start for want of shared memory.

    MPI does not look: its first access would end a rank by SIGBUS, and leave what it has made of a segment.
    """
    with suppress(OSError):
        free, needed = shutil.disk_usage(_SHARED_MEMORY).free, placement.ranks_per_node * _BYTES_PER_RANK
        if free < needed:
            raise ComponentFailed(
                f"{name}: no room in {_SHARED_MEMORY}, which has {free / 1e6:.1f} MB free; MPI takes up to "
                f"{needed / 1e6:.1f} MB there for {placement.ranks_per_node} ranks. Remove what other programs have "
                "left there, or enlarge it (containers: --shm-size)."
            )


def _how_it_ended(code: int) -> str:
    """Say what a launcher's exit code means; of a rank that was killed, Hydra returns the signal or ends by it too."""
    number = -code if code < 0 else code - 128 if code > 128 else code
    if number in (signal.SIGKILL, signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT) or code < 0:
        name = signal.Signals(number).name
        return f"a rank or the launcher was ended by {name} (by hand, by the batch system, or for want of memory)"
    return f"the launcher ended with exit code {code}; the ranks' messages are above"


def _check_failures(name: str, run: RunFolder, server_file: Path) -> None:
    """Raise ComponentFailed, with the cause, if a rank of `name`, the server or another component has failed."""
    failures = run.failures()
    if failures and failures[0].component == name:
        raise ComponentFailed(failures[0].reason)
    if failures:
        raise ComponentFailed(f"{name} was stopped because of another part of the run: {failures[0].reason}")
    info = _read(server_file)
    if info is None or info.run_id != run.run_id or info.state != "ready":
        state = f"has {info.state}: {info.reason}" if info and info.run_id == run.run_id else "has gone"
        raise ComponentFailed(f"{name} was stopped because the staging server {state}")


def _read(file: Path) -> ServerInfo | None:
    """Return the server's info, or None if there is no file."""
    try:
        return ServerInfo.read(file)
    except FileNotFoundError:
        return None


def _end_launcher(child: subprocess.Popen[bytes]) -> None:
    """End the launcher, which ends its ranks."""
    child.terminate()
    try:
        child.wait(1.5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _linger(run: RunFolder) -> None:
    """Wait until the other components have noticed the failure, so that their logs say why they ended."""
    me = os.getpid()
    others = [launcher for state, launcher in run.components().values() if state == "running" and launcher.pid != me]
    wait_ended(others, _LINGER_S)
