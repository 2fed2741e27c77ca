"""The JSON schema agrees with the models and carries their docstrings."""

import json
import subprocess
import sys

from simai_rules.config.experiment import ExperimentConfig
from simai_rules.config.registry import option_models
from simai_rules.config.schema import experiment_schema


def test_every_key_is_in_it_and_unknown_ones_are_refused():
    schema = experiment_schema()
    assert set(schema["properties"]) == set(ExperimentConfig.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name"]
    assert set(schema["$defs"]["BackendOptions"]["properties"]) == set(option_models())
    json.dumps(schema)


def test_docstrings_are_its_descriptions():
    schema = experiment_schema()
    assert schema["properties"]["elements"]["description"] == "Elements of one message, per rank and snapshot."
    assert schema["properties"]["repeats"]["description"] == "Each combination is run this many times."
    assert (
        "Cores that a rank is bound to"
        in schema["$defs"]["TrainingConfig"]["properties"]["cores_per_rank"]["description"]
    )
    assert schema["$defs"]["KernelConfig"]["properties"]["data_size"]["description"].startswith("Shape of the operands")


def test_limits_are_in_it():
    schema = experiment_schema()
    assert schema["properties"]["elements"]["minimum"] == 1
    assert schema["$defs"]["StagingConfig"]["properties"]["timeout"]["exclusiveMinimum"] == 0
    assert schema["properties"]["backend"]["enum"] == list(option_models())


def test_the_loader_is_light():
    code = "import sys, simai_rules.config.loader; print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numpy", "torch", "pyarrow", "matplotlib", "mpi4py", "snakemake", "yaml"):
        assert f"'{heavy}'" not in modules
