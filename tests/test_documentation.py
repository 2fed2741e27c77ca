"""The documentation says what is true: every key with its default, and the commands of the tutorial and README run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from simai_rules.config.base import Strict
from simai_rules.config.experiment import ExperimentConfig
from simai_rules.config.system import SystemConfig
from simai_rules.launch.launcher import find_program

TOP = Path(__file__).parents[1]
needs_mpi = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")


def models_of(annotation) -> list[type[BaseModel]]:
    """The config models in a type such as `list[KernelConfig]`."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_of(part)]


def leaves(model: type[BaseModel], prefix: str = "", seen: set | None = None):
    """Every key of `model` that is not a block of keys, with its default.

    The blocks of a list, such as kernels, are documented where they come first; after that the list is a key.
    """
    seen = set() if seen is None else seen
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = [
            found for found in models_of(field.annotation) if found.__module__ != "simai_rules.config.distributions"
        ]
        kind = str(field.annotation)
        repeated = "[]" if kind.startswith("list") else ".NAME" if kind.startswith("dict") else ""
        if inner and not (repeated == "[]" and seen >= set(inner)):
            seen |= set(inner)
            for each in inner:
                yield from leaves(each, f"{key}{repeated}.", seen)
        elif name != "type":
            yield key, field


def documented(title: str) -> dict[str, str]:
    text = (TOP / "docs/config.md").read_text()
    text = text.split("## system.yaml")[1 if title == "system" else 0]
    return dict(re.findall(r"^\| `([^`]+)` \| `?([^|`]+?)`? \|", text, re.MULTILINE))


@pytest.mark.parametrize(("title", "model"), [("experiment", ExperimentConfig), ("system", SystemConfig)])
def test_every_key_is_documented_with_its_default(title, model):
    found = documented(title)
    expected = {}
    for key, field in leaves(model):
        if field.is_required():
            expected[key] = "required"
        elif field.default is None:
            expected[key] = "none"
        elif field.default == "":  # checked where the backend is used (BackendBase.required)
            expected[key] = "required"
        elif isinstance(field.default, str):
            expected[key] = field.default
        else:
            default = field.default
            expected[key] = "{}" if isinstance(default, BaseModel) else json.dumps(default)
    assert {key: default for key, default in found.items() if key[0].isalpha()} == expected


def commands(file: str) -> str:
    """The shell commands of a page, in order, as one script."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", (TOP / file).read_text(), re.DOTALL | re.MULTILINE))


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    bin_folder = Path(sys.executable).parent
    answer = subprocess.run(
        ["bash", "-exc", script],
        cwd=folder,
        env=environment | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    return answer.stdout


@needs_mpi
@pytest.mark.timeout(900)
def test_the_tutorial_runs(traces, tmp_path):
    output = run(commands("docs/tutorial.md"), tmp_path, traces.environment)
    assert "Did you mean 'write_every'?" in output
    assert "Nothing to be done" in output
    assert "'status': ['ok'" in output
    report = tmp_path / "my-experiment/results/mine/report.html"
    assert "8 of 8 points done" in report.read_text()


@needs_mpi
def test_the_python_example_of_the_readme_runs(traces, tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```", (TOP / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    answer = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=traces.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "10\n"


def test_the_readme_shows_the_commands_that_the_makefile_has(tmp_path):
    script = commands("README.md")
    assert script.splitlines()[:2] == ["git clone REPOSITORY simai-rules && cd simai-rules", "make demo"]
    if not (TOP / "Makefile").exists():
        pytest.skip("an installed copy has no Makefile")
    for target in set(re.findall(r"^make (\w+)", script, re.MULTILINE)):
        subprocess.run(["make", "-n", target], cwd=TOP, check=True, capture_output=True)


def test_the_readme_makes_a_folder_and_lists_its_points(traces, tmp_path):
    """The README's second block but for `pip install`, and for the run of the nekRS case, which takes hours."""
    block = next(block for block in commands("README.md").split("\npip install")[1:])
    lines = [line for line in block.splitlines()[1:] if line.startswith("simai-rules") and "report" not in line]
    assert len(lines) == 5
    output = run("\n".join(lines), tmp_path, traces.environment | {"HOME": str(tmp_path)})
    assert output.count("90 points") == 2
    assert "redis-server" in output
    assert "aurora, debug: 15 jobs (1 at a time)" in output
    assert shutil.which("snakemake")
    output = run("cd my-experiment && snakemake -n -q", tmp_path, traces.environment)
    assert "summarize" not in output or "Error" not in output
