"""A real Slurm of four nodes on this machine: munged, slurmctld and four slurmd, on loopback, of who runs the tests.

The programs come from the PATH, or from build/slurm (tests/slurm_packages.sh); neither root nor a change of the machine
is needed. All state is in one temporary folder. Every process is a descendant of a guardian (this file as a program),
which ends them and removes the folder when its standard input is closed: at the end of the tests, or when they were
killed.
"""

import contextlib
import ctypes
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODES = ("n1", "n2", "n3", "n4")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmstepd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
_UNPACKED = Path(__file__).resolve().parent.parent / "build/slurm"
_START_S = 30
_PR_SET_CHILD_SUBREAPER = 36
# Jobs start as soon as they can (sched_min_interval, bf_interval), and MinJobAge keeps ended ones in squeue for a test.
# Memory is something that jobs and steps consume (CR_Core_Memory), as on most machines. Job ids are not those of an
# earlier cluster: MPICH names its shared memory after job and step, and finds that of a killed run taken.
_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
{plugins}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
EnforcePartLimits=ALL
MinJobAge=3600
KillWait=10
FirstJobId={first_job}
OverTimeLimit=0
ReturnToService=2
AccountingStorageType=accounting_storage/none
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[4]}] CPUs=8 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=n[1-4] Default=YES MaxTime=60 DefaultTime=5 State=UP
PartitionName=small Nodes=n[1-4] MaxNodes=1 MaxTime=5 State=UP
"""


def programs() -> Path | None:
    """The folder with Slurm's programs, or None where there is none."""
    # Debian keeps the daemons in /usr/sbin, which a user's PATH lacks.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if all(shutil.which(program, path=path) for program in _PROGRAMS):
        return Path(shutil.which("sbatch", path=path)).parent
    return _UNPACKED / "bin" if (_UNPACKED / "bin/sbatch").exists() else None


def lacking() -> str:
    """Why no cluster can be started here, or ""."""
    if programs() is None:
        return "no Slurm: neither on the PATH nor in build/slurm (make build/slurm/.installed)"
    return ""


class SlurmCluster:
    """Slurm with the nodes n1 to n4 of 8 CPUs each; a context manager."""

    def __init__(self) -> None:
        # Not pytest's folder: the sockets in it have long names, of which the kernel takes 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{programs()}:{os.environ['PATH']}"}
        self._guardian = subprocess.Popen(
            [sys.executable, __file__, str(self.folder), str(programs())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> "SlurmCluster":
        line = self._guardian.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"Slurm did not start: {line}{self._guardian.stdout.read()}")
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes of the cluster, those of jobs too, and remove its folder."""
        self._guardian.stdin.close()
        self._guardian.wait(20)

    def run(self, *command: str, check: bool = True, **variables: str) -> str:
        """Run one of Slurm's programs and return what it printed; raises CalledProcessError."""
        done = subprocess.run(
            command, env=os.environ | self.environment | variables, check=check, timeout=60, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """The state of a job, such as RUNNING."""
        return self.run("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")

    def wait(self, job: str, *states: str, seconds: float = 60) -> str:
        """Wait until a job is in one of `states`, and return which."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            if time.monotonic() > deadline:
                raise AssertionError(f"job {job} is {state} after {seconds} s, not {' or '.join(states)}")
            time.sleep(0.1)
        return state

    def cancel_all(self, seconds: float = 20) -> None:
        """End what a test has left in the queue, so that it does not disturb the next one."""
        deadline = time.monotonic() + seconds
        while (jobs := self.run("squeue", "--noheader", "--format=%A").split()) and time.monotonic() < deadline:
            self.run("scancel", *jobs, check=False)
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    """Ports in a row on which nothing listens, as NodeName wants them."""
    for _ in range(100):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            for offset in range(1, count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return list(range(port, port + count))
    raise OSError(f"no {count} free ports in a row on 127.0.0.1")


def _start(folder: Path, bin_folder: Path) -> None:
    """Write slurm.conf and start the daemons as children of this process; return when all nodes are idle."""
    host = socket.gethostname().partition(".")[0]
    user = pwd.getpwuid(os.getuid()).pw_name
    plugins = bin_folder.parent / "plugins"
    (folder / "state").mkdir()
    for node in NODES:
        (folder / node).mkdir()
    (folder / "slurm.conf").write_text(
        _CONF.format(
            host=host, user=user, first_job=random.randint(100_000, 50_000_000), folder=folder, ports=_free_ports(5),
            plugins=f"PluginDir={plugins}" if plugins.exists() else "",
        )
    )  # fmt: skip
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{bin_folder}:{os.environ['PATH']}:/usr/sbin"}
    # --force: the folder's parents, /tmp for one, are open to more people than munged likes.
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    _daemon("munged", "--foreground", "--force", *(f"--{key}={folder}/munge.{end}" for key, end in files.items()))
    _until(lambda: (folder / "munge.socket").exists(), "munged", folder / "munge.log")
    _daemon("slurmctld", "-D", "-i")
    for node in NODES:
        _daemon("slurmd", "-D", "-N", node, "-d", str(shutil.which("slurmstepd")))
    _until(lambda: _idle_nodes() == len(NODES), "slurmctld or a slurmd", folder / "slurmctld.log")


def _daemon(*command: str) -> None:
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _idle_nodes() -> int:
    asked = ["sinfo", "--noheader", "--Node", "--partition=debug", "--format=%T"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split().count("idle")


def _until(condition, what: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not there after {_START_S} s; {log.name}:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _descendants() -> list[int]:
    """The processes below this one; orphans come to it, which is their subreaper."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, level = [], {os.getpid()}
    while level := {pid for pid, parent in parents.items() if parent in level}:
        found += level
    return found


def _end_all() -> None:
    while pids := _descendants():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.02)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main(folder: Path, bin_folder: Path) -> None:
    """The guardian: start the cluster, and end it when standard input is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        _start(folder, bin_folder)
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 1.0)[0]:
            _reap()
    except (OSError, TimeoutError) as error:
        print(error, flush=True)
    finally:
        _end_all()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
