"""`simai-rules serve`: one staging server from start to end.

It reaps dead runs, opens a run, takes nodes out of the allocation, starts the backend's server, proves it with a put
and a get, watches it, and on SIGTERM (or when its parent has ended) has everything removed by the guardian. On several
nodes it runs on the first, and starts a keeper on each of the others.
"""

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from simai_rules.config.experiment import Point, StagingConfig
from simai_rules.config.registry import BackendConfig
from simai_rules.config.system import SystemConfig
from simai_rules.errors import UserError
from simai_rules.files import overwrite_json, write_json
from simai_rules.launch.allocation import Allocation, Ledger, allocation_of
from simai_rules.launch.here import this_node
from simai_rules.launch.placement import Placement, place
from simai_rules.lifecycle.guardian import Guardian
from simai_rules.lifecycle.keepers import Keepers
from simai_rules.lifecycle.proof import prove, provers, remove_proof
from simai_rules.lifecycle.reaper import explain_unfinished, reap_dead_runs
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.lifecycle.starting import refuse_if_busy
from simai_rules.lifecycle.watch import Ending, Watch
from simai_rules.process import Process, bind_to
from simai_rules.staging.info import ServerInfo, State
from simai_rules.staging.server import OnNodes, Server
from simai_rules.staging.servers import make_server

# How long a point waits for another run to give its nodes back.
NODES_DEADLINE_S = 3600.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Order:
    """What one `simai-rules serve` has to do."""

    config: BackendConfig
    output: Path
    """The server.json to write."""
    staging: StagingConfig = field(default_factory=StagingConfig)
    nodes: int = 0
    """How many it takes out of the allocation, this one first; 0: it runs on this one, which stays free for others."""
    needed: int = 0
    """Bytes that may be staged at the same time."""
    point: Path | None = None
    """The folder of the point, which gets a copy of the failures."""
    resolved: Point | None = None
    """The point itself, which says where its server is placed."""

    @property
    def system(self) -> SystemConfig:
        """The system that the nodes are of."""
        return self.resolved.system if self.resolved else SystemConfig()


class Service:
    """The server of one run, as its server.json tells it."""

    def __init__(self, order: Order, watch: Watch) -> None:
        self._order, self._watch = order, watch
        self._config, self._output = order.config, order.output.absolute()
        allocation = allocation_of(order.system) if order.nodes else Allocation("local", (platform.node(),))
        self._run = RunFolder.create(self._output, order.point)
        self._run.proceed = self._proceed
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
        self._keepers: Keepers | None = None

    def run(self) -> int:
        """Serve until told to end; return the exit code: 0 after an orderly end, 1 if the server failed."""
        try:
            self._tell("starting")
            self._start()
            self._tell("ready")
            print(f"ready: {self._config.type}, run {self._run.run_id}", flush=True)  # noqa: T201 - the job's log
            while True:
                time.sleep(_LOOK_EVERY_S)
                self._proceed()
                # Snakemake looks at its jobs once a second and then kills them all; who died first is seen here. A look
                # at the server may take long.
                explain_unfinished(self._run)
                if self._server is not None:
                    self._server.check()
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
            if self._keepers is not None:
                self._keepers.stop()
            self._guardian.dismiss()
            self._ledger.give_back()

    def _proceed(self) -> None:
        """Raise Ending where this process has to end, ServerFailed where another node has failed."""
        self._watch.check()
        if self._keepers is not None:
            self._keepers.check()

    def _start(self) -> None:
        """Take the nodes, start the server on them and prove it."""

        def tell(text: str) -> None:
            print(text, flush=True)  # noqa: T201 - the job's log
            self._tell("starting", text)

        if self._order.nodes:
            here = this_node(self._ledger.allocation.nodes)
            hosts = self._ledger.take(self._order.nodes, NODES_DEADLINE_S, tell, self._watch.check, first=here)
        else:
            hosts = list(self._ledger.allocation.nodes[:1])
        self._run.name_hosts(hosts)
        os.environ["SIMAI_NODE"] = hosts[0]  # which node this is, for clients in this process
        placements = place(self._order.resolved, hosts) if self._order.resolved else {}
        placement = placements.get("server")
        if placement and hosts[0] in placement.hosts:
            bind_to(_own_cores(placement))
        if placement:
            self._run.serving = [hosts.index(host) for host in placement.hosts]
        server = make_server(self._config, self._run, hosts, self._order.needed)
        if len(hosts) == 1:
            self._server = server
            self._info = ServerInfo.from_dict(self._info.as_dict() | {"hosts": hosts, "address": server.start()})
            self._prove([0])
        else:
            components = [one for name, one in placements.items() if name != "server"]
            clients = sorted({hosts.index(host) for one in components for host in one.hosts})
            self._start_on_nodes(server, hosts, placement, clients)

    def _prove(self, clients: list[int]) -> None:
        """Prove the server from this node, and wait until those of `clients` that are others have."""
        timeout = self._order.staging.start_timeout
        deadline = time.monotonic() + timeout
        sources = provers(self._config.sharing, 0, clients)
        if sources:
            prove(self._info, 0, sources, timeout, self._proceed)
        if self._keepers is not None:
            self._keepers.wait_until_proved(self._info, deadline)
        if sources:
            remove_proof(self._info, sources, timeout)

    def _start_on_nodes(
        self, server: Server, hosts: list[str], placement: Placement | None, clients: list[int]
    ) -> None:
        """Start the server where it is placed, or in parts on all nodes, and prove it from those in `clients`."""
        order, timeout = self._order, self._order.staging.start_timeout
        part = server.order() if isinstance(server, OnNodes) else None
        has_process = part is None and self._config.busy_cores(1) > 0
        where = hosts.index(placement.hosts[0]) if placement and has_process else 0
        keepers = Keepers(self._run, self._output, hosts, order.system, self._watch.check)
        self._run.name_hosts(hosts, keepers.reports.folder, keepers.clean_command)
        self._keepers = keepers
        begun = time.monotonic()
        keepers.start(
            {
                "run_id": self._run.run_id,
                "server_file": str(self._output),
                "config": self._config.model_dump_json(),
                "hosts": hosts,
                "needed": order.needed,
                "part": part,
                "server": where,
                "serving": self._run.serving,
                "clients": clients,
                "bind": {host: _own_cores(placement) for host in (placement.hosts if placement else ())},
                "timeout": timeout,
            }
        )
        address = {}
        if where == 0:
            self._server = server
            address = server.start()
        parts = keepers.wait_until_up(begun + timeout)
        if isinstance(server, OnNodes) and part is not None:
            address = server.join([address, *(one.address for one in parts)])
        elif where:
            address = parts[where - 1].address
        folders = [str(self._run.folder), *(one.run_folder for one in parts)]
        self._info = ServerInfo.from_dict(
            self._info.as_dict()
            | {"hosts": hosts, "address": address, "run_folders": folders, "shared_folder": str(keepers.reports.folder)}
        )
        keepers.tell(self._info)
        self._prove(clients)

    def _tell(self, state: State, reason: str = "") -> None:
        """Replace server.json; the address and its password are there as long as the server is."""
        address = self._info.address if state in ("starting", "ready") else {}
        self._info = ServerInfo.from_dict(self._info.as_dict() | {"state": state, "reason": reason, "address": address})
        if state == "stopped":
            # Snakemake removes the file of a service that it ends, at this moment or before. If it came back, the next
            # run would find a file that is newer than the point's results, and run the point again.
            with suppress(OSError):
                overwrite_json(self._output, self._info.as_dict())
        else:
            write_json(self._output, self._info.as_dict(), mode=0o600)

    def _end(self, reason: str, *, failed: bool) -> int:
        """Say how it ended: in the log, in server.json and, for a failure, in the run's failures."""
        with suppress(OSError):  # the disk of the log may be full, which may be the reason
            print(f"{'failed' if failed else 'stopped'}: {reason}", flush=True)  # noqa: T201 - the job's log
        if failed:
            self._run.fail("server", f"staging server of {self._config.type}: {reason}")
            self._tell("failed", reason)
        else:
            self._tell("stopped", reason)
        return 1 if failed else 0


def _own_cores(placement: Placement | None) -> tuple[int, ...]:
    """Return the cores that the server has to itself; () where it has none."""
    if placement is None or placement.shared or not placement.cores:
        return ()
    return placement.cores[0]


def serve(order: Order, parent: int | None) -> int:
    """Run a staging server until it is told to end; see Service. parent: see Watch."""
    watch = Watch(parent)
    refuse_if_busy(order.output.absolute())
    for run_id, left in reap_dead_runs().items():
        but = f", but for {', '.join(map(str, left))}: check who owns it, and remove it by hand" if left else ""
        print(f"removed what the dead run {run_id} had left{but}", flush=True)  # noqa: T201 - the job's log
    if order.point is not None:
        for old in (order.point / "failures").glob("*.json"):
            old.unlink()
    return Service(order, watch).run()
