"""The process of one rank: `python -m simai_rules.components.entry simulation --point … --server … --output …`.

It was bound by the wrapper `simai_rules.launch.rank`; it runs the loop of the component, and takes part in writing the
component's events and capsule.
If it fails, it says why in one line, writes that down in the run's folder, and ends all ranks of the component.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from simai_rules.components.ranks import Ranks, end_all_ranks, note_shared_memory
from simai_rules.config.points import read_point
from simai_rules.errors import UserError
from simai_rules.lifecycle.run_folder import RunEnded, RunFolder
from simai_rules.process import die_with_parent
from simai_rules.staging.errors import ServerLost
from simai_rules.staging.info import ServerInfo

# How long a rank that has lost its server waits for the reason that the server gives.
_CAUSE_S = 1.0
LOOPS = {
    "simulation": "simai_rules.components.coupled_simulation",
    "training": "simai_rules.components.coupled_training",
    "inference": "simai_rules.components.coupled_inference",
}
"""Modules with `run(point, info, ranks, recorder)`; imported when they run, for torch is heavy."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one rank of a component and return its exit code; a rank of several that fails does not return."""
    parser = argparse.ArgumentParser(prog="python -m simai_rules.components.entry", description=__doc__)
    parser.add_argument("component", choices=list(LOOPS))
    parser.add_argument("--point", type=Path, required=True, help="point.json")
    parser.add_argument("--server", type=Path, required=True, help="server.json of a server that is ready")
    parser.add_argument("--output", type=Path, required=True, help="the events (Parquet) to write")
    args = parser.parse_args(argv)
    ranks = Ranks()
    run_folder = None
    try:
        info = ServerInfo.read(args.server)
        run_folder = Path(info.folder_here) if info.folder_here else None
        if run_folder is not None:
            RunFolder(run_folder).add_process(os.getpid(), args.component)
        ranks = Ranks.from_environment()
        if run_folder is not None:
            note_shared_memory(run_folder)
            # torch makes this folder when it is imported, in /tmp if it is not told otherwise, and leaves it there.
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(run_folder / "torch"))
        _run(args.component, args.point, info, args.output, ranks)
    except (Exception, KeyboardInterrupt) as error:
        _report(error, args.component, ranks, run_folder)
        end_all_ranks(run_folder)
        return 1
    ranks.finalize()
    return 0


def _run(component: str, point_file: Path, info: ServerInfo, output: Path, ranks: Ranks) -> None:
    from simai_rules.events.capsule import write_capsule
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import write_events

    if info.state != "ready":
        raise UserError(f"The staging server of {info.backend} is not ready but {info.state}: {info.reason}")
    point = read_point(point_file)
    recorder = Recorder(component, ranks.rank, ranks.host, ranks.local_rank)
    import_module(LOOPS[component]).run(point, info, ranks, recorder)
    metadata = {"run_id": info.run_id, "point": point.path}
    server = {"server": info.described}
    write_capsule(recorder, ranks.comm, output.with_suffix(".capsule.json"), metadata | server)
    write_events(recorder, ranks.comm, output, metadata)


def _report(error: BaseException, component: str, ranks: Ranks, run_folder: Path | None) -> None:
    """Say in one line what has failed, after a traceback if that is no message, and note it in the run's folder."""
    if isinstance(error, UserError):
        reason = str(error)
    else:
        traceback.print_exception(error, file=sys.stderr)
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
    reason = f"rank {ranks.rank} on {ranks.host}: {reason}"
    lost = isinstance(error, ServerLost)
    # Noted first: where the disk of the log is full, the launcher ends with its first output, and this rank with it.
    if run_folder is not None and not lost:
        _note(RunFolder(run_folder), component, reason)
    line = " ".join(f"simai-rules: {component} {reason}".split())
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    if run_folder is not None and lost:
        run = RunFolder(run_folder)
        cause = _wait_for_cause(run)
        _note(run, component, f"{reason} The cause: {cause}" if cause else reason)


def _note(run: RunFolder, component: str, reason: str) -> None:
    with suppress(RunEnded):
        run.fail(component, reason)


def _wait_for_cause(run: RunFolder) -> str:
    """Return the server's own reason, or "": a broken connection is seen before the death behind it is noted."""
    deadline = time.monotonic() + _CAUSE_S
    while True:
        reasons = [failure.reason for failure in run.failures() if failure.component == "server"]
        if reasons or time.monotonic() > deadline:
            return reasons[0] if reasons else ""
        time.sleep(0.02)


if __name__ == "__main__":
    # The launcher's helper on this node has started this rank; without it, nobody could end it. Whether PALS starts it
    # from a thread that lives as long is not known; it ends what it has started itself.
    if os.environ.get("SIMAI_LAUNCHER") != "pals":
        die_with_parent()
    sys.exit(main())
