"""Which jobs of a group are done, whatever ended the group: their results stay and are not made again.

Snakemake itself removes the outputs of every job of a submission when one of them failed, and runs all of them again on
a retry. What says that a member is done is Snakemake's own marker of incomplete files: the outer Snakemake sets it on
submission, the one inside the job removes it from the outputs of each member that ended well.
"""

from pathlib import Path
from typing import Any

Job = Any
"""A Snakemake job or a group of them: snakemake.jobs carries no types that could be checked."""

COUPLING = ("service", "pipe")
PASSING = (*COUPLING, "temp")


def members(job: Job) -> list[Job]:
    """The single jobs of a job or group."""
    return list(job.jobs) if job.is_group() else [job]


async def unfinished(job: Job) -> set[Job]:
    """The members that still have to run: whose results are missing or marked, and what feeds those inside the group.

    A temporary file is needed for as long as one of those who read it is unfinished. Jobs that are coupled by a service
    or a pipe are finished together or not at all.
    """
    persistence = job.dag.workflow.persistence
    persistence._clear_cache()  # the job has changed the files meanwhile; there is no public way to say that
    everyone = members(job)
    waiting = {member for member in everyone if await _lacking(member, persistence)}
    changed = True
    while changed:
        before = len(waiting)
        for member in everyone:
            readers = set(job.dag.depending[member]).intersection(everyone)
            if member.output and _all_flagged(member, PASSING) and readers & waiting:
                waiting.add(member)
            if member in waiting and any(_flagged(path, COUPLING) for path in member.output):
                waiting |= readers
        changed = len(waiting) > before
    return waiting


async def _lacking(member: Job, persistence: Any) -> bool:
    """Whether a lasting output is missing or marked. A job without any output is never known to be finished."""
    if not member.output:
        return True
    lasting = [path for path in member.output if not _flagged(path, PASSING)]
    if not lasting:
        return False
    return bool(await persistence.incomplete(member)) or not all(Path(path).exists() for path in lasting)


def _flagged(path: Any, flags: tuple[str, ...]) -> bool:
    from snakemake.io import is_flagged

    return any(is_flagged(path, flag) for flag in flags)


def _all_flagged(member: Job, flags: tuple[str, ...]) -> bool:
    return all(_flagged(path, flags) for path in member.output)


def part(job: Job, wanted: set[Job]) -> Job:
    """The group with these members alone: its targets, its nodes and its walltime are theirs."""
    if not job.is_group() or len(wanted) == len(job.jobs):
        return job
    smaller = type(job)(job.groupid, frozenset(wanted), job.global_resources)
    smaller.finalize()
    smaller.attempt = job.attempt
    return smaller


class Failures:
    """Failed jobs between the report of their failure and Snakemake's own handling of it."""

    def __init__(self) -> None:
        self._waiting: dict[Job, set[Job]] = {}
        self._layers: dict[Job, Any] = {}

    def narrow(self, job: Job, waiting: set[Job]) -> None:
        """Before the failure is reported: Snakemake removes the outputs of the unfinished members alone."""
        self._waiting[job] = waiting
        if job.is_group():
            self._layers[job] = job.toposorted
            layers = [[member for member in layer if member in waiting] for layer in job.toposorted]
            job.toposorted = [layer for layer in layers if layer]

    def settle(self, job: Job) -> None:
        """After Snakemake has removed them, in its main thread: the group is whole again, what is done is recorded."""
        if job not in self._waiting:
            return  # it ended well and its results do not: Snakemake's own matter
        if job in self._layers:
            job.toposorted = self._layers.pop(job)
        workflow = job.dag.workflow
        waiting = self._waiting[job]
        for member in members(job):
            if member not in waiting:
                workflow.async_run(workflow.persistence.finished(member))
            elif workflow.execution_settings.keep_incomplete:
                # Snakemake takes the marker off and records the kept files as results of this call: the next one
                # would believe that they are whole.
                workflow.persistence.cleanup(member)
                workflow.persistence.started(member)

    def rest(self, job: Job) -> Job:
        """What of this job is still to be done on a retry: all of it on the first attempt."""
        waiting = self._waiting.pop(job, None)
        return part(job, waiting) if waiting else job
