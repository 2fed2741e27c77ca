"""`simai-rules serve`: one staging server from start to end.

It reaps dead runs, opens a run, takes nodes out of the allocation, starts the backend's server, proves it with a put
and a get, watches it, and on SIGTERM (or when its parent has ended) has everything removed by the guardian.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from simai_rules.config.experiment import StagingConfig
from simai_rules.config.registry import BackendConfig
from simai_rules.errors import UserError
from simai_rules.files import write_json
from simai_rules.launch.allocation import Ledger, allocation_of
from simai_rules.lifecycle.guardian import Guardian
from simai_rules.lifecycle.reaper import explain_unfinished, reap_dead_runs
from simai_rules.lifecycle.run_folder import RunFolder, all_runs
from simai_rules.lifecycle.watch import Ending, Watch
from simai_rules.process import Process, wait_ended
from simai_rules.staging.info import ServerInfo, State
from simai_rules.staging.server import Server, ServerFailed
from simai_rules.staging.servers import make_server

# How long a point waits for another run to give its nodes back.
NODES_DEADLINE_S = 3600.0
_LOOK_EVERY_S = 0.1
CLEANED_S = 30.0


class PointBusy(UserError):
    """Another run is at work on the same server.json."""


@dataclass(frozen=True)
class Order:
    """What one `simai-rules serve` has to do."""

    config: BackendConfig
    output: Path
    """The server.json to write."""
    staging: StagingConfig = field(default_factory=StagingConfig)
    hostfile: str | None = None
    """Names the allocation's nodes; None is this machine alone."""
    nodes: int = 0
    """How many it takes out of the allocation; 0: it runs on the first, which stays free for others."""
    needed: int = 0
    """Bytes that may be staged at the same time."""
    point: Path | None = None
    """The folder of the point, which gets a copy of the failures."""


class Service:
    """The server of one run, as its server.json tells it."""

    def __init__(self, order: Order, watch: Watch) -> None:
        self._order, self._watch = order, watch
        self._config, self._output = order.config, order.output.absolute()
        allocation = allocation_of(order.hostfile)
        self._run = RunFolder.create(self._output, order.point)
        self._run.proceed = watch.check
        self._guardian = Guardian(self._run)
        self._run.keep_room()
        self._info = ServerInfo(
            backend=self._config.type,
            run_id=self._run.run_id,
            config=self._config.model_dump(),
            run_folder=str(self._run.folder),
            pid=os.getpid(),
        )
        self._ledger = Ledger(allocation, [Process.current(), self._guardian.process])
        self._server: Server | None = None

    def run(self) -> int:
        """Serve until told to end; return the exit code: 0 after an orderly end, 1 if the server failed."""
        try:
            self._tell("starting")
            server = self._start()
            self._tell("ready")
            print(f"ready: {self._config.type}, run {self._run.run_id}", flush=True)  # noqa: T201 - the job's log
            while True:
                time.sleep(_LOOK_EVERY_S)
                self._watch.check()
                server.check()
                # Snakemake looks at its jobs once a second and then kills them all; who died first is seen here.
                explain_unfinished(self._run)
        except Ending as ending:
            return self._end(str(ending), failed=self._watch.orphaned)
        except UserError as error:
            return self._end(str(error), failed=True)
        except Exception as error:
            self._end(f"{type(error).__name__}: {error} (a defect of simai-rules; see the server's log)", failed=True)
            raise
        finally:
            if self._server is not None:
                self._server.stop()
            self._guardian.dismiss()
            self._ledger.give_back()

    def _start(self) -> Server:
        """Take the nodes, start the server on them and prove it."""

        def tell(text: str) -> None:
            print(text, flush=True)  # noqa: T201 - the job's log
            self._tell("starting", text)

        if self._order.nodes:
            hosts = self._ledger.take(self._order.nodes, NODES_DEADLINE_S, tell, self._watch.check)
        else:
            hosts = list(self._ledger.allocation.nodes[:1])
        self._run.name_hosts(hosts)
        self._server = make_server(self._config, self._run, hosts, self._order.needed)
        address = self._server.start()
        self._info = ServerInfo.from_dict(self._info.as_dict() | {"hosts": hosts, "address": address})
        self._prove()
        return self._server

    def _prove(self) -> None:
        """Put a value and get it back, as a client would."""
        from simai_rules.staging.datastore import DataStore

        with DataStore("serve", self._info, timeout=self._order.staging.start_timeout) as store:
            store.stage_write("serve/proof", self._run.run_id)
            answer = store.stage_read("serve/proof")
            store.clean_staged_data("serve/proof")
        if answer != self._run.run_id:
            raise ServerFailed(f"the {self._config.type} server gave back {answer!r} for {self._run.run_id!r}")

    def _tell(self, state: State, reason: str = "") -> None:
        """Replace server.json; the address and its password are there as long as the server is."""
        address = self._info.address if state in ("starting", "ready") else {}
        self._info = ServerInfo.from_dict(self._info.as_dict() | {"state": state, "reason": reason, "address": address})
        write_json(self._output, self._info.as_dict(), mode=0o600)

    def _end(self, reason: str, *, failed: bool) -> int:
        """Say how it ended: in the log, in server.json and, for a failure, in the run's failures."""
        with suppress(OSError):  # the disk of the log may be full, which may be the reason
            print(f"{'failed' if failed else 'stopped'}: {reason}", flush=True)  # noqa: T201 - the job's log
        if failed:
            self._run.fail("server", f"staging server of {self._config.type}: {reason}")
            self._tell("failed", reason)
        elif self._output.exists():
            # Snakemake removes the file of a service that it has ended; it need not come back.
            self._tell("stopped", reason)
        return 1 if failed else 0


def serve(order: Order, parent: int | None) -> int:
    """Run a staging server until it is told to end; see Service. parent: see Watch."""
    watch = Watch(parent)
    _refuse_if_busy(order.output.absolute())
    for run_id, left in reap_dead_runs().items():
        but = f", but for {', '.join(map(str, left))}: check who owns it, and remove it by hand" if left else ""
        print(f"removed what the dead run {run_id} had left{but}", flush=True)  # noqa: T201 - the job's log
    if order.point is not None:
        for old in (order.point / "failures").glob("*.json"):
            old.unlink()
    return Service(order, watch).run()


def _refuse_if_busy(output: Path) -> None:
    """Raise PointBusy if a living run serves the same file: two runs of one point would mix their results.

    A run of which only the guardian is left is waited for: it is about to be gone.
    """
    for run in all_runs():
        lease = run.lease
        if lease.get("server_file") != str(output):
            continue
        if Process(*lease["owner"]).alive:
            raise PointBusy(
                f"{output.parent} is being run by another process ({lease['owner'][0]}). Wait for it, or end that "
                "snakemake first; two runs of a point at the same time would mix their results."
            )
        if lease["guardian"]:
            wait_ended([Process(*lease["guardian"])], CLEANED_S)
