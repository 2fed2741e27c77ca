"""The command `simai-rules`: finds the subcommand, imports only its module, and prints errors as messages."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from simai_rules import __version__
from simai_rules.errors import UserError

COMMANDS = {
    "init": "make a folder with an experiment of your own: Snakefile, config and profiles",
    "points": "list the points of a sweep with nodes, ranks and bytes moved, before anything runs",
    "profile": "install, list or show the Snakemake profile of a machine: aurora, slurm, allocation, …",
    "placement": "draw where the ranks of a point run: node, cores and GPU",
    "schema": "print the JSON schema of config.yaml, for editors",
    "fit": "make a component that takes as long as a real run did, from its log",
    "doctor": "say what this machine offers, and how to get what is missing",
    "backend": "list the staging backends, test one against the contract, or begin one of your own",
    "clean": "remove what dead runs of yours have left on this node",
    "report": "summarize, plot and report whatever results a folder holds",
    "configure": "(rule) write the resolved config of one point",
    "serve": "(rule) start, prove and watch a staging server, and remove all of it at the end",
    "run": "(rule) run a component on the ranks of its placement",
    "summarize": "(rule) make summary.parquet and summary.csv from the events of all points",
    "plot": "(rule) draw the figures",
}


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="simai-rules",
        description="Measure which data transport should couple a simulation and an AI model, and at what cost.",
        epilog=f"commands:\n{listing}\n\n'simai-rules COMMAND --help' explains one. Commands marked (rule) are called "
        "by the Snakemake rules.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"simai-rules {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="one of the commands below")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a user's error (printed as a message), 130 Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = _overview().parse_args(arguments[:1] or ["--help"]).command
    module = import_module(f"simai_rules.commands.{name}")
    parser = argparse.ArgumentParser(
        prog=f"simai-rules {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(arguments[1:])))
    except UserError as error:
        print(f"simai-rules {name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough. Python must not try to flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"simai-rules {name}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
