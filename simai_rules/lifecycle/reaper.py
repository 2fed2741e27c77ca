"""Removing what a run made: its processes, staged data, shared memory and its folder; never anything else."""

import os
import shutil
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from simai_rules.errors import UserError
from simai_rules.files import locked, overwrite_json
from simai_rules.launch.allocation import state_folder
from simai_rules.lifecycle.reports import gone
from simai_rules.lifecycle.run_folder import UNREADABLE, RunFolder, all_runs
from simai_rules.process import Process, end, wait_ended
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo

# Components notice the end of their server or of a peer and say so in their log; then they are ended.
GRACE_S = 2.0
LOCK_S = 60.0
_COMMAND_S = 20.0
_ENDS_ANYWAY_S = 0.7
"""A keeper that dies so long, in seconds, before server.json tells of the run's end has died of that end."""
_LEFT_BY_MPI = ("/dev/shm/", "/tmp/hydra_hwloc_xmlfile_")  # noqa: S108 - MPI's segments, and Hydra's topology file


def clean(run: RunFolder, why: str) -> None:
    """End what is left of `run` and remove all that it made; `why` is the reason for a server that just vanished.

    What it claimed and cannot be removed stays written down in its folder, for the next one who cleans.
    """
    reports = run.reports  # known by its lease, which goes too
    steps = (
        # Who is dead by now has ended before the server did: the cause comes first.
        explain_unfinished,
        partial(_say_that_node_was_lost if run.index else _say_that_server_ended, why=why),
        _end_processes,
        explain_unfinished,
        RunFolder.gather,
        _remove_segments,
        _remove_half_written,
        _run_commands,
        _remove_claimed,
        _forget,
    )
    for step in steps:
        # One that fails (a full disk, a note that cannot be read) keeps no other from being done.
        with suppress(*UNREADABLE, UserError):
            step(run)
    if run.index and reports and not is_there(run.folder):
        with suppress(OSError):
            reports.write(gone(run.index), {})


def reap_dead_runs() -> dict[str, list[Path]]:
    """Clean the runs of this user on this node whose owner and guardian are dead.

    Return their ids, each with what could not be removed. A run whose notes cannot be read any more (somebody emptied
    the temporary folder) is removed as far as it is known.
    """
    with reaping():
        return {run.run_id: reap(run) for run in all_runs() if is_dead(run)}


def reaping() -> AbstractContextManager[None]:
    """Keep others from reaping on this node."""
    return locked(state_folder() / "reaper.lock", LOCK_S)


def is_dead(run: RunFolder) -> bool:
    """Whether nothing of `run`, which is one of this node, is alive."""
    return not run.elsewhere and not run.in_use() and _old_enough(run)


def reap(run: RunFolder) -> list[Path]:
    """Remove a dead run and return what could not be removed; the caller holds `reaping()`."""
    clean(run, "its processes were killed")
    return claimed(run) or ([run.folder] if is_there(run.folder) else [])


def claimed(run: RunFolder) -> list[Path]:
    """Return what is there of that which goes with `run`: not the folders that others may use as well."""
    return [path for path, only_if_empty in run.claims() if not only_if_empty and is_there(path)]


def is_there(path: Path) -> bool:
    """Whether `path` exists, as far as anybody can tell."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _old_enough(run: RunFolder) -> bool:
    """Whether `run` has a lease, or is past the moment in which a starting run has none yet."""
    with suppress(FileNotFoundError):
        return bool(run.lease) or time.time() - run.folder.stat().st_mtime > 10
    return False


def _say_that_server_ended(run: RunFolder, why: str) -> None:
    """Replace a server.json of this run that still says starting or ready: by stopped if all went well, else failed."""
    file = Path(run.lease.get("server_file", ""))
    try:
        info = ServerInfo.read(file)
    except (OSError, ValueError, ServerLost):
        return
    if info.run_id != run.run_id or info.state not in ("starting", "ready"):
        return
    states = [state for state, _ in run.components().values()]
    if why and any(state != "done" for state in states):
        run.fail("server", f"staging server of {info.backend}: {why}")
    content = info.as_dict() | {"state": "failed" if why else "stopped", "reason": why, "address": {}}
    with suppress(OSError):  # not made again where Snakemake has removed it since
        overwrite_json(file, content)


def _say_that_node_was_lost(run: RunFolder, why: str) -> None:
    """Tell the first node that the keeper of this one has ended, unless that is because the run ends anyway."""
    deadline = time.monotonic() + _ENDS_ANYWAY_S
    while why and not why_ended(run):
        if time.monotonic() > deadline:
            hosts = run.lease.get("hosts") or []
            node = hosts[run.index] if run.index < len(hosts) else run.lease.get("node", "?")
            run.fail("server", f"the node {node} was lost: its keeper ended ({why})")
            return
        time.sleep(0.05)


def why_ended(run: RunFolder) -> str:
    """Return why the first node of `run` serves no longer, as its server.json tells, or "" where it does."""
    try:
        info = ServerInfo.read(Path(run.lease.get("server_file", "")))
    except (OSError, ServerLost):
        return "server.json has gone"
    if info.run_id != run.run_id:
        return "server.json is another run's"
    return "" if info.state in ("starting", "ready") else f"the server has {info.state}: {info.reason}"


def explain_unfinished(run: RunFolder) -> None:
    """Give a reason for every component whose launcher is dead and that left none."""
    explained = {failure.component for failure in run.failures()}
    for name, (state, launcher) in run.components().items():
        if state == "running" and name not in explained and not launcher.alive:
            run.fail(name, f"{name} was killed (its launcher, process {launcher.pid}, ended without a result)")


def _end_processes(run: RunFolder) -> None:
    """End the components, which get a moment to do so themselves, and all other processes of the run."""
    launchers = [launcher for _, launcher in run.components().values()]
    wait_ended([*launchers, *run.ranks()], GRACE_S)
    end([*launchers, *run.processes()], grace=0.5)


def _remove_segments(run: RunFolder) -> None:
    """Remove what MPI has left of this run's ranks."""
    for path in left_by_mpi(run):
        with suppress(OSError):
            path.unlink()


def left_by_mpi(run: RunFolder) -> list[Path]:
    """Return what is there of that which the ranks wrote down: shared memory, and files of the launcher."""
    found = []
    for file in run.folder.glob("segments/*"):
        for line in file.read_text(errors="replace").splitlines():
            path = Path(line)
            known = line.startswith(_LEFT_BY_MPI) and path.parent in (Path("/dev/shm"), Path("/tmp"))  # noqa: S108
            if known and not path.is_symlink():
                with suppress(OSError, ValueError):
                    if path.stat().st_uid == os.getuid():
                        found.append(path)
    return found


def _remove_half_written(run: RunFolder) -> None:
    """Remove the temporary files that killed processes of the run have left beside its results (`files.replacing`)."""
    lease = run.lease
    if run.index:
        return  # its processes write into the reports, which go as a whole, and pids of other nodes mean nothing here
    server_file = Path(lease.get("server_file", ""))
    files = list(server_file.parent.glob(f".{server_file.name}.*.tmp")) if server_file.name else []
    if lease.get("point_folder"):
        point = Path(lease["point_folder"])
        files += [*point.glob(".*.tmp"), *point.glob("failures/.*.tmp")]
    for file in files:
        pid = file.name.split(".")[-2]
        if pid.isdigit() and Process.of(int(pid)) is None:
            with suppress(OSError):
                file.unlink()


def _run_commands(run: RunFolder) -> None:
    for command in run.claimed_commands():
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            subprocess.run(command, timeout=_COMMAND_S, check=False, stdin=subprocess.DEVNULL)


def _remove_claimed(run: RunFolder) -> None:
    for path, only_if_empty in run.claims():
        _remove(path, only_if_empty)


def _forget(run: RunFolder) -> None:
    """Remove the folder of the run; where something that it claimed is still there, all but the notes of that."""
    run.forget_claims(lambda path: not is_there(path))
    if not claimed(run):
        shutil.rmtree(run.folder, ignore_errors=True)
        return
    for path in run.folder.iterdir():
        if path.name not in ("lease.json", "claims"):
            _remove(path, only_if_empty=False)


def _remove(path: Path, only_if_empty: bool) -> None:
    """Remove what a run claimed, as far as it goes."""
    with suppress(OSError):
        if only_if_empty:
            path.rmdir()
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
