"""Where the words go: plain lines in a log, or lines above a live bar in a terminal."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from logging import ERROR, WARNING
from typing import TYPE_CHECKING, Protocol, TextIO

from snakemake_logger_plugin_simai.events import Failed, Happening, PointDone
from snakemake_logger_plugin_simai.state import Snapshot
from snakemake_logger_plugin_simai.text import details, duration, headline

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

POINTS_NAMED = 3
BAR_WIDTH = 24


class Display(Protocol):
    """What shows a run; called by one thread."""

    def begin(self) -> None:
        """Show the live part, if there is one: the run begins."""

    def show(self, happening: Happening) -> None:
        """Show what happened, for good."""

    def message(self, text: str, level: int) -> None:
        """Show a message of Snakemake's; `level` is that of `logging`."""

    def refresh(self, state: Snapshot) -> None:
        """Take the new state."""

    def close(self) -> None:
        """Take the live part away; lines may still follow. Safe to call again."""


class PlainDisplay:
    """One line per event, without escape codes: for logs, pipes and dumb terminals."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def begin(self) -> None:
        """There is no live part."""

    def show(self, happening: Happening) -> None:
        """Write the headline and, for a failure, the log files with their last lines."""
        self._write([headline(happening), *details(happening)])

    def message(self, text: str, level: int) -> None:
        """Write the text as it is; a warning is called one, an error says so itself."""
        self._write([f"warning: {text}" if level == WARNING else text])

    def refresh(self, state: Snapshot) -> None:
        """There is no live part."""

    def close(self) -> None:
        """Flush what was written."""
        self._stream.flush()

    def _write(self, lines: list[str]) -> None:
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()


@dataclass(slots=True)
class _Status:
    """The live part. Drawn four times a second by a thread of rich's, from a state that does not change under it."""

    state: Snapshot

    def __rich__(self) -> "Group":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        state, now = self.state, time.time()
        lines: list[Table | Text] = []
        if state.total:
            counts = Text(f"{state.done} of {state.total} points done")
            if state.failed:
                counts.append(f", {state.failed} failed", style="bold red")
            counts.append(f", {len(state.running)} running, {state.left} left")
            row = Table.grid(padding=(0, 1))
            row.add_row(ProgressBar(total=state.total, completed=state.ended, width=BAR_WIDTH), counts)
            lines.append(row)
        left = state.time_left(now)
        until = f", about {duration(left)} left" if left and left >= 1 else ""
        lines.append(Text(f"{duration(now - state.began)} elapsed{until}", style="dim"))
        for name, started in state.running[:POINTS_NAMED]:
            lines.append(_one_line(f"running {name} {duration(now - started)}"))
        if len(state.running) > POINTS_NAMED:
            lines.append(_one_line(f"and {len(state.running) - POINTS_NAMED} more"))
        if state.others:
            lines.append(_one_line(f"running {', '.join(dict.fromkeys(state.others))}"))
        return Group(*lines)


def _one_line(text: str) -> "Text":
    from rich.text import Text

    return Text(text, style="cyan", no_wrap=True, overflow="ellipsis")


class LiveDisplay:
    """A bar with counts, times and the running points at the bottom of a terminal; what ended scrolls above it."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, no_color=not colour, highlight=False, soft_wrap=True)
        self._status = _Status(Snapshot())
        # What Snakemake's process prints while the bar stands (an `onerror:`, say) goes through rich, or it would cut
        # the bar in two; but a stdout that is a file keeps what is printed to it.
        self._live = Live(
            self._status,
            console=self._console,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
            transient=True,
        )

    def begin(self) -> None:
        """Put up the bar."""
        self._live.start()
        self._console.show_cursor(True)  # rich hides it, and nobody would bring it back after a SIGKILL.

    def show(self, happening: Happening) -> None:
        """Print the headline above the bar and, for a failure, the log files with their last lines."""
        style = "bold red" if isinstance(happening, Failed) else "green" if isinstance(happening, PointDone) else ""
        self._print(headline(happening), style, details(happening))

    def message(self, text: str, level: int) -> None:
        """Print the text above the bar: errors red, warnings yellow."""
        self._print(text, "red" if level >= ERROR else "yellow" if level == WARNING else "")

    def refresh(self, state: Snapshot) -> None:
        """Draw this state from now on."""
        self._status.state = state

    def close(self) -> None:
        """Take the bar away."""
        self._live.stop()

    def _print(self, text: str, style: str, more: Sequence[str] = ()) -> None:
        from rich.text import Text

        self._console.print(Text("\n").join([Text(text, style=style), *map(Text, more)]))


def display_for(stream: TextIO, *, colour: bool) -> Display:
    """Return a live display if `stream` is a terminal that can move its cursor, else plain lines."""
    if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveDisplay(stream, colour=colour)
    return PlainDisplay(stream)
