"""`simai-rules serve`."""

import argparse
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from simai_rules.errors import UserError

if TYPE_CHECKING:
    from simai_rules.config.experiment import Point

HELP = (
    "Start, prove and watch a staging server; on SIGTERM stop it and remove all of it. server.json is there at once "
    "(state starting) and then says ready, failed (with the reason) or stopped."
)


class NotStarted(UserError):
    """Too little walltime is left for the point."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--point", type=Path, help="point.json of the point to serve")
    source.add_argument("--config", help='no point, but a backend\'s options as JSON, such as \'{"type": "redis"}\'')
    parser.add_argument(
        "--parent", type=int, help="pid of the process with which this one has to end (default: parent)"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="walltime that was asked for the point, for one without an estimate"
    )
    parser.add_argument("--output", type=Path, required=True, help="the server.json to write")


def run(args: argparse.Namespace) -> int:
    """Serve until told to end."""
    _begin(args.output)
    try:
        return _serve(args)
    except Exception as error:
        # Without a server.json the components would not start, and Snakemake would wait for it (latency-wait).
        _write_failed(args.output, str(error) or type(error).__name__)
        raise


def _serve(args: argparse.Namespace) -> int:
    from simai_rules.lifecycle.serve import Order, serve

    if args.point is None:
        from simai_rules.staging.servers import parse_config

        return serve(Order(parse_config(args.config), args.output), args.parent)
    from simai_rules.config.estimate import staged_bytes_per_node
    from simai_rules.config.points import NOT_STARTED, read_point

    point = read_point(args.point)
    _refuse_without_time(point, args.minutes, args.point.parent / NOT_STARTED)
    # What all nodes share holds the snapshots of all of them.
    nodes = len(point.selection()["simulation"]) if point.server.sharing == "job" else 1
    order = Order(
        point.server,
        args.output,
        staging=point.staging,
        nodes=point.nodes,
        needed=nodes * staged_bytes_per_node(point),
        point=args.point.parent,
        resolved=point,
    )
    return serve(order, args.parent)


def _refuse_without_time(point: "Point", minutes: float | None, note: Path) -> None:
    """Raise NotStarted, and write it down in `note`, where less walltime is left than the point needs."""
    from simai_rules.config.estimate import seconds_needed
    from simai_rules.files import write_json
    from simai_rules.launch.walltime import seconds_left

    note.unlink(missing_ok=True)
    needed = seconds_needed(point, minutes)
    left = seconds_left() if needed is not None else None
    if needed is None or left is None or left >= needed:
        return
    reason = (
        f"not started: {max(left, 0) / 60:.1f} min of the job's walltime are left, and the point needs "
        f"{needed / 60:.1f} min. The next snakemake runs it"
    )
    write_json(note, {"reason": reason, "time": time.time()})
    raise NotStarted(reason)


def _begin(output: Path) -> None:
    """Write server.json before anything slow is imported: Snakemake waits for it for its latency-wait alone."""
    from simai_rules.files import write_json
    from simai_rules.staging.info import ServerInfo

    if not output.exists():
        with suppress(UserError):  # told by who cannot go on without it
            write_json(output, ServerInfo(backend="", run_id="", pid=os.getpid()).as_dict(), mode=0o600)


def _write_failed(output: Path, reason: str) -> None:
    """Say in server.json that the server did not come to start, unless a run says there how it ended."""
    from simai_rules.files import write_json
    from simai_rules.staging.info import ServerInfo

    try:
        told = json.loads(output.read_text())["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        told = ""
    if not told:
        write_json(output, ServerInfo(backend="", run_id="", state="failed", reason=reason).as_dict(), mode=0o600)
