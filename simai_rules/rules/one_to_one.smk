"""Pattern one-to-one: every simulation rank feeds the training rank beside it, through one staging server per point."""

from pathlib import Path

from snakemake.exceptions import WorkflowError

from simai_rules.config.import_paths import check_import_paths
from simai_rules.config.loader import parse_experiment
from simai_rules.config.yaml_file import read_mapping
from simai_rules.errors import UserError
from simai_rules.launch.placement import check_placements
from simai_rules.rules import render_staging_rules
from simai_rules.rules.submission import Submission

try:
    experiment = parse_experiment(
        config, Path.cwd(), ", ".join(map(str, workflow.configfiles)) or "the config"
    )
    check_placements(experiment.points.values())
    check_import_paths(experiment.points.values(), Path.cwd())
    backends = [point.backend for point in experiment.points.values()]
    staging_rules = render_staging_rules(backends, Path(".snakemake/simai-rules"))
except UserError as error:
    # Snakemake prints this kind as a message, others with a traceback.
    raise WorkflowError(str(error)) from None

BASE = f"{experiment.config.results}/{experiment.config.name}"
POINT = f"{BASE}/{{point}}"
submission = Submission(workflow, experiment)


# Of every submitted job, not of all of them together: a pack of points has the nodes of the largest, one after another.
resource_scopes:
    nodes="local",
    points="local",


include: "configure.smk"


for rules_of_backend in staging_rules:

    include: rules_of_backend


include: "components.smk"
include: "results.smk"
