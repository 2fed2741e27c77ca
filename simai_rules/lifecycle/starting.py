"""What a new run on a node waits for, or is refused because of: earlier runs that have not ended there yet."""

from pathlib import Path

from simai_rules.errors import UserError
from simai_rules.lifecycle.run_folder import RunFolder, all_runs
from simai_rules.process import Process, wait_ended

CLEANED_S = 30.0


class PointBusy(UserError):
    """Another run is at work on the same server.json."""


def refuse_if_busy(output: Path) -> None:
    """Raise PointBusy if a living run serves the same file: two runs of one point would mix their results.

    A run of which only the guardian is left is waited for, and so is one of its other nodes: it is about to be gone.
    """
    for run in all_runs():
        lease = run.lease
        if lease.get("server_file") != str(output):
            continue
        if not run.index and Process(*lease["owner"]).alive:
            raise PointBusy(
                f"{output.parent} is being run by another process ({lease['owner'][0]}). Wait for it, or end that "
                "snakemake first; two runs of a point at the same time would mix their results."
            )
    wait_for_ending_runs(output, "")


def wait_for_ending_runs(server_file: Path, run_id: str) -> None:
    """Wait for the runs of this node, but for `run_id`, that are being removed, and for those of the same file."""
    for run in all_runs():
        if run.run_id != run_id:
            wait_ended(_ending(run, server_file), CLEANED_S)


def _ending(run: RunFolder, server_file: Path) -> list[Process]:
    """Return who is removing the run, or has to find out that it has to."""
    lease = run.lease
    owner, guardian = (Process(*noted) for noted in (lease.get("owner") or (0, 0), lease.get("guardian") or (0, 0)))
    if run.elsewhere or (owner.alive and lease.get("server_file") != str(server_file)):
        return []
    return [owner, guardian]
