"""The guardian of a run: a process that outlives its owner by the seconds that it takes to remove what the run made.

Snakemake ends a service by SIGKILL when one of its consumers fails, so no signal handler of the owner can be relied on.
The guardian holds the read end of a pipe whose write end only the owner has: it reads "done" after an orderly end, and
nothing but the end of the file if the owner was killed.

    python -m simai_rules.lifecycle.guardian RUN_FOLDER
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from simai_rules.lifecycle.reaper import clean
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.process import Process

_DEADLINE_S = 30.0


class Guardian:
    """The owner's side: starts the guardian, and tells it to clean up after an orderly end."""

    def __init__(self, run: RunFolder, output: int | None = None) -> None:
        """Output: as for Popen; a launcher waits for all who hold the output of a process that it has started."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simai_rules.lifecycle.guardian", str(run.folder)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.process = Process.of(self._process.pid) or Process(self._process.pid, 0)
        run.name_guardian(self.process)
        self._run = run

    def dismiss(self) -> None:
        """Have everything removed and wait for it; where the guardian itself was killed, do it here."""
        try:
            self._process.communicate(b"done", timeout=_DEADLINE_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
        if self._run.folder.exists():
            clean(self._run, "")


def main() -> None:
    """Wait for the owner's end and clean up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    word = sys.stdin.buffer.read()
    clean(RunFolder(Path(sys.argv[1])), "" if word == b"done" else "its process was killed")


if __name__ == "__main__":
    main()
