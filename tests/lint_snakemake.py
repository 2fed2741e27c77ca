"""`snakemake --lint` for every experiment, less the advice that this project does not follow, with the reason for each.

The command line of Snakemake can switch no advice off, and flags every rule without a conda environment or container.
Run by `make lint`: python tests/lint_snakemake.py
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DeploymentSettings,
    OutputSettings,
    ResourceSettings,
    StorageSettings,
    WorkflowSettings,
)

NOT_FOLLOWED = {
    "Specify a conda environment or container for each rule.": (
        "what is measured is the site's own stack: its MPI, its torch, its modules. An environment made by Snakemake "
        "would replace it, and the run's capsule records what really ran."
    ),
}


def lints(folder: Path) -> list[tuple[str, str]]:
    """Return place and advice for all that Snakemake's linter says of the Snakefile in a folder."""
    printed = io.StringIO()
    with SnakemakeApi(OutputSettings(enable_file_logging=False)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(),
            storage_settings=StorageSettings(),
            workflow_settings=WorkflowSettings(),
            deployment_settings=DeploymentSettings(),
            snakefile=folder / "Snakefile",
            workdir=folder,
        )
        with contextlib.redirect_stdout(printed):
            workflow.lint(json=True)
    found: dict[str, list[dict[str, Any]]] = json.loads(printed.getvalue() or "{}")
    return [
        (" ".join(str(part) for part in entry["for"].values()), lint["title"])
        for kind in found.values()
        for entry in kind or []
        for lint in entry["lints"]
    ]


def main() -> int:
    """Print what is left for each experiment; return 1 if there is any."""
    folders = [path.parent for path in sorted(Path("Snakefiles").resolve().glob("*/Snakefile"))]
    if not folders:
        print("No Snakefiles/*/Snakefile here: run this at the top of the repository.", file=sys.stderr)
        return 2
    failed = False
    for folder in folders:
        found = dict.fromkeys(lints(folder))  # Rules that are imported as they are appear twice.
        left = [(place, title) for place, title in found if title not in NOT_FOLLOWED]
        for place, title in left:
            print(f"{folder.name}: {place}: {title}")
        failed = failed or bool(left)
        print(f"snakemake --lint {folder.name}: {len(left)} to mend, {len(found) - len(left)} not followed on purpose")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
