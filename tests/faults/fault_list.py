"""What happens to a run in the matrix, and to which backends: one entry of FAULTS per row of the table."""

import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fault_case import Case, Subject
from staging_servers import PASSWORD, RedisProcess

NOT_BY_KEY = "is a stream: there are no values by key that another client could overwrite"


def applies(_subject: Subject) -> str:
    """To every backend."""
    return ""


def needs_process(subject: Subject) -> str:
    return "" if subject.server[0] else f"has no server process: {subject.served_by}"


def needs_keys(subject: Subject) -> str:
    return "" if subject.by_key else NOT_BY_KEY


def needs_folder(subject: Subject) -> str:
    return "" if subject.in_files else "does not stage in a folder"


def needs_password(subject: Subject) -> str:
    return "" if subject.password else "has no password: permissions keep others out"


def needs_port(subject: Subject) -> str:
    return "" if subject.port else "takes no port that could be given"


@dataclass(frozen=True)
class Fault:
    """One row: what is done, and what has to be said first."""

    name: str
    says: str
    """A pattern for the earliest reason that was noted; where there is none, for what snakemake printed."""
    do: Callable[[Case], None]
    when: Literal["before", "ready", "coupled"] = "coupled"
    """Done before snakemake starts, as soon as the server is ready, or when both components are at work."""
    not_for: Callable[[Subject], str] = applies
    """Why it does not apply to a backend, or ""."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the config."""
    prepare: Callable[[Case], None] = lambda _case: None
    """Done before snakemake starts."""
    environment: Callable[[Case], dict[str, str]] = lambda _case: {}
    later: bool = False
    """It is noticed later than it is done, so the seconds count from the first reason that was noted."""
    nobody_left: bool = False
    """No process is left that could say why or clean up; the next run does it."""
    needs_room: bool = False
    times: int = 1
    often: bool = True
    """Whether `make test` has it as well, on redis."""


def kill(program: str, text: str = "") -> Callable[[Case], None]:
    """SIGKILL to the first process with this program and text."""
    return lambda case: case.process(program, text).kill()


def all_processes(case: Case, number: int) -> None:
    for pid in case.traces.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def walltime(case: Case) -> None:
    """As a batch system does: SIGTERM to everything, and SIGKILL when some seconds are over."""
    all_processes(case, signal.SIGTERM)
    case.traces.left_after(8)
    all_processes(case, signal.SIGKILL)


def wrong_password(case: Case) -> None:
    rewrite_server_json(case, **{case.subject.password: "0" * 64})


def another_runs_server(case: Case) -> None:
    """A redis-server that a dead run left answers in place of ours, and the password is right for it."""
    old = RedisProcess("0123456789abcdef")
    case.undo.callback(old.stop)
    rewrite_server_json(case, port=old.port, password=PASSWORD)


def rewrite_server_json(case: Case, **address: Any) -> None:
    info = case.info | {"address": case.info["address"] | address}
    temporary = case.point / "server.json.changed"
    temporary.write_text(json.dumps(info))
    temporary.replace(case.point / "server.json")


def take_port(case: Case) -> None:
    taken = case.undo.enter_context(socket.create_server(("127.0.0.1", 0)))
    case.set_option(port=taken.getsockname()[1])


def broken_start(case: Case) -> None:
    (case.folder / "file").write_text("")
    options = {
        name: value.format(file=case.folder / "file") if isinstance(value, str) else value
        for name, value in case.subject.broken.items()
    }
    case.set_option(**options)


def unknown_node(case: Case) -> None:
    (case.folder / "hosts").write_text("no-such-node.invalid\n")
    case.set_system(hostfile=str(case.folder / "hosts"))


def small_staging_disk(case: Case) -> None:
    case.small_disk(case.folder / "disk", 8)
    case.set_option(folder=str(case.folder / "disk"))


def fill(folder: Path, but: int = 0) -> None:
    """Use up a file system to `but` bytes."""
    with (folder / "filling").open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        if but:
            file.truncate(file.tell() - but)


def full_staging_disk(case: Case) -> None:
    fill(case.seen(case.folder / "disk"))


def small_results_disk(case: Case) -> None:
    case.small_disk(case.folder / "results", 4)


def full_results_disk(case: Case) -> None:
    # Some KB stay, for the logs and the reasons, but not for the events.
    fill(case.seen(case.folder / "results"), but=32768)


def small_shared_memory(case: Case) -> None:
    case.traces.room.run("mount", "-o", "remount,size=64k", "/dev/shm")
    case.undo.callback(case.traces.room.run, "mount", "-o", "remount,size=50%", "/dev/shm")


def garble(case: Case) -> None:
    """Overwrite what is staged with bytes that are no value."""
    assert case.client("garble")


def in_the_middle_of_a_put(case: Case) -> None:
    """At a random moment: the rank does little else than putting, and that takes long."""
    time.sleep(random.uniform(0, 0.5))
    case.process("python", "components.entry simulation").kill()


SLOW_READER = {"training": {"read_every": 60}}
LARGE = {
    "sweep": {"axes": {"elements": [16_000_000]}},
    "simulation": {"write_every": 1, "kernels": [{"name": "MatMulSimple2D", "data_size": [8, 8], "run_time": 0.001}]},
    "training": {"run_time": 0.001, "read_every": 1},
}

FAULTS = [
    Fault("SIGKILL: server", "staging server of .*(was ended by signal 9|has ended)",
          lambda case: case.process(*case.subject.server).kill(), not_for=needs_process),
    Fault("SIGKILL: a simulation rank", "simulation: a rank or the launcher was ended by SIGKILL",
          kill("python", "components.entry simulation"), often=False),
    Fault("SIGKILL: a training rank", "training: a rank or the launcher was ended by SIGKILL",
          kill("python", "components.entry training")),
    Fault("SIGKILL: mpiexec", "was ended by SIGKILL", kill("mpiexec", "entry simulation"), often=False),
    Fault("SIGKILL: mpiexec's helper on the node", "(simulation|training): (the launcher ended|.* was ended by SIG)",
          kill("hydra_pmi_proxy"), often=False),
    Fault("SIGKILL: `simai-rules run simulation`", r"was killed \(its launcher", kill("python", "run simulation"),
          often=False),
    Fault("SIGKILL: `simai-rules run training`", r"was killed \(its launcher", kill("python", "run training"),
          often=False),
    Fault("SIGKILL: `simai-rules serve`", "staging server of .*: its process was killed",
          lambda case: os.kill(case.info["pid"], signal.SIGKILL)),
    Fault("SIGKILL: snakemake", "snakemake or a shell.* has ended", lambda case: case.snakemake.kill()),
    Fault("SIGTERM to all, then SIGKILL", "ended by SIGTERM", walltime, often=False),
    Fault("SIGKILL to all at once", "", lambda case: all_processes(case, signal.SIGKILL), nobody_left=True),
    Fault("SIGSTOP: server", "staging server of .* is halted",
          lambda case: case.process(*case.subject.server).suspend(), not_for=needs_process),
    Fault("server cannot start",
          "did not start|cannot be|not a program|no network interface|there is no folder|free; the dictionary takes",
          broken_start, "before", environment=lambda case: case.subject.broken_environment, often=False),
    Fault("port taken", "port [0-9]+ on 127.0.0.1 is in use", take_port, "before", not_for=needs_port, often=False),
    Fault("node name unknown", "no-such-node.invalid, of which no address is known", unknown_node, "before",
          often=False),
    Fault("password wrong", "refuses this run's (password|token)|authentication token mismatch", wrong_password,
          "ready", not_for=needs_password, later=True, often=False),
    Fault("server of a dead run answers", "belongs to the run '0123456789abcdef'", another_runs_server, "ready",
          not_for=lambda subject: needs_password(subject) or needs_port(subject), later=True),
    Fault("staging folder full", "no room in", full_staging_disk, "ready", not_for=needs_folder, later=True,
          needs_room=True, prepare=small_staging_disk, often=False),
    Fault("/dev/shm full", "no room in /dev/shm|/dev/shm has .* MB free", small_shared_memory, "before", later=True,
          needs_room=True),
    Fault("results folder full", "Cannot write .*No space left", full_results_disk, later=True, needs_room=True,
          prepare=small_results_disk, changes={"training": {"iterations": 100}}, often=False),
    Fault("value overwritten by garbage", "snapshot/0/[0-9]+.* is not a staged value", garble, not_for=needs_keys,
          changes=SLOW_READER, later=True),
    Fault("SIGKILL: a client in the middle of a put (3 times)", "simulation: a rank .*was ended by SIGKILL",
          in_the_middle_of_a_put, changes=LARGE, times=3,
          prepare=lambda case: case.set_option(**case.subject.for_large), often=False),
]  # fmt: skip
