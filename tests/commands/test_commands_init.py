"""`simai-rules init` makes a folder that stands on its own, and destroys nothing."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simai_rules import resources
from simai_rules.cli import main
from simai_rules.commands import init
from simai_rules.errors import UserError
from simai_rules.resources import shipped


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    init.add_arguments(parser)
    return parser.parse_args(argv)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of another content, with what a run leaves in a checkout."""
    root = tmp_path / "installed"
    files = {
        "Snakefiles/many_to_one/Snakefile": "rule all:",
        "Snakefiles/many_to_one/parts/a.csv": "1,2",
        "Snakefiles/many_to_one/results/demo/summary.csv": "measured",
        "Snakefiles/many_to_one/.snakemake/log/a": "log",
        "Snakefiles/notes/README.md": "no experiment: it has no Snakefile",
        "profiles/default/config.v8+.yaml": "cores: 8",
        "templates/experiment/gitignore": "results/\n",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    monkeypatch.setattr(resources, "_PACKAGE", root / "simai_rules")
    return root


def test_the_folder_has_what_the_experiment_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my study"
    assert main(["init", str(folder)]) == 0
    made = tree(folder)
    assert {"Snakefile", "config.yaml", "profiles/default/config.v8+.yaml", ".gitignore"} <= set(made)
    assert made["Snakefile"] == (shipped("Snakefiles/one_to_one") / "Snakefile").read_bytes()
    assert not {name for name in made if name.startswith(("results/", ".snakemake/"))}
    assert b"results/" in made[".gitignore"]
    said = capsys.readouterr().out
    assert f"cd '{folder}'" in said
    assert "simai-rules points" in said
    assert "simai-rules profile list" in said
    assert "snakemake --profile NAME" in said
    assert {name for name in made if name.startswith("profiles/")} == {
        "profiles/default/config.v8+.yaml", "profiles/local/config.v8+.yaml", "profiles/local/system.yaml"
    }  # fmt: skip


def test_only_what_belongs_to_the_experiment_is_copied(other: Path, tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "a"), "--experiment", "many_to_one"]) == 0
    assert set(tree(tmp_path / "a")) == {"Snakefile", "parts/a.csv", "profiles/default/config.v8+.yaml", ".gitignore"}


def test_a_second_init_changes_nothing_and_brings_back_what_is_missing(tmp_path: Path) -> None:
    init.run(arguments(str(tmp_path)))
    before = tree(tmp_path)
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "notes.txt").write_text("mine")
    init.run(arguments(str(tmp_path)))
    after = tree(tmp_path)
    assert after == before | {"notes.txt": b"mine"}
    assert all((tmp_path / name).stat().st_mtime_ns == stamps[name] for name in before if name != "config.yaml")


def test_files_that_differ_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "profiles" / "default").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("name: mine\n")
    (tmp_path / "profiles" / "default" / "config.v8+.yaml").write_text("cores: 3\n")
    before = tree(tmp_path)
    with pytest.raises(UserError) as error:
        init.run(arguments(str(tmp_path)))
    assert "config.yaml" in str(error.value)
    assert "profiles/default/config.v8+.yaml" in str(error.value)
    assert "Snakefile" not in str(error.value)
    assert tree(tmp_path) == before


def test_a_gitignore_of_the_users_stays_and_what_it_lacks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\nresults\n")
    assert main(["init", str(tmp_path)]) == 0
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\nresults\n"
    assert "which was left as it is: staging/ .snakemake/\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["one-to-one", "onetoone", "one_to_on"])
def test_a_wrong_name_lists_the_right_ones(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "a"), "--experiment", name]) == 1
    said = capsys.readouterr().err
    assert f"There is no experiment '{name}'. Did you mean 'one_to_one'? There are: " in said
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        init.run(arguments(str(tmp_path / "a")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        init.run(arguments(str(tmp_path / "a")))


def test_a_parent_that_is_a_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(UserError, match=r"Cannot (write|read)"):
        init.run(arguments(str(tmp_path / "a" / "b")))


def test_the_folder_plans_its_points_away_from_the_repository(tmp_path: Path) -> None:
    init.run(arguments(str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--configfile", "demo.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^training +24$", done.stdout, re.MULTILINE)
    assert re.search(r"^report +1$", done.stdout, re.MULTILINE)
