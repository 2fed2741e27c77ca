"""What the rules ask of a batch system, and what has to be known before they may."""

import os
from functools import cached_property
from typing import Any

from simai_rules.config.estimate import request
from simai_rules.config.loader import Experiment
from simai_rules.launch.jobs import unfit


class Submission:
    """The points of an experiment as jobs; in a run on this machine nothing is asked of anybody."""

    def __init__(self, workflow: Any, experiment: Experiment) -> None:
        """Take Snakemake's `workflow`, which knows its executor only when jobs are made."""
        self._workflow, self._experiment = workflow, experiment
        self._minutes: dict[str, int | None] = {}
        _known.append(self)

    def minutes(self, point: str) -> int:
        """Return the walltime to ask for `point`, 0 where nobody is asked; raises as `check` does."""
        self.check()
        if point not in self._minutes:
            self._minutes[point] = request(self._experiment.points[point]).minutes
        return self._minutes[point] or 0

    def check(self) -> None:
        """Raise WorkflowError, which Snakemake prints as a message, where points are to be submitted and cannot be."""
        if not self._workflow.local_exec and self._problems:
            from snakemake.exceptions import WorkflowError

            raise WorkflowError(self._problems)

    def check_place(self) -> None:
        """Raise WorkflowError where points would run here, on a machine with a batch system and outside of its jobs."""
        system = next(iter(self._experiment.points.values())).system
        inside = bool(system.hostfile or os.environ.get("PBS_NODEFILE") or os.environ.get("SLURM_JOB_NODELIST"))
        if self._workflow.local_exec and system.scheduler != "none" and not inside:
            from snakemake.exceptions import WorkflowError

            raise WorkflowError(
                f"{system.name} has a batch system, and this is not inside one of its jobs (neither $PBS_NODEFILE nor "
                "$SLURM_JOB_NODELIST is set): the points would run on this machine, which may be a login node. Submit "
                "them with a profile that submits, or call this inside a job; hostfile in system.yaml names nodes that "
                "may be used otherwise."
            )

    @cached_property
    def _problems(self) -> str:
        """Why the points cannot be submitted as they are, or ""."""
        points, problems = self._experiment.points.values(), []
        if any(point.system.scheduler == "none" for point in points):
            problems.append(
                f"system: {self._experiment.config.system} has no batch system, so it does not describe the machine "
                "that is submitted to. 'simai-rules profile install' writes the machine's into a profile; --config on "
                "the command line replaces that entry, so repeat it there: --config system=MACHINE …"
            )
        problems += unfit(points)
        return "\n".join(problems and ["The points cannot be submitted:", *(f"  {text}" for text in problems)])


_known: list[Submission] = []


def check_submission() -> None:
    """Refuse, before anything is run, what cannot be submitted or must not run here; for an experiment's onstart."""
    for submission in _known:
        submission.check()
        submission.check_place()
