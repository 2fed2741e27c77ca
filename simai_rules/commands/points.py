"""`simai-rules points`: what a sweep will run and ask for, before anything runs."""

import argparse
import json
import sys
from pathlib import Path

from simai_rules.errors import ConfigError

HELP = """List the points of a sweep with their nodes, ranks and the bytes they will move.

Snapshots, bytes and seconds are estimates from the run times in the config ('?' where it gives none). Seconds are a
lower bound: staging, start-up and waiting for cores come on top. 1 MB = 1e6 bytes.

With a profile: the jobs that `snakemake --profile NAME` would submit if nothing had been run yet, with nodes, walltime
and node-hours, and whether the queue takes them (exit code 1 where it does not)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config file, the profile and the form of the output."""
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="the config file (default: config.yaml)")
    parser.add_argument(
        "--profile", metavar="NAME", help="a profile, as snakemake would be given it, or one that is shipped"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with plain bytes and seconds")
    parser.add_argument("--limit", type=_limit, metavar="N", help="list the first N points only; totals are of all")


def run(args: argparse.Namespace) -> int:
    """Print the points, the totals, the jobs where a profile is given, and warnings to stderr."""
    from simai_rules.commands.points_jobs import Submission
    from simai_rules.commands.points_text import as_dict, print_table, summary, totals_of
    from simai_rules.commands.points_warnings import warnings
    from simai_rules.config.estimate import estimate
    from simai_rules.config.import_paths import check_import_paths
    from simai_rules.config.profile import find_profile, load_with_profile
    from simai_rules.launch.placement import check_placements

    file = args.config or _default_config()
    profile = None if args.profile is None else find_profile(args.profile)
    experiment = load_with_profile(file, profile)
    check_placements(experiment.points.values())
    check_import_paths(experiment.points.values(), file.absolute().parent)
    rows = [(point, estimate(point)) for point in experiment.points.values()]
    submission = None if profile is None else Submission(profile, list(experiment.points.values()))
    if args.json:
        listed = [as_dict(*row) for row in rows[: args.limit]]
        answer = {"experiment": experiment.config.name, "points": listed, "totals": totals_of(rows)}
        print(json.dumps(answer | (submission.as_dict() if submission else {}), indent=1))
    else:
        print_table(rows[: args.limit])
        if args.limit is not None and args.limit < len(rows):
            print(f"… and {len(rows) - args.limit} more")
        print(summary(experiment.config.name, rows))
        if submission:
            submission.print()
    for warning in warnings(rows, here=submission is None or submission.here):
        print(f"simai-rules points: warning: {warning}", file=sys.stderr)
    if submission:
        submission.refuse()
    return 0


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("takes a number >= 0")
    return number


def _default_config() -> Path:
    path = Path("config.yaml")
    if not path.exists():
        raise ConfigError(
            "there is no config.yaml here; name the file, for example: simai-rules points "
            "Snakefiles/one_to_one/config.yaml"
        )
    return path
