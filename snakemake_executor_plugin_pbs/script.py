"""The job script, from its template."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).with_name("jobscript.sh.j2")


@dataclass(frozen=True)
class JobScript:
    """What goes into a job script. ``command`` and ``setup`` are shell text; everything else is quoted."""

    title: str
    plugin: str
    folder: Path  # of this submission: the script, log.txt, exit, claim/
    workdir: Path
    command: str
    bin: Path  # put first into PATH
    setup: Sequence[str]
    environment: Mapping[str, str]
    walltime_s: int | None
    job_id: str  # shell expression
    job_end: str  # name of a shell variable, or ""


def render(script: JobScript) -> str:
    """The whole text, ready for the batch system."""
    import jinja2  # takes a tenth of a second, and every snakemake call imports this package

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (a shell script, quoted by the filter below)
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    values = {name: getattr(script, name) for name in script.__dataclass_fields__}
    values["title"] = " ".join(script.title.split())  # stays one comment line
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values)
