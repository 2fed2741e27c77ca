import json
import os
import subprocess

from simai_rules import __version__
from simai_rules.events.capsule import collect, write_capsule
from simai_rules.events.recorder import Recorder


def test_a_rank_reports_the_cores_it_may_really_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert collect(2, 1, "node5")["affinity"] == [min(before)]
    finally:
        os.sched_setaffinity(0, before)


def test_threads_and_identity_are_in_the_capsule(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("UNRELATED", "secret")
    capsule = collect(2, 1, "node5")
    assert (capsule["rank"], capsule["local_rank"], capsule["host"]) == (2, 1, "node5")
    assert capsule["pid"] == os.getpid()
    assert capsule["threads"]["OMP_NUM_THREADS"] == "3"
    assert "secret" not in json.dumps(capsule)


def test_the_file_holds_versions_modules_and_the_git_state_of_the_folder(tmp_path, monkeypatch):
    repo = tmp_path / "repo"
    repo.mkdir()
    monkeypatch.chdir(repo)
    monkeypatch.setenv("LOADEDMODULES", "cray-mpich/8.1:python/3.11")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    (repo / "Snakefile").write_text("")
    subprocess.run([*git, "add", "Snakefile"], check=True)
    write_capsule(Recorder("simulation", 0, "node0"), None, tmp_path / "c.json", {"run_id": "r"})
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["software"]["packages"]["simai-rules"] == __version__
    assert content["software"]["modules"] == ["cray-mpich/8.1", "python/3.11"]
    assert content["software"]["git"]["changed"] == ["Snakefile"]
    assert len(content["software"]["git"]["commit"]) == 40
    assert content["nodes"]["node0"]["memory_bytes"] > 0
    assert content["run_id"] == "r"


def test_a_folder_without_git_has_no_git_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write_capsule(Recorder("simulation", 0, "node0"), None, tmp_path / "c.json", {})
    assert json.loads((tmp_path / "c.json").read_text())["software"]["git"] == {}
