"""The shared rules (*.smk) that experiments import, and what they need of Python while Snakemake reads them."""

from collections.abc import Iterable
from pathlib import Path

from simai_rules.files import replacing
from simai_rules.resources import shipped

_FOLDER = Path(__file__).resolve().parent


def rules_file(name: str) -> str:
    """Return the path of the shared rules `name`, such as `one_to_one.smk`, for a `module` statement."""
    return str(_FOLDER / name)


def render_staging_rules(backends: Iterable[str], folder: Path) -> list[str]:
    """Write the lifecycle rule of every backend into `folder` and return the files, absolute, in the given order.

    A file that is right is left alone: nested snakemake processes read them at the same time.
    """
    import jinja2

    from simai_rules.config.paths import backend_pattern

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - not a page
    template = environment.from_string(shipped("templates/staging_server.smk.j2").read_text())
    files = []
    for backend in dict.fromkeys(backends):
        name = f"staging_server_{backend.replace('-', '_')}"
        text = template.render(backend=backend, name=name, pattern=backend_pattern(backend)) + "\n"
        file = (folder / f"{name}.smk").absolute()
        if not file.exists() or file.read_text() != text:
            with replacing(file) as temporary:
                temporary.write_text(text)
        files.append(str(file))
    return files
