"""The shared rules (*.smk) that experiments import, and what they need of Python while Snakemake reads them."""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from simai_rules.files import replacing
from simai_rules.resources import shipped

_FOLDER = Path(__file__).resolve().parent


def rules_file(name: str) -> str:
    """Return the path of the shared rules `name`, such as `one_to_one.smk`, for a `module` statement."""
    return str(_FOLDER / name)


_held: list[IO[str]] = []


def lock_results(results: str) -> None:
    """Keep other snakemake processes from running the experiment `results` until this one has ended, however it ends.

    Snakemake's own lock stays after a `kill -9` and is switched off in the profiles (nolock); this one is the kernel's.
    Raises WorkflowError, which Snakemake prints as a message, where another process has it.
    """
    from snakemake.exceptions import WorkflowError

    path = Path(".snakemake/simai-rules", f"{results.replace('/', '_')}.lock")
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise WorkflowError(
            f"{results} is being run by another snakemake (process {file.read() or 'unknown'}). Wait for it, or end it "
            "first: two of them would remove each other's files."
        ) from None
    except OSError as error:
        # A parallel file system may have been mounted without locks.
        from snakemake.logging import logger

        logger.warning(f"{path} cannot be locked ({error.strerror}): make sure that no other snakemake runs {results}.")
        return
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    _held.append(file)


def render_staging_rules(backends: Iterable[str], folder: Path) -> list[str]:
    """Write the lifecycle rule of every backend into `folder` and return the files, absolute, in the given order.

    A file that is right is left alone: nested snakemake processes read them at the same time.
    """
    import jinja2

    from simai_rules.config.paths import backend_pattern

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - not a page
    template = environment.from_string(shipped("templates/staging_server.smk.j2").read_text())
    files = []
    for backend in dict.fromkeys(backends):
        name = f"staging_server_{backend.replace('-', '_')}"
        text = template.render(backend=backend, name=name, pattern=backend_pattern(backend)) + "\n"
        file = (folder / f"{name}.smk").absolute()
        if not file.exists() or file.read_text() != text:
            with replacing(file) as temporary:
                temporary.write_text(text)
        files.append(str(file))
    return files
