"""What every long-lived process of a run looks at: its parent, signals that ask it to end, and the server's state."""

import os
import signal
from types import FrameType

from simai_rules.errors import UserError


class Ending(UserError):
    """This process has to end; the text says why."""

    def __init__(self, reason: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(reason)


class Watch:
    """Notices SIGTERM and SIGINT, and the end of the process that started this one.

    parent: its pid, as that process or its shell knew it; by now it may have ended, and os.getppid() name another.
    """

    def __init__(self, parent: int | None = None) -> None:
        self.signal = 0
        self._parent = parent or os.getppid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number

    @property
    def orphaned(self) -> bool:
        """Whether the process that started this one has ended."""
        return os.getppid() != self._parent

    def check(self) -> None:
        """Raise Ending if this process was asked to end or its parent is gone."""
        if self.orphaned:
            raise Ending(f"the process that started this one ({self._parent}: snakemake or a shell) has ended")
        if self.signal:
            raise Ending(f"ended by {signal.Signals(self.signal).name}", exit_code=128 + self.signal)
