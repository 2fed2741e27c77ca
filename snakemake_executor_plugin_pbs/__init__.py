"""Snakemake jobs on PBS, coupled groups and packs included."""

import re
from dataclasses import dataclass, field
from typing import List, Optional  # noqa: UP035 (Snakemake's command line knows these two forms alone)

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_pbs.executor import BatchExecutor
from snakemake_executor_plugin_pbs.pbs import PbsOptions, PbsScheduler
from snakemake_executor_plugin_pbs.settings import COMMON as common_settings  # noqa: N811 (the name that Snakemake looks for)
from snakemake_executor_plugin_pbs.settings import BatchSettings, common_problems, listed_problems, missing_programs

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

OWN_L = ("select", "walltime", "place", "filesystems", "nodes")


@dataclass
class ExecutorSettings(BatchSettings):
    """The settings of `--executor pbs`: each is an option `--pbs-<name>` and a key of a profile."""

    account: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Project that the node-hours are charged to (qsub -A)."}
    )
    queue: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Queue (qsub -q). Without it: the server's default queue."}
    )
    filesystems: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "File systems that the jobs need, joined by colons (qsub -l filesystems=home:flare), where the "
            "site asks for them."
        },
    )
    place: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "How the nodes are chosen (qsub -l place=scatter)."}
    )
    extra_l: List[str] = field(  # noqa: UP006
        default_factory=list,
        metadata={
            "help": "More resource requests, one qsub -l each: daos=default.",
            "nargs": "*",
            "metavar": "NAME=VALUE",
        },
    )
    extra_w: List[str] = field(  # noqa: UP006
        default_factory=list,
        metadata={"help": "More job attributes, one qsub -W each: umask=027.", "nargs": "*", "metavar": "NAME=VALUE"},
    )


def problems(settings: ExecutorSettings) -> list[str]:
    """Everything that is wrong with these settings, one sentence each."""
    found = common_problems(settings, "--pbs-")
    for name in ("account", "queue", "filesystems", "place"):
        value = getattr(settings, name)
        if value and not re.fullmatch(r"[\w.:@%+=-]+", value):
            hint = (
                " (an empty value in a profile becomes the profile's folder: leave the key out)" if "/" in value else ""
            )
            found.append(f"--pbs-{name} {value!r}: letters, digits and . : @ % + = - alone{hint}")
    for name in ("extra_l", "extra_w"):
        option = f"--pbs-{name.replace('_', '-')}"
        found += listed_problems(option, getattr(settings, name), "NAME=VALUE is wanted", _is_assignment)
    found += [
        f"--pbs-extra-l {value!r}: has a place of its own ({_instead(value)})"
        for value in settings.extra_l or ()
        if value.split("=")[0].strip() in OWN_L
    ]
    return found


def _is_assignment(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z]\w*=\S.*", text) is not None


def _instead(text: str) -> str:
    name = text.split("=")[0].strip()
    return {
        "walltime": "the resource runtime, in minutes",
        "select": "the resource nodes",
        "nodes": "the resource nodes",
    }.get(name, f"--pbs-{name}")


class Executor(BatchExecutor):
    """`snakemake --executor pbs`."""

    def make_scheduler(self) -> PbsScheduler:
        """PBS with this call's settings."""
        settings: ExecutorSettings = self.executor_settings
        scheduler = PbsScheduler(
            PbsOptions(
                account=settings.account or "",
                queue=settings.queue or "",
                filesystems=settings.filesystems or "",
                place=settings.place or "",
                extra_l=tuple(settings.extra_l or ()),
                extra_w=tuple(settings.extra_w or ()),
            )
        )
        found = problems(settings)
        if not settings.dry_submission:
            found += missing_programs(scheduler)
        if found:
            raise WorkflowError("Nothing was submitted, because of the settings of the executor:", *found)
        return scheduler
