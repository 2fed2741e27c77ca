"""What was found out about one thing that an experiment may need."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

State = Literal["ok", "missing", "wrong"]
"""missing: not there, which matters only to who needs it. wrong: a run would fail because of it."""
_PATIENCE_S = 60.0
_END_S = 5.0
"""What a killed program gets to be gone; one that hangs in the kernel is left to it."""


@dataclass(frozen=True)
class Finding:
    """A thing, its state, what was seen, and the command that gets or mends it ("" where none is needed)."""

    thing: str
    state: State
    seen: str
    remedy: str = ""


def answer(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command for a minute at most; return its exit code (127: it cannot be run) and what it said, stripped."""
    try:
        process = subprocess.Popen(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return 127, error.strerror or str(error)
    try:
        output, errors = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {_PATIENCE_S:.0f} s"
    finally:
        with suppress(OSError):  # whatever it has started, and an mpiexec starts ranks
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    said = output.strip() or errors.strip()
    if process.returncode < 0:  # what a crash leaves on its way says less than the signal
        said = f"{said}\nended by {signal.Signals(-process.returncode).name}".strip()
    return process.returncode, said


def first_line(text: str) -> str:
    """Return the first line of `text` that is not blank, or ""."""
    return next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")


def last_line(text: str) -> str:
    """Return the last line of `text`, where Python says what went wrong."""
    return " ".join(text.splitlines()[-1].split()) if text else "no reason given"


def pip(arguments: str) -> str:
    """Return the command `pip …` for the environment of this Python, which need not be the one on the PATH."""
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip {arguments} --python {sys.executable}"
    found = shutil.which("pip")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return f"pip {arguments}" if same else f"{sys.executable} -m pip {arguments}"
