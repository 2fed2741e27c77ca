"""Settings that every batch system has in common, and the check that finds all wrong ones at once."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional  # noqa: UP035 (Snakemake's command line knows these two forms alone)

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_pbs.scheduler import Scheduler

COMMON = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    # The job script exports them itself, quoted for the shell.
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
    pass_group_args=False,
)
"""The CommonSettings of an executor on a batch system with a shared file system."""


@dataclass
class BatchSettings(ExecutorSettingsBase):  # type: ignore[misc]  # the interface carries no types
    """The settings that PBS and Slurm share. None means: not given."""

    setup: List[str] = field(  # noqa: UP006
        default_factory=list,
        metadata={
            "help": "Shell lines that every job runs before Snakemake, in this order: `module load frameworks`. They "
            "are put into the job script as they are. A line that fails does not end the job; write `|| exit 1` where "
            "it shall.",
            "nargs": "*",
            "metavar": "LINE",
        },
    )
    min_walltime: int = field(
        default=0,
        metadata={
            "help": "The least walltime of a job, in minutes, if a queue wants one: shorter requests are raised to it.",
            "metavar": "MINUTES",
        },
    )
    submit_retries: int = field(
        default=5,
        metadata={
            "help": "How often a submission is tried again when the batch system could not be reached or was busy, "
            "with pauses of 2, 4, 8, … s, 60 s at most. Any other refusal fails the job at once (0: never try again).",
            "metavar": "N",
        },
    )
    poll_seconds: float = field(
        default=20.0,
        metadata={
            "help": "Seconds between two questions about the states of all jobs (one request for all of them).",
            "metavar": "SECONDS",
        },
    )
    polls_until_lost: int = field(
        default=5,
        metadata={
            "help": "A job that the batch system does not know, and that left no exit code, is declared lost when "
            "this many answers in a row said so. Failing or unreadable answers do not count.",
            "metavar": "N",
        },
    )
    logdir: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Folder for the jobs' scripts, logs and exit codes, one folder for each submission. The nodes have "
            "to see it. Without it: the folder of this plugin in .snakemake.",
            "metavar": "DIR",
        },
    )
    keep_successful_logs: bool = field(
        default=False,
        metadata={"help": "Keep the folders of jobs that succeeded, too. Those of failed jobs always stay."},
    )
    dry_submission: bool = field(
        default=False,
        metadata={
            "help": "Show every job script that this call would submit and the line that would submit it, and end. "
            "Nothing is submitted and no rule is run, local ones included."
        },
    )


Problem = str
"""One sentence: the setting, its value, what is wrong, what is right."""


def common_problems(settings: BatchSettings, prefix: str) -> list[Problem]:
    """What is wrong with the settings that all batch systems share; ``prefix`` is that of the options ("--pbs-")."""
    found = []
    for name, least in (("min_walltime", 0), ("submit_retries", 0), ("polls_until_lost", 1)):
        value = getattr(settings, name)
        if value < least:
            found.append(f"{_option(prefix, name)} {value}: a number from {least} on")
    if not 0 < settings.poll_seconds < float("inf"):
        found.append(f"{_option(prefix, 'poll_seconds')} {settings.poll_seconds}: a number of seconds above 0")
    if settings.logdir is not None and settings.logdir.exists() and not settings.logdir.is_dir():
        found.append(f"{_option(prefix, 'logdir')} {settings.logdir}: is no folder")
    return found + listed_problems(
        _option(prefix, "setup"), settings.setup, "a shell line without a line break", lambda line: "\n" not in line
    )


def listed_problems(
    option: str, values: Iterable[str] | None, wanted: str, legal: Callable[[str], bool]
) -> list[Problem]:
    """One sentence for each of these values that is not legal."""
    return [
        f"{option} {value!r}: {wanted}" for value in values or () if not str(value).strip() or not legal(str(value))
    ]


def _option(prefix: str, name: str) -> str:
    return prefix + name.replace("_", "-")


def missing_programs(scheduler: Scheduler) -> list[Problem]:
    """One sentence for the programs of the batch system that are not there."""
    missing = [program for program in scheduler.programs if shutil.which(program) is None]
    if not missing:
        return []
    return [
        f"{', '.join(missing)} not on the PATH: call snakemake where {scheduler.name} jobs are submitted (a login node)"
    ]
