"""The keeper of one node of a run, beside the first: `python -m simai_rules.lifecycle.keeper REPORTS`.

`serve` starts one on each other node of a point by the system's launcher. It opens the run's folder there, with a lease
and a guardian, so that the node is cleaned however the run ends; it starts and watches the node's part of the staging
server, proves the server as a client of its node, and ends with the run. REPORTS is the folder of `reports`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from simai_rules.errors import UserError
from simai_rules.launch.rank import raise_if_misplaced
from simai_rules.lifecycle.guardian import Guardian
from simai_rules.lifecycle.proof import prove, provers, remove_proof
from simai_rules.lifecycle.reaper import reap_dead_runs, why_ended
from simai_rules.lifecycle.reports import ALIVE, BEAT_S, ORDER, SERVER, Reports, changed, proved, up
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.lifecycle.starting import wait_for_ending_runs
from simai_rules.lifecycle.watch import Ending, Watch
from simai_rules.process import bind_to
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import Server
from simai_rules.staging.servers import make_part, make_server, parse_config

_LOOK_EVERY_S = 0.2
_SEEN_S = 10.0
"""What a file system takes at most until a node sees what another has written (NFS keeps what it has seen)."""
_SILENT_S = 120.0
"""A first node that shows no life for so long is lost; its file system may well halt for a minute."""


class Keeper:
    """One node of a run, from the launcher's start to the run's end."""

    def __init__(self, reports: Reports, order: dict[str, Any], index: int) -> None:
        self._reports, self._order, self._index = reports, order, index
        self._watch = Watch()
        self._config = parse_config(order["config"])
        self._server_file = Path(order["server_file"])
        wait_for_ending_runs(self._server_file, order["run_id"])
        reap_dead_runs()
        self._run = RunFolder.create(self._server_file, None, order["run_id"], index)
        self._run.proceed, self._run.serving = self._check, order["serving"]
        self._guardian = Guardian(self._run, subprocess.DEVNULL)
        self._run.name_hosts(order["hosts"], reports.folder)
        self._server: Server | None = None
        self._alive: tuple[tuple[int, int] | None, float] = (None, time.monotonic())
        self._touched = time.monotonic()
        self._seen: tuple[int, int] | None = None
        self._ended = ""

    def run(self) -> int:
        """Keep the node until the run ends; return 0, or 1 where its part of the server failed."""
        host = self._order["hosts"][self._index]
        try:
            self._start()
            while True:
                time.sleep(_LOOK_EVERY_S)
                self._check()
                if self._server is not None:
                    self._server.check()
        except Ending:
            return 0
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error} (a defect)"
            with suppress(UserError):
                self._run.fail("server", f"on the node {host}: {reason}")
            if not isinstance(error, UserError):
                raise
            print(f"{host}: {reason}", file=sys.stderr, flush=True)  # noqa: T201 - the launcher's output
            return 1
        finally:
            if self._server is not None:
                self._server.stop()
            self._guardian.dismiss()

    def _start(self) -> None:
        """Start this node's part of the server, say so, and prove the whole when its address is known."""
        order = self._order
        hosts, needed = order["hosts"], order["needed"]
        address: dict[str, Any] = {}
        if order["part"] is not None:
            self._server = make_part(self._config, self._run, hosts, needed, order["part"])
        elif order["server"] == self._index:
            self._server = make_server(self._config, self._run, hosts, needed)
        if self._server is not None:
            address = self._server.start()
        self._reports.write(up(self._index), {"run_folder": str(self._run.folder), "address": address})
        while (raw := self._reports.read(SERVER)) is None:
            self._check()
            time.sleep(_LOOK_EVERY_S)
        info = ServerInfo.from_dict(raw)
        sources = provers(self._config.sharing, self._index, order["clients"])
        if sources:
            prove(info, self._index, sources, order["timeout"], self._check)
        if sources == [self._index]:
            remove_proof(info, sources, order["timeout"])
        self._reports.write(proved(self._index), {})

    def _check(self) -> None:
        """Raise Ending where the run has ended: the launcher has, server.json says so, or the first node is silent.

        It asks a file system that all nodes share for two files that are there, whose state a node keeps; for one that
        is not there, it would ask the server of a parallel file system each time.
        """
        self._watch.check()
        why, now = self._why_ended(), time.monotonic()
        if (alive := changed(self._reports.folder / ALIVE)) != self._alive[0]:
            self._alive = (alive, now)
        if alive is None:
            why = why or "the run has ended"
        if now - self._touched > BEAT_S:
            self._touched = now
            self._reports.touch(up(self._index))
        if now - self._alive[1] > _SILENT_S:
            why = f"the first node has shown no life for {_SILENT_S:g} s"
        if why:
            raise Ending(why)

    def _why_ended(self) -> str:
        """Return why the first node serves no longer, reading server.json only where it has changed."""
        seen = changed(self._server_file)
        if seen != self._seen or seen is None:
            self._seen, self._ended = seen, why_ended(self._run)
        return self._ended


def main(argv: Sequence[str]) -> int:
    """Keep this node."""
    os.umask(0o077)
    raise_if_misplaced(os.environ)
    reports = Reports(Path(argv[0]))
    deadline = time.monotonic() + _SEEN_S
    while (order := reports.read(ORDER)) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    if order is None:
        raise UserError(
            f"{reports.folder} cannot be read on this node: the results have to be on a file system that all nodes see."
        )
    index = list(order["hosts"]).index(os.environ["SIMAI_NODE"])  # said by launch.rank
    bind_to(order["bind"].get(order["hosts"][index], ()))
    return Keeper(reports, order, index).run()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"keeper: {error}")
