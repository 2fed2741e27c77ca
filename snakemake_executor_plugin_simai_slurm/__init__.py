"""Snakemake jobs on Slurm by the executor of snakemake_executor_plugin_pbs: coupled groups on several nodes, packs."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import List, Optional  # noqa: UP035 (Snakemake's command line knows these two forms alone)

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_pbs.executor import BatchExecutor
from snakemake_executor_plugin_pbs.settings import COMMON as common_settings  # noqa: N811 (the name that Snakemake looks for)
from snakemake_executor_plugin_pbs.settings import BatchSettings, common_problems, missing_programs
from snakemake_executor_plugin_pbs.slurm import Slurm

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

_PREFIX = "--simai-slurm-"
# Options of sbatch with a place of their own, and those without which the executor could not follow its jobs.
_INSTEAD = {
    "account": f"{_PREFIX}account",
    "partition": f"{_PREFIX}partition",
    "qos": f"{_PREFIX}qos",
    "constraint": f"{_PREFIX}constraint",
    "reservation": f"{_PREFIX}reservation",
    "nodes": "the resource nodes",
    "time": "the resource runtime, in minutes",
    "mem": "the resource mem_mb",
    "array": "nothing: each job is one submission",
    "requeue": "nothing: a job is not to start twice",
    "wait": "nothing: the executor waits itself",
    "output": "nothing: it is among the job's files",
}


@dataclass
class ExecutorSettings(BatchSettings):
    """The settings of `--executor simai-slurm`: each is an option `--simai-slurm-<name>` and a key of a profile."""

    account: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Account that the node-hours are charged to (sbatch --account)."}
    )
    partition: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Partition (sbatch --partition). Without it: the default partition."}
    )
    qos: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Quality of service (sbatch --qos), where the site's limits hang on it."}
    )
    constraint: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Features that the nodes must have (sbatch --constraint): gpu."}
    )
    reservation: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Reservation that the jobs run in (sbatch --reservation)."}
    )
    options: List[str] = field(  # noqa: UP006
        default_factory=list,
        metadata={
            "help": "More options of sbatch, all in one text: in a profile 'simai-slurm-options: --network=job_vni "
            f"--contiguous', on the command line {_PREFIX}options='--network=job_vni --contiguous'. No list: its words "
            "would be taken for options of Snakemake.",
            "nargs": "*",
            "metavar": "OPTIONS",
        },
    )


def problems(settings: ExecutorSettings) -> list[str]:
    """Everything that is wrong with these settings, one sentence each."""
    found = common_problems(settings, _PREFIX)
    for name in ("account", "partition", "qos", "constraint", "reservation"):
        value = getattr(settings, name)
        if value is not None and not re.fullmatch(r"[^\s-]\S*", value):
            found.append(f"{_PREFIX}{name} {value!r}: one word is wanted")
    try:
        options = words(settings.options)
    except ValueError as error:
        return [*found, f"{_PREFIX}options {' '.join(settings.options)!r}: {error}"]
    for option in options:
        match = re.match(r"--([a-z][a-z-]*)(=.|$)", option)
        if not match:
            found.append(f"{_PREFIX}options {option!r}: an option in its long form is wanted, --name or --name=value")
        elif match[1] in _INSTEAD:
            found.append(f"{_PREFIX}options {option!r}: use {_INSTEAD[match[1]]}")
    return found


def words(texts: Sequence[str]) -> list[str]:
    """The words of these texts, as a shell would read them; ValueError where a quotation mark has no end."""
    return [word for text in texts or () for word in shlex.split(text)]


class Executor(BatchExecutor):
    """`snakemake --executor simai-slurm`."""

    plugin = "snakemake_executor_plugin_simai_slurm"
    folder_name = "simai-slurm"

    def make_scheduler(self) -> Slurm:
        """Slurm with this call's settings."""
        settings: ExecutorSettings = self.executor_settings
        found = problems(settings)
        scheduler = Slurm(
            account=settings.account,
            partition=settings.partition,
            qos=settings.qos,
            constraint=settings.constraint,
            reservation=settings.reservation,
            options=() if found else words(settings.options),
        )
        if not settings.dry_submission:
            found += missing_programs(scheduler)
        if found:
            raise WorkflowError("Nothing was submitted, because of the settings of the executor:", *found)
        return scheduler
