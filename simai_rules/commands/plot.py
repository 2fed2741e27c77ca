"""`simai-rules plot`: the figures as SVG and PNG."""

import argparse
from pathlib import Path

from simai_rules.analysis.expected import add_point_arguments, load_points
from simai_rules.analysis.figures.draw import draw_all, save_all
from simai_rules.analysis.results import completeness

HELP = """Draw the figures from the events of all points, as SVG and PNG: throughput over message size, time per step,
what the kernels achieved, and the timeline of one point."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_point_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder (default: figures, beside the points)")


def run(arguments: argparse.Namespace) -> int:
    """Draw the figures and name the files."""
    found = load_points(arguments.results, arguments.expected, arguments.config)
    folder = arguments.output or found.folder / "figures"
    written = save_all(draw_all(found.results), folder)
    print(completeness(found.results))
    print("\n".join(map(str, written)) or "No point has measured transfers yet: there is nothing to draw.")
    return 0
