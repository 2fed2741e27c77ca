"""`simai-rules configure`: the rule's command that writes point.json."""

import argparse
import json
from pathlib import Path

HELP = "Check the resolved config of one point and write it to a file. Called by the rule 'configure'."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the point and the file."""
    parser.add_argument("--config", required=True, metavar="JSON", help="the point, as JSON")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the point.json to write")


def run(args: argparse.Namespace) -> int:
    """Check the point, and here what its components need, and write it."""
    from simai_rules.components.here import check_here
    from simai_rules.config.points import parse_point, point_json
    from simai_rules.files import write_json

    point = parse_point(args.config, "--config")
    check_here(point)
    write_json(args.output, json.loads(point_json(point)))
    return 0
