"""Backends that other packages register: one that works is as good as our own, one that does not says why."""

import json
import subprocess
import sys

import pytest
import yaml
from experiment import Experiment
from registered import environment_with, register, source_of

from simai_rules.launch.launcher import find_program

CHECK = """
import json, sys
from pathlib import Path
from simai_rules.config.loader import parse_experiment
from simai_rules.errors import UserError
answers = []
for config in json.loads(sys.argv[1]):
    try:
        answers.append(str(list(parse_experiment(config, Path(), "config.yaml").points)))
    except UserError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def run(environment, *command, code=0, **options):
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=100, check=False, **options
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def third_party(tmp_path):
    """An environment with one backend that works and several that do not."""
    folder = tmp_path / "site"
    register(
        folder,
        "good-package",
        {"my-store": "their_store", "redis": "their_store"},
        their_store=source_of("my-store"),
    )
    register(
        folder,
        "bad-package",
        {"no-import": "bad_import", "no-parts": "bad_parts", "no-config": "bad_config", "no-default": "bad_default",
         "Bad/Name": "their_store", "copy": "their_store", "twice": "bad_parts",
         "exits": "bad_exits", "odd": "bad_odd"},
        bad_import="import a_package_that_is_nowhere",
        bad_parts="Config = connect = None",
        bad_config=source_of("another-name"),
        bad_default=source_of("no-default").replace(' = "/tmp"', ""),
        bad_exits="raise SystemExit('needs a GPU')",
        bad_odd=source_of("odd").replace(' = "/tmp"', ' = Field(default_factory=lambda: {}["TOKEN"])'),
    )  # fmt: skip
    register(folder, "other-package", {"twice": "their_store"})
    return environment_with(folder, TMPDIR=str(tmp_path))


REASONS = {
    "no-import": "bad-package 1.0 (bad_import) cannot be imported: ModuleNotFoundError",
    "no-parts": "lacks make_server",
    "no-config": "Literal['no-config']",
    "no-default": "without a valid default (folder)",
    "Bad/Name": "small letters",
    "copy": "in use by simai-rules' own code",
    "twice": "is registered by",
    "exits": "bad-package 1.0 (bad_exits) cannot be imported: SystemExit: needs a GPU",
    "odd": "its Config fails with its defaults: KeyError: 'TOKEN'",
}


def parsed(environment, *configs):
    """Return for each config the paths of its points, or what is wrong with it."""
    return json.loads(run(environment, "-c", CHECK, json.dumps([{"name": "x", **config} for config in configs])))


def test_one_that_works_is_on_the_axis_and_has_options(third_party):
    axis = {"sweep": {"axes": {"backend": ["filesystem", "my-store"]}}}
    good, typo, far = parsed(
        third_party,
        axis | {"backends": {"my-store": {"folder": "/dev/shm"}}},
        axis | {"backends": {"my-store": {"foldr": "/x"}}},
        {"backend": "my-store", "layout": "apart", "nodes": 2},
    )
    assert "backend~my-store" in good
    assert "backends.my-store.foldr: unknown key. Did you mean 'folder'?" in typo
    assert "can be read on its writer's node alone" in far


def test_one_that_does_not_work_says_why_where_it_is_used(third_party):
    uses = [
        use
        for name in REASONS
        for use in (
            {"backend": name},
            {"sweep": {"axes": {"backend": ["filesystem", name]}}},
            {"backends": {name: {}}},
        )
    ]
    answers = parsed(third_party, *uses)
    for number, answer in enumerate(answers):
        name = list(REASONS)[number // 3]
        assert REASONS[name] in answer
        assert f"The backend {name!r} of" in answer
        assert answer.startswith("config.yaml has 1 problem:")
    command = [
        "-m", "simai_rules.cli", "serve", "--config", '{"type": "no-import"}',
        "--output", f"{third_party['TMPDIR']}/server.json",
    ]  # fmt: skip
    assert REASONS["no-import"] in run(third_party, *command, code=1)


def test_one_that_does_not_work_disturbs_no_other(third_party):
    [points] = parsed(third_party, {"sweep": {"axes": {"backend": ["redis"]}}})
    assert "backend~redis" in points
    code = "from simai_rules.config.registry import option_models; print(option_models()['redis'].__module__)"
    assert run(third_party, "-c", code) == "simai_rules.config.backends\n"


def test_the_schema_has_it(third_party):
    schema = json.loads(run(third_party, "-m", "simai_rules.cli", "schema"))
    assert "my-store" in schema["properties"]["backend"]["enum"]
    assert "no-import" not in schema["properties"]["backend"]["enum"]
    assert "my-store" in schema["$defs"]["BackendOptions"]["properties"]


def test_the_list_names_all_of_them(third_party):
    lines = run(third_party, "-m", "simai_rules.cli", "backend", "list").splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["my-store"].split()[1:] == ["good-package", "1.0", "node", "yes"]
    assert "simai-rules" in rows["redis"]
    for name, reason in REASONS.items():
        assert reason in rows[name]
    assert "Ignored: 'redis' of good-package 1.0; this name is simai-rules' own." in lines


@pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
def test_it_couples_a_simulation_and_a_training(third_party, traces, tmp_path):
    environment = traces.environment | {"PYTHONPATH": third_party["PYTHONPATH"]}
    experiment = Experiment(
        tmp_path / "own", environment, sweep={"axes": {"backend": ["my-store"], "elements": [1000]}}
    )
    experiment.config["backends"] = {"my-store": {"folder": str(traces.folder)}}
    experiment.config["staging"] = {"timeout": 150, "start_timeout": 60}
    experiment.config["simulation"]["ranks_per_node"] = experiment.config["training"]["ranks_per_node"] = 1
    experiment.save()
    listed = run(environment, "-m", "simai_rules.cli", "points", cwd=experiment.folder)
    assert "my-store" in listed
    assert yaml.safe_load((experiment.folder / "config.yaml").read_text())["backends"] == experiment.config["backends"]
    code, output = experiment.run(*experiment.events(experiment.point("my-store")))
    assert code == 0, output
    point = experiment.point("my-store")
    assert all((point / f"{name}.parquet").exists() for name in ("simulation", "training"))
