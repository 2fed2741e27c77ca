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


def placed(monkeypatch, cores, gpus="0"):
    """The environment of the second rank of a node, as the wrapper leaves it."""
    monkeypatch.setenv("SIMAI_LOCAL_RANK", "1")
    monkeypatch.setenv("SIMAI_CORES", json.dumps([[], cores]))
    monkeypatch.setenv("SIMAI_GPUS", '[["0"], ["1"]]')
    monkeypatch.setenv("SIMAI_GPU_VARIABLE", "CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)


def test_what_a_rank_was_placed_on_and_what_it_has_are_both_there(tmp_path, monkeypatch, capsys):
    have = sorted(os.sched_getaffinity(0))
    placed(monkeypatch, have, gpus="1")
    write_capsule(Recorder("simulation", 1, "n2", 1), None, tmp_path / "c.json", {})
    content = json.loads((tmp_path / "c.json").read_text())
    both = {"cores": have, "gpus": {"CUDA_VISIBLE_DEVICES": "1"}}
    assert content["ranks"][0]["binding"] == {"asked": both, "observed": both}
    assert content["differs"] == []
    assert capsys.readouterr().err == ""


def test_a_difference_is_a_warning_in_the_log_and_listed(tmp_path, monkeypatch, capsys):
    have = sorted(os.sched_getaffinity(0))
    placed(monkeypatch, [10_000])
    write_capsule(Recorder("simulation", 1, "n2", 1), None, tmp_path / "c.json", {})
    expected = [
        f"rank 1 on n2: placed on cores [10000], runs on {have}",
        "rank 1 on n2: placed on CUDA_VISIBLE_DEVICES=1, sees 0",
    ]
    assert json.loads((tmp_path / "c.json").read_text())["differs"] == expected
    assert [line for line in capsys.readouterr().err.splitlines() if "warning" in line] == [
        f"simai-rules: warning: simulation {text}" for text in expected
    ]


def test_a_folder_without_git_has_no_git_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write_capsule(Recorder("simulation", 0, "node0"), None, tmp_path / "c.json", {})
    assert json.loads((tmp_path / "c.json").read_text())["software"]["git"] == {}
