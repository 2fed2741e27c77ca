"""A stand-in for PBS: what qsub, qstat and qdel beside this file share. No PBS: one machine, jobs are local processes.

It answers as OpenPBS 23.06.06 was seen to (recorded outputs of tests/executor_pbs/recorded and facts of the project):
the same texts, JSON and exit codes. Its state lies in the folder that $PBS_STANDIN names:

- state.json: the jobs; written under a lock.
- switches.json (made by a test, all keys optional): nodes (names for $PBS_NODEFILE), max_running, max_walltime_s,
  walltime_scale (a walltime of 60 s with 0.05 is enforced after 3 s), walltime_now (ids of jobs whose walltime is
  over), kill_delay_s (SIGTERM to SIGKILL), history
  (false: no -x), vanish (jobs are forgotten as soon as qsub has given their id), start_delay_s, qsub_errors (a list of
  [text, exit code], used up one by one), qsub_delay_s, qstat (a list of "ok", "garbled", "cut", "fails", used up one by
  one; its last entry stays), qstat_json ("garbled": the plain form can still be read).
- calls.txt: every call, one a line.

Each job has a process of its own (`qsub` starts it) that waits for its turn, runs the script in a new session, ends
it at its walltime or on qdel, and ends with it. It ends too when the folder has gone.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERVER = "pbshead"
VERSION = "23.06.06"
LOOK_S = 0.05
FORGET_S = 3600.0


def folder() -> Path:
    return Path(os.environ["PBS_STANDIN"])


def switches() -> dict[str, Any]:
    try:
        return json.loads((folder() / "switches.json").read_text())
    except FileNotFoundError:
        return {}


def note_call(argv: list[str]) -> None:
    with (folder() / "calls.txt").open("a") as calls:
        calls.write(" ".join([Path(argv[0]).name, *argv[1:]]).replace("\n", " ") + "\n")


def take(key: str, *, last_stays: bool = False) -> Any:
    """The next entry of a list among the switches."""
    with locked():
        now = switches()
        entries = now.get(key) or []
        if not entries:
            return None
        first = entries[0]
        if not (last_stays and len(entries) == 1):
            now[key] = entries[1:]
            draft = folder() / "switches.json.new"
            draft.write_text(json.dumps(now))
            draft.replace(folder() / "switches.json")
        return first


@contextlib.contextmanager
def locked() -> Any:
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read() -> dict[str, Any]:
    try:
        return json.loads((folder() / "state.json").read_text())
    except FileNotFoundError:
        return {"next": 1, "jobs": {}}


def change(what: Callable[[dict[str, Any]], Any]) -> Any:
    """Change the state under the lock; what the function returns."""
    with locked():
        state = read()
        result = what(state)
        draft = folder() / "state.json.new"
        draft.write_text(json.dumps(state, indent=1))
        draft.replace(folder() / "state.json")
        return result


def stamp() -> str:
    return time.strftime("%a %b %d %H:%M:%S %Y")


def short_stamp() -> str:
    return time.strftime("%a %b %d at %H:%M")


def node_names() -> list[str]:
    return switches().get("nodes") or [socket.gethostname(), "localhost"]


def find(jobs: dict[str, Any], wanted: str) -> str | None:
    number = wanted.split(".")[0]
    return next((key for key in jobs if key.split(".")[0] == number), None)


def full(wanted: str) -> str:
    return wanted if "." in wanted else f"{wanted}.{SERVER}"


def finish(job: dict[str, Any], substate: int, code: int | None, comment: str) -> None:
    job.update(job_state="F", substate=substate, mtime=stamp(), history_timestamp=int(time.time()))
    if comment:
        job["comment"] = comment
    if code is not None:
        job["Exit_status"] = code


# The process of one job.


def supervise(job_id: str) -> None:
    """Wait for the job's turn, run it, record its end."""
    try:
        if _turn(job_id):
            _run(job_id)
    except FileNotFoundError:
        return  # the test is over and its folder gone


def _turn(job_id: str) -> bool:
    born = time.monotonic()
    while True:
        now = switches()

        def attempt(state: dict[str, Any], now: dict[str, Any] = now) -> bool | None:
            job = state["jobs"].get(job_id)
            if job is None or job["job_state"] == "F":
                return False
            if job["job_state"] == "H" and not _released(state, job):
                return None
            if job["job_state"] == "F":
                return False
            asked = job["_nodes"]
            if asked > len(node_names()):
                job["comment"] = (
                    f"Can Never Run: Insufficient amount of resource: nodect (R: {asked} A: {len(node_names())} "
                    f"T: {len(node_names())})"
                )
                return None
            running = sum(other["job_state"] in ("R", "E") for other in state["jobs"].values())
            if running >= now.get("max_running", 99) or time.monotonic() - born < now.get("start_delay_s", 0):
                job["comment"] = "Not Running: Not enough free nodes available"
                return None
            where = "+".join(f"({name}:ncpus=1)" for name in node_names()[:asked])
            job.update(
                job_state="R",
                substate=42,
                stime=stamp(),
                mtime=stamp(),
                exec_host="+".join(f"{name}/0" for name in node_names()[:asked]),
                exec_vnode=where,
                run_count=1,
                comment=f"Job run at {short_stamp()} on {where}",
            )
            return True

        if not folder().is_dir():
            return False
        ready = change(attempt)
        if ready is not None:
            return ready
        if time.monotonic() - born > FORGET_S:
            return False
        time.sleep(LOOK_S)


def _released(state: dict[str, Any], job: dict[str, Any]) -> bool:
    """A job held for another one: let it go when that has ended well, end it when it has not."""
    if "s" not in job["Hold_Types"]:
        return False
    other_id = find(state["jobs"], job["depend"].split(":")[1].split("@")[0])
    other = state["jobs"].get(other_id or "", {})
    if other.get("job_state") != "F":
        return False
    if other.get("Exit_status") == 0:
        job.update(job_state="Q", substate=10, Hold_Types="n")
        return True
    finish(job, 92, None, "")
    return False


def _run(job_id: str) -> None:
    job = read()["jobs"][job_id]
    nodefile = folder() / f"nodefile.{job_id}"
    nodefile.write_text("".join(f"{name}\n" for name in node_names()[: job["_nodes"]]))
    home = os.environ.get("HOME", "/")
    environment = {
        "HOME": home,
        "LOGNAME": os.environ.get("LOGNAME", "user"),
        "USER": os.environ.get("USER", "user"),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PBS_JOBID": job_id,
        "PBS_JOBNAME": job["Job_Name"],
        "PBS_NODEFILE": str(nodefile),
        "PBS_O_WORKDIR": job["_workdir"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_QUEUE": job["queue"],
    } | {name: os.environ[name] for name in ("PBS_STANDIN",) if name in os.environ}
    with open(job["_output"], "a") as output:  # noqa: PTH123
        process = subprocess.Popen(
            [job["_shell"], str(folder() / f"script.{job_id}")],
            cwd=home if Path(home).is_dir() else "/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    limit_s = job["_walltime_s"] * switches().get("walltime_scale", 1.0)
    started = time.monotonic()
    why = ""
    killed_at = None
    while process.poll() is None:
        now = time.monotonic()
        if not why:
            deleted = not folder().is_dir() or read()["jobs"].get(job_id, {}).get("_delete", True)
            why = "deleted" if deleted else "walltime" if now - started > limit_s or _over(job_id) else ""
            if why:
                killed_at = now
                _signal_session(process.pid, signal.SIGTERM)
        elif killed_at is not None and now - killed_at > switches().get("kill_delay_s", 3.0):
            _signal_session(process.pid, signal.SIGKILL)
        time.sleep(LOOK_S)
    _signal_session(process.pid, signal.SIGKILL)  # nothing outlives its job
    code = process.returncode if process.returncode >= 0 else 256 - process.returncode

    def record(state: dict[str, Any]) -> None:
        done = state["jobs"].get(job_id)
        if done is None:
            return
        done["obittime"], done["Stageout_status"] = stamp(), 1
        run = done["comment"]
        if why == "walltime":
            with open(done["_output"], "a") as output:  # noqa: PTH123
                output.write(f"=>> PBS: job killed: walltime {int(job['_walltime_s'])} exceeded limit\n")
            finish(done, 93, -29, f"{run} and exceeded resource walltime")
        elif why == "deleted":
            finish(done, 91, code, f"{run} and terminated by user@{SERVER}")
        else:
            finish(done, 92 if code == 0 else 93, code, f"{run} and {'finished' if code == 0 else 'failed'}")

    change(record)


def _over(job_id: str) -> bool:
    return job_id in switches().get("walltime_now", [])


def _signal_session(session: int, number: int) -> None:
    """As PBS does: every process of the job's session, not its leader alone."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3]) == session:
                    os.kill(int(entry.name), number)


def start_supervisor(job_id: str) -> None:
    subprocess.Popen(
        [sys.executable, str(Path(__file__)), job_id],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder() / "errors.txt").open("a"),
        start_new_session=True,
        cwd="/",
    )


if __name__ == "__main__":
    supervise(sys.argv[1])
