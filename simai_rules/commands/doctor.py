"""`simai-rules doctor`: what this machine offers, and how to get what is missing."""

import argparse
import textwrap

HELP = """Say what this machine offers to an experiment (devices, MPI and whether mpi4py belongs to it, parallel HDF5,
staging servers, batch systems, room), and for what is missing the command that gets it.

Exit code: 1 where a run would fail: what every run needs (mpiexec with its mpi4py, torch, /dev/shm) is missing, or
something that is here does not work; else 0."""

_MARKS = {"ok": "ok", "missing": "-", "wrong": "WRONG"}
_WIDTH = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - as above
    """Look at one thing after another and say what was seen."""
    from simai_rules.doctor import devices, programs

    failing = False
    for look in (devices.look, programs.look):
        for finding in look():
            failing |= finding.state == "wrong"
            lead = f"{_MARKS[finding.state]:<6} {finding.thing:<14} "
            print(
                textwrap.fill(
                    finding.seen,
                    _WIDTH,
                    initial_indent=lead,
                    subsequent_indent=" " * len(lead),
                    break_on_hyphens=False,
                    break_long_words=False,
                ),
                flush=True,
            )
            if finding.remedy:
                print(f"{'':<{len(lead)}}-> {finding.remedy}", flush=True)
    return int(failing)
