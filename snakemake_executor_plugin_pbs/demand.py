"""What a job asks of the batch system, and what the Snakemake inside it may use."""

from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_pbs.finished import Job, members
from snakemake_executor_plugin_pbs.scheduler import JobRequest


def demand(job: Job, min_minutes: int) -> JobRequest:
    """The resources of a job or group, its paths still open. WorkflowError names every resource that cannot be used.

    A walltime of less than `min_minutes` is raised to that.

    `nodes` asks for whole nodes: no cores and, unless the rule says some, no memory. Without it the job gets one
    chunk with `threads` cores.
    """
    problems: list[str] = []

    def number(name: str, least: int = 0) -> int | None:
        value = job.resources.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            problems.append(f"{name}={value} (a whole number from {least} on)")
            return None
        return value

    nodes, minutes = number("nodes"), number("runtime", 1)
    cpus, gpus, mem_mb = number("ncpus"), number("gpu"), number("mem_mb")
    if problems:
        raise WorkflowError(f"Resources of {job.name} that cannot be used: {', '.join(problems)}.")
    whole = bool(nodes)
    if whole and not any(_own_memory(member) for member in members(job)):
        mem_mb = None
    return JobRequest(
        name=job.name,
        script=Path(),
        output=Path(),
        nodes=nodes or 1,
        walltime_s=max(minutes, min_minutes) * 60 if minutes is not None else None,
        whole_nodes=whole,
        cpus=cpus or (None if whole else max(1, job.threads)),
        mem_mb=mem_mb or None,
        gpus=gpus or None,
    )


def _own_memory(member: Job) -> bool:
    """Whether the job's rule says its memory, rather than a default for all rules: Snakemake's goes by the input."""
    defaults = member.dag.workflow.resource_settings._parsed_default_resources
    return bool(member.rule.resources.get("mem_mb") != defaults.get("mem_mb"))


def nested_cores(job: Job) -> int:
    """`--cores` of the Snakemake inside the job.

    A group on whole nodes: enough for all of its jobs at once, because jobs coupled by a service wait for each other
    for ever if one of them does not start; what runs at a time is limited by other resources. Else what was asked for.
    """
    if job.is_group() and job.resources.get("nodes"):
        return sum(max(1, member.threads) for member in members(job))
    return max(1, int(job.threads))


def limits(job: Job, workflow: Any) -> dict[str, int]:
    """`--resources` of the Snakemake inside the job: its nodes, and the outer limits of local scope."""
    outer = workflow.global_resources.expand_items(constraints={}, evaluate=None, expand_sized=False)
    scopes = workflow.resource_scopes
    found = {
        name: value
        for name, value in outer
        if isinstance(value, int) and not name.startswith("_") and scopes.is_local(name)
    }
    return found | {"nodes": int(job.resources.get("nodes") or 1)}
