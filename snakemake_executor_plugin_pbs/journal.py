"""What was submitted, written down before it is: where a driver was killed, the next one finds its jobs.

One folder for each submission: script.sh, log.txt (what the job printed), output.txt (what the batch system printed),
exit (the exit code that the script wrote), signalled (the same, on a signal and before the script had ended), claim/
(made by the script when it starts, with its id) and record.json.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FORMAT = 1
CLAIM_PATIENCE_S = 5.0


@dataclass(frozen=True)
class ExitCode:
    """What a job script left: its exit code, when (seconds since 1970), and the signal that it had got, or ""."""

    code: int
    at: float
    signal: str = ""


@dataclass(frozen=True)
class Record:
    """One submission. ``targets`` are Snakemake's target specifications ("rule:wildcard=value")."""

    folder: Path
    name: str
    snakefile: str
    targets: tuple[str, ...]
    submitted: float
    walltime_s: int | None = None
    driver: str = ""  # host, process id and its start, of the Snakemake that submitted it
    job_id: str = ""  # "" until the batch system has given one
    ended: str = ""  # "" while it may be running, else how it ended
    cancelled: bool = False

    @property
    def script(self) -> Path:
        """The job script."""
        return self.folder / "script.sh"

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.folder / "log.txt"

    @property
    def output(self) -> Path:
        """What the batch system itself printed about it."""
        return self.folder / "output.txt"

    @property
    def owner(self) -> str:
        """The id of the job that has started the script, as the script wrote it down; "" before."""
        try:
            return (self.folder / "claim" / "id").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def exit_code(self, *, signalled: bool = False) -> ExitCode | None:
        """The exit code that the script left; with ``signalled`` also the one left on a signal, before its end."""
        for name in ("exit", "signalled") if signalled else ("exit",):
            try:
                words = (self.folder / name).read_text(encoding="utf-8").split()
                return ExitCode(int(words[0]), float(words[1]), words[2] if len(words) > 2 else "")
            except (OSError, ValueError, IndexError):
                continue
        return None

    def write(self) -> "Record":
        """Write record.json, whole or not at all, and return the record."""
        data = asdict(self) | {"format": FORMAT}
        del data["folder"]
        draft = self.folder / f"record.json.{os.getpid()}"
        draft.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.folder / "record.json")
        return self

    def submitted_as(self, job_id: str) -> "Record":
        """Write the id down."""
        return replace(self, job_id=job_id).write()

    def close(self, how: str, *, remove: bool = False) -> None:
        """The job is over: no later call looks at it again. ``remove``: nobody will want its files."""
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.folder.is_dir():
            with contextlib.suppress(OSError):  # a full disk: the next call asks the batch system about it again
                replace(self, ended=how).write()

    def give_up(self) -> bool:
        """Take the right to start from the job script; False where it has started already."""
        try:
            (self.folder / "claim").mkdir()
        except FileExistsError:
            return False
        return True

    def claimed_id(self) -> str:
        """The id that the started script wrote down; "" where it does not within some seconds."""
        deadline = time.monotonic() + CLAIM_PATIENCE_S
        while not self.owner and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.owner

    @property
    def driver_alive(self) -> bool:
        """Whether the Snakemake that submitted this still runs; False for one on another host, which is not seen."""
        return (
            self.driver.startswith(f"{socket.gethostname()} ") and _process(int(self.driver.split()[1])) == self.driver
        )


class Journal:
    """All submissions of one working folder."""

    def __init__(self, folder: Path, snakefile: str) -> None:
        self.folder = folder
        self._snakefile = snakefile

    def new(self, name: str, targets: Sequence[str], walltime_s: int | None) -> Record:
        """The folder and the record of a submission that is about to be made."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        folder = self.folder / f"{stamp}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:40]}-{secrets.token_hex(3)}"
        folder.mkdir(parents=True, mode=0o700)
        return Record(
            folder=folder,
            name=name,
            snakefile=self._snakefile,
            targets=tuple(targets),
            submitted=time.time(),
            walltime_s=walltime_s,
            driver=_process(os.getpid()),
        ).write()

    def open(self) -> list[Record]:
        """The submissions of this Snakefile that nobody has seen the end of, oldest first."""
        return [record for record in self._all() if not record.ended and record.snakefile == self._snakefile]

    def own(self) -> list[Record]:
        """Those of them that this process has submitted or is submitting."""
        me = _process(os.getpid())
        return [record for record in self.open() if record.driver == me]

    def _all(self) -> Iterator[Record]:
        for path in sorted(self.folder.glob("*/record.json")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                if data.pop("format") == FORMAT:
                    yield Record(folder=path.parent, **(data | {"targets": tuple(data["targets"])}))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # removed by another call, or another version's: none of ours to wait for


def covering(records: Iterable[Record], targets: Iterable[str]) -> list[Record]:
    """Those of the records that make at least one of these targets."""
    wanted = set(targets)
    return [record for record in records if wanted.intersection(record.targets)]


def _process(pid: int) -> str:
    """Host, id and start of a process; a later one with the same id has another start. "" where there is none."""
    import psutil  # Snakemake needs it as well

    try:
        return f"{socket.gethostname()} {pid} {psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
