"""`simai-rules backend`: the contract for anybody's backend, and a new one that keeps it at once."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig

import pytest
from registered import environment_with, register, source_of

from simai_rules.cli import main


def test_the_list(capsys):
    assert main(["backend", "list"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["filesystem"] == ["filesystem", "simai-rules", "job", "yes"]
    assert rows["node-local"][2] == "node"
    assert rows["null"][2] == "process"
    assert rows["daos-posix"][3:] == ["with", "backends.daos-posix.folder"]


def test_the_list_says_what_is_missing(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("dragon", "adios2") else find(name))
    monkeypatch.setenv("REDIS_SERVER", "/no/such/program")
    assert main(["backend", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "no: the Python package dragon is not installed (pip install 'simai-rules[dragon]')" in rows["dragon"]
    assert "simai-rules[adios2]" in rows["adios2"]
    assert "REDIS_SERVER=/no/such/program" in rows["redis"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nul"], "Did you mean 'null'?"),
        (["null", "--options", "{"], "--options is not JSON"),
        (["null", "--options", "[1]"], "takes a JSON object"),
        (["filesystem", "--options", '{"shard": 4}'], "Did you mean 'shards'?"),
        (["daos-posix", "--options", "{}"], "backends.daos-posix.folder"),
    ],
)
def test_what_cannot_be_tested_is_refused_with_the_remedy(capsys, arguments, said):
    assert main(["backend", "test", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_without_pytest_it_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["backend", "test", "null"]) == 1
    assert "needs pytest and pytest_timeout, not installed here. Get it by: pip install" in capsys.readouterr().err


def test_one_of_ours_with_options(capfd, tmp_path):
    options = json.dumps({"folder": str(tmp_path), "fsync": True})
    assert main(["backend", "test", "filesystem", "--options", options, "-k", "small_values or all_sizes"]) == 0
    output = capfd.readouterr().out
    assert "test_all_sizes[filesystem-3000000] PASSED" in output
    assert "backend filesystem: keeps the contract: 18 tests passed." in output


def run_contract(site, name, source, words):
    """Register the backend `name` and run the tests of the contract with `words` against it."""
    register(site, "their-package", {name: "their_module"}, their_module=source)
    return subprocess.run(
        [sys.executable, "-m", "simai_rules.cli", "backend", "test", name, "-k", words],
        env=environment_with(site),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_backend_that_breaks_the_contract_fails(tmp_path):
    source = source_of("forgetful").replace("return False", "return True")
    done = run_contract(tmp_path / "site", "forgetful", source, "deleting or overwriting")
    assert done.returncode == 1
    assert "test_deleting[forgetful] FAILED" in done.stdout
    assert "does NOT keep the contract: 1 of 2 tests failed, 1 passed." in done.stdout


def test_a_server_that_does_not_start_is_a_failure_with_its_reason(tmp_path):
    source = source_of("gone").replace('= "/tmp"', '= "/no/such/folder"')
    done = run_contract(tmp_path / "site", "gone", source, "deleting")
    assert done.returncode == 1
    assert "/no/such/folder" in done.stdout
    assert "does NOT keep the contract" in done.stdout


def test_a_stand_in_is_named_and_is_none_for_whoever_gives_options(capfd, tmp_path):
    assert main(["backend", "test", "daos-posix", "-k", "deleting"]) == 0
    assert "daos-posix was tested against a stand-in." in capfd.readouterr().out
    options = json.dumps({"folder": str(tmp_path)})  # on no DAOS
    assert main(["backend", "test", "daos-posix", "--options", options, "-k", "deleting"]) == 1
    output = capfd.readouterr().out
    assert "does NOT keep the contract" in output
    assert "stand-in" not in output


def test_where_nothing_was_tested_nothing_is_kept(capfd):
    """All skipped: what null writes leaves no process."""
    assert main(["backend", "test", "null", "-k", "many_clients"]) == 1
    assert "backend null: nothing was tested; the reasons are above." in capfd.readouterr().out


@pytest.mark.parametrize("name", ["Mine", "a b", "a_b", "-a", "a--b", "../x", "redis", "copy", "ü", ""])
def test_names_that_no_backend_can_have(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert main(["backend", "new", f"--folder={tmp_path / 'new'}", "--", name]) == 1
    assert repr(name) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["backend", "new", "my-store", "--folder", str(tmp_path)]) == 1
    assert main(["backend", "new", "my-store", "--folder", str(tmp_path / "mine.txt")]) == 1
    assert capsys.readouterr().err.count("is there already, and nothing is overwritten") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_new_backend_is_installed_and_keeps_the_contract_at_once(tmp_path):
    """In an environment of its own, which sees the packages of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    python, packages = tmp_path / "venv/bin/python", sysconfig.get_path("purelib")
    [site] = (tmp_path / "venv/lib").glob("python3*/site-packages")
    (site / "parent.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    # mpi4py looks for the MPI of its own environment, which is the parent's here.
    environment = os.environ | {"LD_LIBRARY_PATH": f"{sys.prefix}/lib"}
    here = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}

    done = subprocess.run([python, "-m", "simai_rules.cli", "backend", "new", "my-store"], timeout=60, **here)
    assert done.returncode == 0, done.stderr
    assert "pip install -e my-store\n  simai-rules backend test my-store" in done.stdout
    # Where the build tool is installed, no index is needed.
    isolated = [] if importlib.util.find_spec("hatchling") is None else ["--no-build-isolation"]
    install = [python, "-m", "pip", "install", "--no-deps", *isolated, "-e", "my-store"]
    done = subprocess.run(install, timeout=120, **here)
    if isolated == [] and "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("hatchling is not installed, and pip reaches no index that has it")
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([python, "-m", "simai_rules.cli", "backend", "test", "my-store"], timeout=250, **here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend my-store: keeps the contract" in done.stdout


def test_the_template_is_no_longer_than_it_says():
    assert len(source_of("my-store").splitlines()) <= 200
