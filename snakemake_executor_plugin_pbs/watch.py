"""One submission while it is watched: from what the batch system and the job script say to an end and its message."""

import signal
from dataclasses import dataclass, field

from snakemake_executor_plugin_pbs.journal import ExitCode, Record
from snakemake_executor_plugin_pbs.scheduler import End, Phase, State

LAST_LINES = 15


@dataclass
class Watch:
    """A submission that is waited for. ``good`` is None until it has ended, ``message`` is "" unless that was badly."""

    record: Record
    system: str  # the batch system's name in messages
    patience: int  # answers in a row
    misses: int = 0
    late: int = 0
    last: State | None = None
    good: bool | None = None
    message: str = ""
    never: bool = field(default=False)  # the batch system says that it can never run: to be cancelled
    _said: set[str] = field(default_factory=set)

    def look(self, state: State | None, *, answered: bool) -> str:
        """Take in one poll. Returns something that the user should be told now, each thing once, or "".

        ``answered`` is False where the batch system could not be asked: then only the job's own exit code counts.
        """
        if self._follows_another():
            return ""  # what was asked was about the wrong job
        code = self.record.exit_code()
        if code is not None and code.code == 0:
            self.good = True
        elif not answered:
            self._count_late(code)
        elif state is None:
            self.misses += 1
            if self.misses >= self.patience:
                self._lost()
        else:
            self.misses = 0
            return self._known(state, code)
        return ""

    def _follows_another(self) -> bool:
        """Watch the job that has started this script, where a submission that seemed to fail was taken all the same."""
        owner = self.record.owner
        if owner and owner.split(".")[0] != self.record.job_id.split(".")[0]:
            self.record = self.record.submitted_as(owner)
            return True
        return False

    def _known(self, state: State, code: ExitCode | None) -> str:
        self.last = state
        if state.phase is Phase.ENDED:
            if code is None and state.end is End.UNEXPLAINED and state.exit_code is None:
                # The exit code of the script is all there will be, and a shared file system may show it late.
                self.late += 1
                if self.late < self.patience:
                    return ""
            self.good = code is None and state.exit_code == 0
            if not self.good:
                self._fail(_ended(state, code or self.record.exit_code(signalled=True)))
        elif state.phase is Phase.NEVER:
            self.good, self.never = False, True
            self._fail(f"can never run, and was deleted. {self.system} says: {state.words}")
        elif state.phase is Phase.HELD and "held" not in self._said:
            self._said.add("held")
            return f"job {self.record.job_id} is held ({state.words}): it waits until it is released"
        else:
            self._count_late(code)
        return ""

    def _count_late(self, code: ExitCode | None) -> None:
        """The script has ended badly, and the batch system does not say so yet: it may know why."""
        if code is not None:
            self.late += 1
            if self.late >= self.patience:
                self.good = False
                self._fail(_own_words(code, self.record))

    def _lost(self) -> None:
        self.good = False
        if code := self.record.exit_code(signalled=True):
            self._fail(_own_words(code, self.record))
        elif self.record.owner:
            self._fail(
                f"is lost: {self.system} no longer knows it ({self.misses} answers in a row), and its script left no "
                "exit code. Its node may have died"
            )
        else:
            self._fail(
                f"has vanished before it started: {self.system} took it and no longer knows it ({self.misses} answers "
                "in a row). A routing queue drops jobs that none of its queues takes: compare nodes and walltime with "
                "their limits"
            )

    def _fail(self, what: str) -> None:
        record = self.record
        self.message = f"{self.system} job {record.job_id} ({record.name}) {what}.\n    log: {record.log}"
        tail = _tail(record)
        if tail:
            self.message += "\n    it ended with:\n" + "\n".join(f"      {line}" for line in tail)


def _ended(state: State, code: ExitCode | None) -> str:
    if (
        state.end in (End.FINISHED, End.UNEXPLAINED, End.UNSTARTED, End.SIGNAL)
        and code is not None
        and code.signal == ""
    ):
        return f"failed, exit code {code.code}{f' ({state.words})' if state.words else ''}"
    if state.end is End.FINISHED:
        return f"failed, exit code {state.exit_code}{f' ({state.words})' if state.words else ''}"
    return state.message


def _own_words(code: ExitCode, record: Record) -> str:
    """What the exit code alone says, where the batch system says nothing."""
    if not code.signal:
        return f"failed, exit code {code.code}"
    limit = record.walltime_s
    started = record.folder / "claim"
    try:
        ran_s = code.at - started.stat().st_mtime
    except OSError:
        ran_s = code.at - record.submitted
    if limit is not None and ran_s >= limit:
        return f"exceeded its walltime of {limit} s (SIG{code.signal} after {ran_s:.0f} s)"
    number = signal.Signals[f"SIG{code.signal}"].value if code.signal else 0
    return f"was ended by SIG{code.signal} ({number}) after {ran_s:.0f} s: deleted, or its node was taken down"


def _tail(record: Record) -> list[str]:
    """The last lines of the job's log, or of what the batch system printed where there is no log."""
    for path in (record.log, record.output):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        if lines:
            return lines[-LAST_LINES:]
    return []
