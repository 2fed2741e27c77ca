"""`simai-rules summarize`: summary.parquet and summary.csv from the events of all points."""

import argparse
from pathlib import Path

from simai_rules.analysis.expected import add_point_arguments, load_points
from simai_rules.analysis.results import completeness
from simai_rules.analysis.summary import write_summary

HELP = """Make summary.parquet and summary.csv from the events of all points: one row per point, component, operation,
kernel, variant and status, and one row for each point that failed or is missing, with its reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_point_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="where to write it: CSV where a name ends in .csv, else Parquet (default: summary.parquet and summary.csv "
        "in the folder of the results)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the summary and say how complete the results are."""
    found = load_points(arguments.results, arguments.expected, arguments.config)
    outputs = arguments.output or [found.folder / "summary.parquet", found.folder / "summary.csv"]
    write_summary([row for result in found.results for row in result.rows], outputs)
    print(completeness(found.results))
    return 0
