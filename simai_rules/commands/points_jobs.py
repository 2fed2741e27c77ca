"""The jobs that `snakemake --profile NAME` would submit, as `simai-rules points` shows them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simai_rules.commands.points_text import print_columns
from simai_rules.config.estimate import request
from simai_rules.config.experiment import Point
from simai_rules.config.messages import counted
from simai_rules.config.profile import Profile, profile_file
from simai_rules.config.yaml_file import read_mapping
from simai_rules.errors import UserError
from simai_rules.launch.jobs import Job, jobs_of, refusals


class CannotSubmit(UserError):
    """The batch system would not take the jobs; the text has every reason and its remedy."""


class Submission:
    """The points of an experiment under one profile."""

    def __init__(self, profile: Profile, points: Sequence[Point]) -> None:
        # Snakemake reads profiles/default of the folder as well, and its entries win.
        default = profile_file(Path("profiles/default"))
        own = read_mapping(default) if default else {}
        self.profile = Profile(profile.name, profile.file, profile.content | own)
        self.points, self.system = points, points[0].system
        self.here = self.profile.executor == "local"
        """Nothing is submitted: points run one after another where snakemake is called."""
        self.jobs = jobs_of(points, 1 if self.here else self.profile.pack, self.profile.min_minutes)

    def as_dict(self) -> dict[str, Any]:
        """Return the jobs for JSON."""
        jobs = [
            {"points": job.points, "nodes": job.nodes, "minutes": job.minutes, "node_hours": job.node_hours}
            for job in self.jobs
        ]
        profile = {"name": self.profile.name, "executor": self.profile.executor, "queue": self.profile.queue}
        return {"profile": profile, "jobs": jobs, "node_hours": self._node_hours, "refused": self._refusals()}

    def print(self) -> None:
        """Print a line for all jobs that are alike, and their sums."""
        print()
        alike = Counter(self.jobs)
        if alike:
            head = ("points",) if self.here else ("jobs", "points each")
            table: list[tuple[str, ...]] = [(*head, "nodes", "walltime", "node-hours each")]
            table += [self._line(job, number) for job, number in alike.items()]
            print_columns(table)
        minutes = sum(job.minutes for job in self.jobs)
        # Which points Snakemake packs together is not known before.
        mixed = self.profile.pack > 1 and len({request(point) for point in self.points}) > 1
        hours = f"{self._node_hours:.4g} node-hours"
        sums = f"{f'about {hours}' if mixed else f'{hours} at most'}, {minutes} min in sum"
        if self.here:
            points = counted(len(self.jobs), "point")
            print(f"{self.profile.name}: nothing is submitted; {points} one after another, {sums}")
            return
        queue = f", {self.profile.queue}" if self.profile.queue else ""
        at_once = (
            f" ({self.profile.jobs} at a time)" if self.profile.jobs and self.profile.jobs < len(self.jobs) else ""
        )
        print(f"{self.profile.name}{queue}: {counted(len(self.jobs), 'job')}{at_once}, {sums}")

    def refuse(self) -> None:
        """Raise CannotSubmit with every reason why the jobs would not be taken, if there are any."""
        if reasons := self._refusals():
            listing = "".join(f"\n  {reason}" for reason in reasons)
            raise CannotSubmit(f"{self.profile.name} would not take this sweep as it is:{listing}")

    @property
    def _node_hours(self) -> float:
        return sum(job.node_hours for job in self.jobs)

    def _refusals(self) -> list[str]:
        return [] if self.here else refusals(self.points, self.profile, self.system)

    def _line(self, job: Job, number: int) -> tuple[str, ...]:
        how_many = (str(number),) if self.here else (str(number), str(job.points))
        return (*how_many, str(job.nodes), f"{job.minutes} min", f"{job.node_hours:.3g}")
