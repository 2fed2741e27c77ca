"""`simai-rules run simulation|training`."""

import argparse
from pathlib import Path

HELP = (
    "Run a component of a point: wait for its staging server, start the ranks by the system's launcher, and watch the "
    "server and the other components. Leaves one Parquet file of events, and a capsule beside it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("component", choices=["simulation", "training", "inference"])
    parser.add_argument("--point", type=Path, required=True, help="point.json: the resolved config of the point")
    parser.add_argument("--server", type=Path, required=True, help="server.json of the staging server")
    parser.add_argument(
        "--parent", type=int, help="pid of the process with which this one has to end (default: parent)"
    )
    parser.add_argument("--output", type=Path, required=True, help="the events (Parquet) to write")


def run(args: argparse.Namespace) -> int:
    """Run the component to its end."""
    from simai_rules.config.points import read_point
    from simai_rules.lifecycle.component import run_component

    return run_component(args.component, args.point, read_point(args.point), args.server, args.output, args.parent)
