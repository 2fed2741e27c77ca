"""The folder of a run: who takes part, what has failed, and what has to be removed when the run has ended.

<tmp>/simai-rules-<uid>/run-<id>/             on the first node; on the others it is run-<id>-<index>, as two names of
                                              the allocation may be one machine
    lease.json              the run: node, where its pids count, owner (serve), guardian, hosts, server.json, point
    claims/<n>.json         what the run made outside of this folder, written down before it is made
    processes/<pid>         every process of the run that has to be gone in the end: its start, and whose it is
    components/<name>.json  a component: its launcher's process, and whether it is running, done or failed
    failures/<name>.json    why a part has failed; the earliest is the cause of the others (and see reports)
    segments/<pid>          what MPI leaves if this rank is killed: shared memory, a file of Hydra
"""

import json
import os
import platform
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from simai_rules.errors import UserError
from simai_rules.files import write_json
from simai_rules.launch.allocation import state_folder
from simai_rules.lifecycle.reports import Reports
from simai_rules.process import Process, boot_of, dying_with, pid_space

_ROOM, _ROOM_BYTES = ".room", 65536
ComponentState = Literal["running", "done", "failed"]
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What reading a damaged note may raise."""


class RunEnded(UserError):
    """The run's folder is gone: its server has ended, and its guardian has cleaned up."""


@dataclass(frozen=True)
class Failure:
    """Why one part of a run has failed; `time` in seconds of the wall clock."""

    component: str
    reason: str
    time: float


class RunFolder:
    """One run's folder, as its owner, its components and its guardian see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.serving: Sequence[int] = ()
        """The numbers of the nodes that the server's processes are to be on; () for all."""
        self.proceed: Callable[[], None] = lambda: None
        """Raises where its owner was asked to end."""

    @classmethod
    def create(cls, server_file: Path, point_folder: Path | None, run_id: str = "", index: int = 0) -> "RunFolder":
        """Make the folder of a new run of this process; `point_folder` gets a copy of the failures.

        A keeper gives the `run_id` of its run, and the `index` of its node among the run's.
        """
        run_id = run_id or secrets.token_hex(8)
        folder = state_folder() / (f"run-{run_id}-{index}" if index else f"run-{run_id}")
        folder.mkdir(mode=0o700)
        for name in ("claims", "processes", "components", "failures", "segments"):
            (folder / name).mkdir(mode=0o700)
        run = cls(folder)
        lease = {
            "run_id": run_id,
            "node": platform.node(),
            "pid_space": pid_space(),
            "hosts": [],
            "owner": list(Process.current()),
            "guardian": None,
            "server_file": str(server_file.absolute()),
            "point_folder": str(point_folder.absolute()) if point_folder else "",
            "reports": "",
        }
        write_json(folder / "lease.json", lease, mode=0o600)
        return run

    @property
    def run_id(self) -> str:
        """The run's id: 16 hexadecimal digits."""
        return self.name.partition("-")[0]

    @property
    def name(self) -> str:
        """The run's id, on its other nodes with `-<index>`: nothing else on this machine is called so."""
        return self.folder.name.removeprefix("run-")

    @property
    def index(self) -> int:
        """The number of this node among the run's."""
        number = self.name.partition("-")[2]
        return int(number) if number.isdigit() else 0

    @property
    def lease(self) -> dict[str, Any]:
        """What the run said of itself, or {} where it did not come to that."""
        try:
            lease = json.loads((self.folder / "lease.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return lease if isinstance(lease, dict) else {}

    def name_guardian(self, guardian: Process) -> None:
        """Write down which process removes the run's things."""
        self._write("lease.json", self.lease | {"guardian": list(guardian)})

    def name_hosts(self, hosts: Sequence[str], reports: Path | None = None, clean_others: Sequence[str] = ()) -> None:
        """Write down which nodes the run uses: something of it may be left on each.

        reports: the folder in which several nodes tell each other of failures. clean_others: the command that starts
        `simai-rules clean` on the nodes but this one.
        """
        more = {"hosts": list(hosts), "reports": str(reports or ""), "clean_others": list(clean_others)}
        self._write("lease.json", self.lease | more)

    @property
    def reports(self) -> Reports | None:
        """What the nodes of the run tell each other; None where there is one node."""
        folder = self.lease.get("reports")
        return Reports(Path(folder)) if isinstance(folder, str) and folder else None

    def in_use(self) -> bool:
        """Whether the owner or the guardian of the run is alive; without a readable lease, any process of it."""
        lease = self.lease
        if boot_of(_pid_space(lease)) != boot_of(pid_space()):
            return False  # its processes ended with an earlier boot of this node
        named = [_process(lease.get(who)) for who in ("owner", "guardian")]
        return any(process.alive for process in (named if any(named) else self.processes()) if process)

    @property
    def elsewhere(self) -> str:
        """Where alone it can be seen whether the run is alive ("on the node …", "in another …"), or "" if here.

        A temporary folder may be that of many nodes, or of several containers, whose pids mean nothing to each other.
        """
        lease = self.lease
        node, space = lease.get("node"), _pid_space(lease)
        if isinstance(node, str) and node != platform.node():
            return f"on the node {node}"
        other = space != pid_space() and boot_of(space) == boot_of(pid_space())
        return "in another container (pid namespace) of this node" if other else ""

    def claim(self, path: Path, *, only_if_empty: bool = False) -> None:
        """Write down that the run is about to make `path`; it is removed with the run.

        only_if_empty: a folder that others may use as well; it is left where there is anything in it.
        """
        content = {"path": str(path.absolute()), "only_if_empty": only_if_empty}
        self._write(f"claims/{time.monotonic_ns()}.json", content)

    def claimed_if_empty(self) -> set[Path]:
        """Return the folders that this run and others of this user on this node go with if they are empty."""
        return {path for run in all_runs() for path, only_if_empty in run.claims() if only_if_empty}

    def claim_by_command(self, command: Sequence[str]) -> None:
        """Write down a command that removes what the run is about to make where no path leads: in a remote store.

        It is run when the run is removed, however the run ended, with a deadline; it has to do nothing where there is
        nothing to remove.
        """
        self._write(f"claims/{time.monotonic_ns()}.json", {"command": list(command)})

    def claims(self) -> list[tuple[Path, bool]]:
        """Return what the run made, newest first, with whether it is removed only if empty."""
        claims = self._claims().values()
        return [(Path(claim["path"]), bool(claim["only_if_empty"])) for claim in claims if "command" not in claim]

    def forget_claims(self, gone: Callable[[Path], bool]) -> None:
        """Remove the notes of what is `gone`: what somebody else makes there from now on is not the run's."""
        for file, claim in self._claims().items():
            if "command" in claim or gone(Path(claim["path"])):
                with suppress(OSError):
                    file.unlink()

    def claimed_commands(self) -> list[list[str]]:
        """Return the commands that remove what the run made, newest first."""
        return [claim["command"] for claim in self._claims().values() if "command" in claim]

    def _claims(self) -> dict[Path, dict[str, Any]]:
        files = [file for file in self.folder.glob("claims/[!.]*.json") if file.stem.isdigit()]
        found = {}
        for file in sorted(files, key=lambda file: int(file.stem), reverse=True):
            # One that cannot be read must not keep the others from being removed.
            with suppress(*UNREADABLE):
                claim = json.loads(file.read_bytes())
                if _is_claim(claim):
                    found[file] = claim
        return found

    def start_child(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        owner: str = "server",
        new_session: bool = True,
        output: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process of the run that dies with this one, in a session or group of its own; it is written down.

        output: where it writes to, errors too; else where this process does.
        """
        child = subprocess.Popen(
            list(command),
            env=dict(env) if env is not None else None,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=new_session,
            process_group=None if new_session else 0,
            preexec_fn=dying_with(os.getpid()),
        )
        self.add_process(child.pid, owner)
        return child

    def add_process(self, pid: int, owner: str) -> None:
        """Write down a process of `owner` ("server" or a component) that has to be gone when the run has ended.

        Where the run has ended, and its folder with it, nothing is written.
        """
        process = Process.of(pid)
        folder = self.folder / "processes"
        if process is not None and folder.is_dir():
            (folder / str(pid)).write_text(f"{process.start} {owner}")

    def ranks(self) -> list[Process]:
        """Return the processes that belong to components, dead ones included."""
        servers = set(self.processes("server"))
        return [process for process in self.processes() if process not in servers]

    def processes(self, owner: str | None = None) -> list[Process]:
        """Return the processes of the run (of `owner` only, if given) that were written down, dead ones included."""
        found = []
        for file in self.folder.glob("processes/*"):
            start = whose = ""
            with suppress(OSError):
                start, _, whose = file.read_text(errors="replace").partition(" ")
            if start.isdigit() and file.name.isdigit() and owner in (None, whose):
                found.append(Process(int(file.name), int(start)))
        return found

    def set_component(self, name: str, state: ComponentState) -> None:
        """Say how far the component `name`, whose launcher is this process, has come."""
        self._write(f"components/{name}.json", {"state": state, "launcher": list(Process.current())})

    def components(self) -> dict[str, tuple[ComponentState, Process]]:
        """Return the components that have started: their state and their launcher's process."""
        found = {}
        for file in self.folder.glob("components/[!.]*.json"):
            # One that cannot be read must not keep the rest of the run from being removed.
            with suppress(*UNREADABLE):
                entry = json.loads(file.read_bytes())
                found[file.stem] = (entry["state"], Process(*entry["launcher"]))
        return found

    def fail(self, component: str, reason: str) -> None:
        """Write down why `component` has failed: here, for other nodes, in the point's folder. A first reason is kept.

        Where the point's folder has gone or is full, the note here has to do: ending and cleaning are more important.
        """
        here = self.folder / "failures" / f"{component}.json"
        if not here.exists():
            self._write(f"failures/{component}.json", {"component": component, "reason": reason, "time": time.time()})
        self._copy_to_point(here)
        if reports := self.reports:
            with suppress(*UNREADABLE):
                reports.fail(self.index, json.loads(here.read_bytes()))

    def gather(self) -> None:
        """Write down here what has failed on other nodes: their notes go with the run."""
        known = {file.stem for file in self.folder.glob("failures/*.json")}
        for failure in self.failures():
            if failure.component not in known and failure.component.isidentifier():
                known.add(failure.component)
                self._write(f"failures/{failure.component}.json", asdict(failure))
                self._copy_to_point(self.folder / "failures" / f"{failure.component}.json")

    def _copy_to_point(self, note: Path) -> None:
        point_folder = Path(self.lease.get("point_folder") or os.devnull)
        if point_folder.is_dir():
            with suppress(OSError):
                (point_folder / "failures" / _ROOM).unlink(missing_ok=True)
            with suppress(UserError):
                write_json(point_folder / "failures" / note.name, json.loads(note.read_text()))

    def keep_room(self) -> None:
        """Take some room in the point's folder, for the reasons that have to be written when its disk is full."""
        if self.lease.get("point_folder"):
            folder = Path(self.lease["point_folder"]) / "failures"
            self.claim(folder, only_if_empty=True)
            self.claim(folder / _ROOM)
            with suppress(OSError):
                folder.mkdir(exist_ok=True)
                (folder / _ROOM).write_bytes(bytes(_ROOM_BYTES))

    def failures(self) -> list[Failure]:
        """Return why parts of the run have failed, on whatever node, the cause (the earliest) first."""
        reports = self.reports
        notes: list[Any] = [content for _, content in reports.failures()] if reports else []
        for file in self.folder.glob("failures/[!.]*.json"):
            with suppress(*UNREADABLE):
                notes.append(json.loads(file.read_bytes()))
        found = set()
        for note in notes:
            with suppress(*UNREADABLE):
                found.add(Failure(str(note["component"]), str(note["reason"]), float(note["time"])))
        return sorted(found, key=lambda failure: failure.time)

    def _write(self, name: str, content: Any) -> None:
        """Write a file of the folder; raises RunEnded where the folder has been removed, and does not make it again."""
        file = self.folder / name
        if not file.parent.is_dir():
            raise RunEnded(f"the run {self.run_id} has ended: its folder {self.folder} has been removed")
        write_json(file, content, mode=0o600)


def all_runs() -> list[RunFolder]:
    """Return the runs of this user on this node, those of dead owners included."""
    folders = [folder for folder in sorted(state_folder().glob("run-*")) if not folder.is_symlink()]
    return [RunFolder(folder) for folder in folders if folder.is_dir() and folder.stat().st_uid == os.getuid()]


def _pid_space(lease: Mapping[str, Any]) -> str:
    """Return where the pids of a lease mean something: here, where it does not say."""
    space = lease.get("pid_space")
    return space if isinstance(space, str) else pid_space()


def _is_claim(noted: Any) -> bool:
    """Whether a note says what to remove."""
    if not isinstance(noted, dict):
        return False
    if "command" in noted:
        command = noted["command"]
        return isinstance(command, list) and bool(command) and all(isinstance(word, str) for word in command)
    return isinstance(noted.get("path"), str) and "\0" not in noted["path"] and "only_if_empty" in noted


def _process(noted: Any) -> Process | None:
    """Return a process as a lease names it; None where it names none."""
    if isinstance(noted, list) and len(noted) == 2 and all(type(number) is int for number in noted):
        return Process(*noted)
    return None
