"""`simai-rules clean`: remove what dead runs have left on this node."""

import argparse
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simai_rules.lifecycle.run_folder import RunFolder

HELP = """Remove what dead runs of yours have left on this node: processes, staged data, shared memory, notes. A run is
dead when its server and the process that cleans up after it have ended. Running ones are listed and left alone.
Only what a run had written down as its own is removed. 'simai-rules serve' does the same before it starts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument("--dry-run", action="store_true", help="list what would be removed, and remove nothing")


def run(args: argparse.Namespace) -> int:
    """Print a line for each run; return 1 if something could not be removed."""
    from simai_rules.lifecycle.reaper import is_dead, reaping
    from simai_rules.lifecycle.run_folder import all_runs

    dead = failed = 0
    with reaping():
        for found in all_runs():
            if is_dead(found):
                dead += 1
                failed += not _clean(found, args.dry_run)
            else:
                print(f"{_name(found)}: {_why_left(found)}: left alone")
    if not dead:
        print("nothing to clean")
    return int(failed > 0)


def _clean(run: "RunFolder", dry_run: bool) -> bool:
    """Remove a dead run and say so; return whether all of it is gone."""
    from simai_rules.lifecycle.reaper import reap
    from simai_rules.lifecycle.remains import remains_of

    name, why, others, remains = _name(run), _why_dead(run), _clean_others(run), remains_of(run)
    left = [] if dry_run else reap(run)
    done = "would remove" if dry_run else "removed what it could of" if left else "removed"
    print(f"{name}: dead ({why}): {done} {remains}")
    if left:
        print(f"  could not be removed: {', '.join(map(str, left))}. Check who owns it, and remove it by hand.")
    if others:
        print(f"  it used other nodes too. The next run on them cleans them, or this does: {others}")
    return not left


def _name(run: "RunFolder") -> str:
    served = run.lease.get("server_file")
    node = f" (its node {run.index + 1})" if run.index else ""
    return f"run {run.run_id}{node}" + (f", which served {served}" if served else "")


def _why_dead(run: "RunFolder") -> str:
    lease = run.lease
    if not lease:
        return "its lease cannot be read, and no process of it is alive"
    owner = "keeper" if run.index else "server"
    return f"{owner} {_pid(lease.get('owner'))} and guardian {_pid(lease.get('guardian'))} have ended"


def _why_left(run: "RunFolder") -> str:
    if run.elsewhere:
        return f"made {run.elsewhere}, where 'simai-rules clean' has to look after it ({run.folder})"
    lease = run.lease
    if run.in_use():
        return f"running (server {_pid(lease.get('owner'))})" if lease else "running, but its lease cannot be read"
    return "about to start"


def _pid(noted: object) -> str:
    return f"process {noted[0]}" if isinstance(noted, list) and noted else "of unknown number"


def _clean_others(run: "RunFolder") -> str:
    """Return the command that cleans the nodes that the run used beside this one, or "" where there are none.

    It has to be run where the launcher reaches them: in the allocation that they are of.
    """
    noted = run.lease.get("clean_others")
    words = noted if isinstance(noted, list) else []
    return shlex.join(word for word in words if isinstance(word, str))
