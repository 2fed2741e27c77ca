"""`simai-rules serve`."""

import argparse
from pathlib import Path

HELP = (
    "Start, prove and watch a staging server; on SIGTERM stop it and remove all of it. server.json is there at once "
    "(state starting) and then says ready, failed (with the reason) or stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--point", type=Path, help="point.json of the point to serve")
    source.add_argument("--config", help='no point, but a backend\'s options as JSON, such as \'{"type": "redis"}\'')
    parser.add_argument(
        "--parent", type=int, help="pid of the process with which this one has to end (default: parent)"
    )
    parser.add_argument("--output", type=Path, required=True, help="the server.json to write")


def run(args: argparse.Namespace) -> int:
    """Serve until told to end."""
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
    from simai_rules.config.points import read_point

    point = read_point(args.point)
    order = Order(
        point.server,
        args.output,
        staging=point.staging,
        hostfile=point.system.hostfile,
        nodes=point.nodes,
        needed=staged_bytes_per_node(point),
        point=args.point.parent,
    )
    return serve(order, args.parent)


def _write_failed(output: Path, reason: str) -> None:
    """Say in server.json that the server did not come to start, unless it says so already."""
    from simai_rules.files import write_json
    from simai_rules.staging.info import ServerInfo

    if not output.exists():
        write_json(output, ServerInfo(backend="", run_id="", state="failed", reason=reason).as_dict(), mode=0o600)
