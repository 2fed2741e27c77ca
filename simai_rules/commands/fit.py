"""`simai-rules fit`: a component that imitates a real run, from its log."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from simai_rules.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from simai_rules.fit.log import Log

HELP = """Make the config of a component that takes as long as a real run did, from its log: a CSV file of iteration
times, a nekRS-style log with the time of each step, or the text that darshan-parser prints.

  simai-rules fit nekrs.log
writes fit/component.yaml, whose keys go into your config.yaml, runs the mini-app that it describes for about a minute
and says how far the distribution of its iteration times is from that of the log, and draws both into a figure."""

_CHECK_S = 60.0
_WHOLE_CORE = 0.98
_FEW = 30
_LEAST = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the log and how it is read, fitted and checked."""
    parser.add_argument("log", type=Path, metavar="LOG", help="the log of a real run")
    parser.add_argument(
        "--component", choices=["simulation", "training"], default="simulation", help="what imitates it"
    )
    parser.add_argument("--column", metavar="NAME", help="the column of a CSV file that holds iteration times")
    parser.add_argument(
        "--skip", type=int, default=0, metavar="N", help="leading iterations that are start-up (default: 0)"
    )
    parser.add_argument("--output", type=Path, default=Path("fit"), metavar="FOLDER", help="default: fit")
    parser.add_argument("--no-check", dest="check", action="store_false", help="do not run the mini-app")
    parser.add_argument("--steps", type=int, metavar="N", help="iterations of the mini-app (default: about a minute)")
    parser.add_argument("--seed", type=int, default=0, help="of what the mini-app draws (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Fit, write, run, draw."""
    if args.skip < 0 or (args.steps is not None and args.steps < 1) or args.seed < 0:
        raise UserError("--skip and --seed have to be 0 or more, --steps 1 or more.")
    import numpy as np

    from simai_rules.analysis.figures.style import save
    from simai_rules.fit.component import write_component
    from simai_rules.fit.distribution import fit
    from simai_rules.fit.figure import draw
    from simai_rules.fit.log import read_log

    log = read_log(args.log, column=args.column, skip=args.skip)
    fits = fit(log.seconds, log.resolution)
    low, middle, high = np.percentile(log.seconds, [2.5, 50, 97.5])
    print(
        f"{args.log}: {log.kind}{f', {log.column}' if log.column else ''}, {len(log.seconds)} iterations, "
        f"median {middle:.4g} s, "
        f"95 % between {low:.4g} s and {high:.4g} s"
    )
    if len(log.seconds) < _FEW:
        print(f"These are few: with fewer than {_FEW} iterations the shape of their distribution is hardly known.")
    if args.skip and log.kind == "Darshan log":
        print("--skip is for other logs: what comes before the first output of a Darshan log is left out anyway.")
    if log.written:
        print(f"Each of them ends with {log.written / 1e6:.4g} MB of output per rank.")
    for number, each in enumerate(fits):
        mark = "  <- chosen" if number == 0 else ""
        print(f"  {each.kind:<10} KS distance {each.distance:.3f} from unseen times; {each.describe()}{mark}")
    written = write_component(args.output, log, fits[0], args.component)
    times = _check(log, written[0], args.steps, args.seed) if args.check else None
    written += save(draw(log, fits, times), args.output)
    print("Written: " + ", ".join(map(str, written)))
    return 0


def _check(log: Log, config: Path, steps: int | None, seed: int) -> NDArray[np.float64] | None:
    """Run the mini-app and say how far its times are from the log's; return them, or None where it takes too long."""
    import numpy as np

    from simai_rules.fit.distribution import chance_distance, two_sample_distance
    from simai_rules.fit.miniapp import run_miniapp

    mean = float(log.iterations.mean())
    within = min(len(log.iterations), int((_CHECK_S - log.start) / mean))
    if steps is None and within < _LEAST:
        print(
            "The mini-app is not run: this would take longer than a minute. To compare it all the same, say how many "
            f"iterations: --steps 10 takes about {log.start + 10 * mean:.3g} s."
        )
        return None
    steps = steps or within
    seconds = log.start + steps * mean
    print(f"The mini-app runs for about {seconds:.3g} s (--no-check leaves that out).", flush=True)
    ran = run_miniapp(config, steps, seed, seconds)
    times = log.as_written(np.asarray(ran.seconds))
    distance = two_sample_distance(log.as_written(log.iterations), times)
    chance = chance_distance(len(log.iterations), steps)
    verdict = "no more than" if distance <= chance else "more than"
    print(
        f"The mini-app: {steps} iterations, median {np.median(times):.4g} s; two-sample KS distance from the log "
        f"{distance:.3f}, {verdict} chance makes of equal distributions in 95 % of all cases ({chance:.3f})"
    )
    if ran.share < _WHOLE_CORE and not log.written:
        print(
            f"It had a core for only {ran.share:.0%} of its time, because others use this machine, so the distance "
            "is theirs as well. Check again where it is idle."
        )
    return times
