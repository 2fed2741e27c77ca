"""`simai-rules report DIR`: summary, figures and report of whatever results a folder holds."""

import argparse
from pathlib import Path

from simai_rules.analysis.expected import add_point_arguments, load_points
from simai_rules.analysis.figures.draw import draw_all, save_all
from simai_rules.analysis.report import write_report
from simai_rules.analysis.results import completeness
from simai_rules.analysis.summary import write_summary

HELP = """Summarize, plot and report whatever results a folder holds, at any time, also while the experiment runs.
Writes summary.parquet, summary.csv, figures/ and report.html, one file that opens from disk, into that folder."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_point_arguments(parser, positional=True)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write only the page, to this file; no summary, no figures"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write everything, or only the page, and say where it is."""
    found = load_points(arguments.results, arguments.expected, arguments.config)
    drawings = draw_all(found.results)
    if arguments.output is None:
        outputs = [found.folder / "summary.parquet", found.folder / "summary.csv"]
        write_summary([row for result in found.results for row in result.rows], outputs)
        save_all(drawings, found.folder / "figures")
    page = arguments.output or found.folder / "report.html"
    write_report(found.results, page, config_text=found.config_text, others=found.others, drawings=drawings)
    print(completeness(found.results))
    for result in found.results:
        if result.state == "failed":
            print(f"  failed: {result.path}: {result.reason}")
    print(page)
    return 0
