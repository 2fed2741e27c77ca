"""Files: written so that a reader sees the old content or the new one, never half, and locks with a deadline."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simai_rules.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success it is renamed to `path`, on an error it is removed.

    Raises UserError where the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror or error}. Check the folder's permissions and space."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, content: Any, mode: int = 0o644) -> None:
    """Write `content` as JSON to `path`, atomically, with the permission bits `mode`."""
    with replacing(path) as temporary:
        # In a folder where others may write, the name may be a link of theirs to a file of ours.
        with suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1)
            file.write("\n")


def overwrite_json(path: Path, content: Any) -> None:
    """Write `content` over the JSON in `path`, in one call, if it is there: a file that has gone does not come back.

    Its end is filled with spaces, so that a reader sees JSON whether it comes before or after. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        text = json.dumps(content, indent=1) + "\n"
        os.pwrite(descriptor, text.encode().ljust(os.fstat(descriptor).st_size), 0)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock file `path`; the kernel gives it back however this process ends.

    Raises UserError where another process holds it for longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{path} has been locked by another process for {seconds:g} s. Is one of your runs halted "
                        "(SIGSTOP)? 'fuser -v' with this path names it."
                    ) from None
                time.sleep(0.01)
        yield
