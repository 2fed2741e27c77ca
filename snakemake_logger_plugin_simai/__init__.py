"""Snakemake's logger plugin of simai-rules: `snakemake --logger simai` shows a run as points done, running and left.

It takes the place of Snakemake's own messages on stderr. Dry runs, `--verbose` and `--debug-dag` show those as ever,
and the complete log in `.snakemake/log/` is written by Snakemake in any case. Nested Snakemake processes (the jobs of
a cluster) load no logger plugin, so their output is Snakemake's own.
"""

import contextlib
import sys
import time
from logging import WARNING, Handler, LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_simai.display import Display, display_for
from snakemake_logger_plugin_simai.events import Failed
from snakemake_logger_plugin_simai.state import RunState
from snakemake_logger_plugin_simai.text import summary

__all__ = ["LogHandler"]

# Events that the state follows, or that say nothing about points.
_FOLLOWED = (
    *("run_info", "workflow_started", "resources_info", "progress", "rulegraph", "debug_dag"),
    *("job_info", "job_started", "job_finished", "job_error", "group_info", "group_error"),
)
# What Snakemake says about its own work. A message that is not known here is shown.
_CHATTER = (
    "Assuming unrestricted shared filesystem",
    "Building DAG of jobs",
    "Complete log(s):",
    "Conda environments: ignored",
    "Elapsed time:",
    "Group jobs: inactive",
    "Removing output files of failed job",
    "Removing temporary output",
    "Select jobs to execute",
    "Service job",
    "Singularity containers: ignored",
    "Terminating service job",
    "Using shell:",
    "Waiting at most",
)
# Said after a failure that has been shown with its reason and its logs, and again in the last line.
_REPEATS = ("Exiting because a job execution failed", "WorkflowError:\nAt least one job did not complete")


def _broken(error: Exception) -> str:
    return f"simai-rules: the progress display failed: {type(error).__name__}: {error}. Please report this."


class LogHandler(LogHandlerBase):
    """Shows the progress of a run on stderr: live in a terminal, plain lines elsewhere."""

    def __post_init__(self) -> None:
        """Prepare; the formatter and the filter are Snakemake's own and come later."""
        settings = self.common_settings
        self._quiet = {quietness.name for quietness in settings.quiet or ()}
        self._state = RunState()
        self._display: Display | None = None
        self._native: Handler | None = None
        self._is_native = bool(settings.dryrun or settings.verbose or settings.debug_dag)
        self._closed = False

    def filter(self, record: LogRecord) -> bool:  # noqa: ARG002
        """Let every record in: the state needs also those that `--quiet` keeps from being shown."""
        return True

    def emit(self, record: LogRecord) -> None:
        """Follow one record and show what it means. A display that breaks never ends the run."""
        try:
            if self._is_native:
                self._emit_native(record)
            else:
                self._follow(record)
        except OSError:
            # stderr is gone (`snakemake 2>&1 | head`): nobody is left to be told; the log file has everything.
            return
        except Exception as error:
            self._give_up(error, record)

    def close(self) -> None:
        """Take the live part away and say how the run ended."""
        if not self._closed:
            self._closed = True
            try:
                self._end()
            except OSError:
                pass  # as in emit
            except Exception as error:  # Snakemake would swallow it.
                sys.stderr.write(f"{_broken(error)}\n")
        super().close()

    def _follow(self, record: LogRecord) -> None:
        display = self._display = self._display or display_for(sys.stderr, colour=not self.common_settings.nocolor)
        first = self._state.began is None
        happenings = self._state.update(record)
        display.refresh(self._state.snapshot())
        if first and self._state.began is not None and not self._quiet & {"ALL", "PROGRESS"}:
            display.begin()
        for happening in happenings:
            if self._wants(is_failure=isinstance(happening, Failed)):
                display.show(happening)
        text = self._words(record)
        if text and super().filter(record):
            display.message(text, record.levelno)

    def _wants(self, *, is_failure: bool) -> bool:
        return "ALL" not in self._quiet and (is_failure or "PROGRESS" not in self._quiet)

    def _words(self, record: LogRecord) -> str:
        """Return what is to be shown of a record beside its meaning for the points; blank for nothing."""
        event = str(getattr(record, "event", None) or "")
        if event in _FOLLOWED:
            return ""
        if event == "shellcmd":
            return str(getattr(record, "shellcmd", "") or getattr(record, "cmd", "") or "")
        text = self.format(record) or ""
        known_failure = self._state.failed or self._state.failed_jobs or self._state.not_started
        if event == "error" and self._state.blame(text):
            return ""  # Its job error follows, and is shown with the reason and the logs.
        if (known_failure and text.startswith(_REPEATS)) or text == "None":
            return ""
        return "" if record.levelno < WARNING and text.startswith(_CHATTER) else text

    def _emit_native(self, record: LogRecord) -> None:
        """Show the record as Snakemake would without this plugin."""
        if self._native is None:
            from snakemake.logging import ColorizingTextHandler

            settings = self.common_settings
            self._native = ColorizingTextHandler(
                nocolor=settings.nocolor, stream=sys.stdout if settings.stdout else sys.stderr, formatter=self.formatter
            )
        if super().filter(record):
            self._native.emit(record)

    def _give_up(self, error: Exception, record: LogRecord) -> None:
        """Say that the display is broken and leave this record and all later ones to Snakemake's own handler."""
        self._is_native = True
        if self._display is not None:
            with contextlib.suppress(Exception):  # It is broken already, and that is said below.
                self._display.close()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{_broken(error)} The run goes on, with Snakemake's own messages.\n")
            self._emit_native(record)

    def _end(self) -> None:
        if self._display is None or self._is_native:
            return
        self._display.close()
        # With --quiet progress Snakemake does not tell which jobs finished: there is nothing to count then.
        if self._state.began is not None and self._wants(is_failure=False):
            self._display.message(summary(self._state, time.time()), WARNING - 1)

    @property
    def writes_to_stream(self) -> bool:
        """It takes the place of Snakemake's messages on stderr."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """It writes no file."""
        return False

    @property
    def has_filter(self) -> bool:
        """No: Snakemake's own filter decides which messages are shown."""
        return False

    @property
    def has_formatter(self) -> bool:
        """No: messages that are shown as they are get Snakemake's own form."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """No."""
        return False
