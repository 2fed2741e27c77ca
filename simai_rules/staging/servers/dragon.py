"""The server half of dragon: a Dragon runtime on this node with a distributed dictionary in it.

On one node the runtime needs no transport agent and listens on no port: all goes through shared memory, which this
user alone can open, and attaching takes a token made for the run.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from simai_rules.config.backends import DragonConfig
from simai_rules.errors import MissingProgram
from simai_rules.process import Process
from simai_rules.staging.server import Run, ServerFailed, require_one_node
from simai_rules.staging.servers import dragon_service, dragon_traces

_MEMORY = Path("/dev/shm")  # noqa: S108 - where Dragon's memory pools are
_START_S = 55.0
_USABLE = 0.25
"""The part of the dictionary that may be filled. Dragon rounds each value up to a power of two of bytes, and 0.15 loses
a value without telling its writer where no free block is large enough, well before the memory is used up."""
_OWN_BYTES = 512 * 1024 * 1024
"""Shared memory of the runtime itself, beside the dictionary and the values on their way (seen: 80 to 400 MB)."""
_UNANSWERED = 3
"""A dictionary that leaves so many questions in a row without an answer and does not compute will never answer…"""
_BUSY_S = 60.0
"""…and so long nothing keeps one busy that is of any use."""
_IDLE = 0.02
"""The part of the time that managers compute who wait for a client."""
_NOTE_EVERY_S = 1.0


def make_server(config: DragonConfig, run: Run, hosts: Sequence[str], needed: int) -> "DragonServer":
    """Return the server that starts a Dragon runtime on this node."""
    return DragonServer(config, run, hosts, needed)


class DragonServer:
    """One Dragon runtime and its dictionary."""

    def __init__(self, config: DragonConfig, run: Run, hosts: Sequence[str], needed: int) -> None:
        require_one_node("dragon", hosts)
        self.config, self._run, self._needed = config, run, needed
        self._folder = run.folder / "dragon"
        self._child: subprocess.Popen[bytes] | None = None
        self._processes: list[Process] = []
        self._managers: list[int] = []
        self._noted = 0.0
        self._silent_since: tuple[float, float] | None = None

    def start(self) -> dict[str, Any]:
        """Start the runtime and wait until its dictionary answers; raises ServerFailed, MissingProgram."""
        release = _release()
        self._check_room()
        self._folder.mkdir(mode=0o700)
        self._run.claim_by_command([sys.executable, "-P", dragon_traces.__file__, str(self._folder)])
        token = secrets.token_hex(32)
        process = self._launch(token)
        described = self._wait_until_ready()
        self._learn()
        return {
            "dictionary": described["dictionary"],
            "runtime": (self._folder / "attach_info.txt").read_text().strip(),
            "token": token,
            "process": list(process),
            "transport": "none (one node)",
            "version": release,
        }

    def check(self) -> None:
        """Raise ServerFailed if a part of the runtime has ended or is halted, or the dictionary does not answer."""
        if self._child is None:
            return
        for process in self._processes:
            if not process.alive:
                raise ServerFailed(f"process {process.pid} of the Dragon runtime has ended; see the server's log")
            if process.stopped:
                raise ServerFailed(f"process {process.pid} of the Dragon runtime is halted (SIGSTOP)")
        self._check_answers()
        if time.monotonic() - self._noted > _NOTE_EVERY_S:
            self._note()

    def stop(self) -> None:
        """Kill the runtime, which has nothing to save, and remove its shared memory."""
        if self._child is not None:
            dragon_traces.remove(self._folder)
            self._child.kill()
            self._child.wait()
            self._child = None

    def _check_room(self) -> None:
        """Raise ServerFailed where the dictionary, or the node's shared memory, is too small."""
        total = self.config.total_mem
        if self._needed > total * _USABLE:
            raise ServerFailed(
                f"the dictionary has {total / 1e6:.0f} MB, of which {_USABLE:.0%} may be filled, but "
                f"{self._needed / 1e6:.0f} MB may be staged at the same time (elements x item size x ranks x "
                f"staging.in_flight). Set backends.dragon.total_mem to at least {int(self._needed / _USABLE) + 1}; "
                "Dragon gives every value a power of two of bytes, and loses values where its memory is in pieces."
            )
        free = shutil.disk_usage(_MEMORY).free
        if free < total + _OWN_BYTES:
            raise ServerFailed(
                f"{_MEMORY} has {free / 1e6:.0f} MB free; the dictionary takes {total / 1e6:.0f} MB and Dragon itself "
                f"up to {_OWN_BYTES / 1e6:.0f} MB. Set less backends.dragon.total_mem, or free shared memory."
            )

    def _launch(self, token: str) -> Process:
        """Start the runtime with the service in it."""
        config = self.config
        service = [sys.executable, "-m", dragon_service.__name__, str(self._folder), self._run.run_id]
        service += [str(config.managers_per_node), str(config.total_mem)]
        command = [
            sys.executable,
            "-m",
            "dragon",
            "--single-node-override",
            "--attachable",
            "-l",
            "dragon_file=ERROR",
            *service,
        ]
        # What another runtime, or an attached process that started this one, has set would be taken for this one's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRAGON_")}
        own = {
            dragon_traces.MARK: str(self._folder),
            "PATH": f"{self._without_gpu_libraries()}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "TMPDIR": str(self._folder),
            "DRAGON_ATTACH_DIR": str(self._folder),
            "DRAGON_ATTACH_TOKEN": token,
            # Nothing listens there; it tells apart the runtimes of one node.
            "DRAGON_TRANSPORT_PORT": str(10_000 + secrets.randbelow(50_000)),
            # The values on their way: as much as there can be, and touched only where it is used.
            "DRAGON_DEFAULT_SEG_SZ": str(max(1 << 30, 1 << (2 * config.total_mem - 1).bit_length())),
        }
        # Dragon makes its first process the leader of a group, which the leader of a session must not become.
        self._child = self._run.start_child(command, env=inherited | own, cwd=self._folder, new_session=False)
        return Process.of(self._child.pid) or Process(self._child.pid, 0)

    def _without_gpu_libraries(self) -> Path:
        """Return a folder for the PATH with a dragon-config that knows of no library for the memory of GPUs.

        Each process of the runtime asks it six times, and the real one takes seconds of starting Python for its answer.
        """
        folder = self._folder / "bin"
        folder.mkdir(mode=0o700)
        program = folder / "dragon-config"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        return folder

    def _wait_until_ready(self) -> dict[str, Any]:
        """Return what the service says of itself."""
        file = self._folder / dragon_service.READY
        deadline = time.monotonic() + _START_S
        while not file.exists():
            self._run.proceed()
            self._note()
            if self._child is None or self._child.poll() is not None:
                raise ServerFailed(
                    f"the Dragon runtime ended with exit code {self._child.returncode if self._child else '?'} while "
                    f"starting. {self._log()}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(f"the Dragon runtime was not ready within {_START_S:g} s. {self._log()}")
            time.sleep(0.05)
        self._note()
        return dict(json.loads(file.read_text()))

    def _log(self) -> str:
        """Return the last errors that the runtime wrote."""
        lines = [line for file in self._folder.glob("dragon_*.log") for line in file.read_text().splitlines()]
        return f"Its last lines: {' | '.join(line.strip() for line in lines[-3:])}" if lines else "See the server's log"

    def _learn(self) -> None:
        """Find out which processes there are, and make those give way that spin although nothing passes them."""
        pids = dragon_traces.processes(self._folder)
        self._processes = [process for pid in pids if (process := Process.of(pid))]
        self._managers = [pid for pid in pids if any("/DDD" in path for path in dragon_traces.segments(pid))]
        for pid in pids:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid in self._managers or dragon_service.__name__.encode() in command:
                continue
            # The orchestrator, which takes no part in putting and getting, keeps a core busy.
            for thread in os.scandir(f"/proc/{pid}/task"):
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)

    def _note(self) -> None:
        """Write down the shared memory that there is by now."""
        dragon_traces.note(self._folder, dragon_traces.processes(self._folder))
        self._noted = time.monotonic()

    def _check_answers(self) -> None:
        """Raise ServerFailed if the dictionary neither answers nor computes."""
        unanswered = int((self._folder / dragon_service.UNANSWERED).read_text())
        if not unanswered:
            self._silent_since = None
            return
        now, computed = time.monotonic(), self._computed()
        if self._silent_since is None:
            self._silent_since = (now, computed)
        silent = now - self._silent_since[0]
        idle = computed - self._silent_since[1] < silent * _IDLE
        if silent > _BUSY_S or (unanswered >= _UNANSWERED and idle):
            raise ServerFailed(
                f"the dictionary does not answer ({unanswered} questions in a row); a client was probably killed in "
                "the middle of a put, which halts a manager of Dragon for all"
            )

    def _computed(self) -> float:
        """Return the seconds that the dictionary's managers have computed."""
        ticks = 0
        for pid in self._managers:
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _release() -> str:
    """Return the version of dragonhpc; raises MissingProgram where there is none."""
    try:
        return version("dragonhpc")
    except PackageNotFoundError:
        raise MissingProgram(
            "The backend dragon needs the Python package dragonhpc, which is not installed (it has wheels for Python "
            "3.10 to 3.13). Get it by: pip install 'simai-rules[dragon]'"
        ) from None
