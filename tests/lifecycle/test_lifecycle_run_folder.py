"""The run folder: claims newest first, the first failure is kept, processes are known by their start."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from simai_rules.errors import UserError
from simai_rules.lifecycle.reaper import clean, reap_dead_runs
from simai_rules.lifecycle.run_folder import RunEnded, RunFolder, all_runs
from simai_rules.process import Process


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "point").mkdir()
    return RunFolder.create(tmp_path / "server.json", tmp_path / "point")


def test_a_run_is_private_and_listed(run):
    assert run.folder.stat().st_mode & 0o777 == 0o700
    assert [other.run_id for other in all_runs()] == [run.run_id]
    assert run.in_use()


def test_the_first_failure_of_a_part_is_kept_and_the_cause_comes_first(run, tmp_path):
    run.fail("training", "no memory")
    run.fail("training", "second thought")
    run.fail("server", "ended")
    assert [(failure.component, failure.reason) for failure in run.failures()] == [
        ("training", "no memory"),
        ("server", "ended"),
    ]
    copy = json.loads((tmp_path / "point/failures/training.json").read_text())
    assert copy["reason"] == "no memory"


def test_cleaning_removes_claims_and_nothing_else(run, tmp_path):
    mine, shared, kept = tmp_path / "mine", tmp_path / "shared", tmp_path / "kept"
    run.claim(shared, only_if_empty=True)
    run.claim(kept, only_if_empty=True)
    run.claim(mine)
    for folder in (mine, shared, kept):
        folder.mkdir()
    (mine / "staged").write_text("data")
    (kept / "somebody else's").write_text("data")
    clean(run, "")
    assert not mine.exists()
    assert not shared.exists()
    assert (kept / "somebody else's").exists()
    assert not run.folder.exists()


def test_what_only_a_command_removes_is_removed_by_it(run, tmp_path):
    run.claim_by_command(["/no such program"])
    run.claim_by_command(["touch", str(tmp_path / "a name; with $odd characters")])
    clean(run, "")
    assert (tmp_path / "a name; with $odd characters").exists()
    assert not run.folder.exists()


def test_room_is_kept_for_a_reason_and_given_back(run, tmp_path):
    run.keep_room()
    room = tmp_path / "point/failures/.room"
    assert room.stat().st_blocks > 0
    run.fail("training", "no space left")
    assert not room.exists()
    run.keep_room()
    clean(run, "")
    assert [path.name for path in (tmp_path / "point/failures").iterdir()] == ["training.json"]


def test_no_folder_of_failures_is_left_where_none_failed(run, tmp_path):
    run.keep_room()
    clean(run, "")
    assert list((tmp_path / "point").iterdir()) == []


def test_half_written_files_of_killed_processes_are_removed(run, tmp_path):
    point = tmp_path / "point"
    (point / "failures").mkdir()
    child = subprocess.Popen(["sleep", "60"])
    left = [
        tmp_path / ".server.json.{}.tmp",
        point / ".training.parquet.{}.tmp",
        point / "failures/.server.json.{}.tmp",
    ]
    left = [path.with_name(path.name.format(child.pid)) for path in left]
    kept = [point / f".training.parquet.{os.getpid()}.tmp", point / ".mine.tmp", tmp_path / ".other.json.1.tmp"]
    for path in (*left, *kept):
        path.touch()
    child.kill()
    child.wait()
    clean(run, "")
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_a_claimed_link_is_removed_not_followed(run, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("data")
    run.claim(tmp_path / "link")
    (tmp_path / "link").symlink_to(target)
    clean(run, "")
    assert (target / "file").exists()
    assert not (tmp_path / "link").is_symlink()


def test_cleaning_ends_the_processes_of_the_run_only(run):
    mine = subprocess.Popen(["sleep", "60"])
    other = subprocess.Popen(["sleep", "60"])
    run.add_process(mine.pid, "server")
    # A pid that was written down for a process that has ended, and that somebody else has by now.
    (run.folder / "processes" / str(other.pid)).write_text(f"{Process.of(other.pid).start - 1} server")
    clean(run, "")
    assert mine.wait(5) != 0
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_component_whose_launcher_has_gone_is_explained(run, tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    entry = {"state": "running", "launcher": list(Process.of(child.pid))}
    (run.folder / "components/simulation.json").write_text(json.dumps(entry))
    child.kill()
    child.wait()
    clean(run, "its process was killed")
    reason = json.loads((tmp_path / "point/failures/simulation.json").read_text())["reason"]
    assert "simulation was killed" in reason


def test_of_what_ranks_wrote_down_only_files_of_mpi_are_removed(run, tmp_path):
    precious, hydra = tmp_path / "precious", Path(f"/tmp/hydra_hwloc_xmlfile_{run.run_id}")
    lines = [precious, f"/dev/shm/../{precious}", f"/tmp/hydra_hwloc_xmlfile_/../{precious}", hydra]
    precious.write_text("data")
    hydra.write_text("data")
    (run.folder / "segments/1").write_text("\n".join(map(str, lines)))
    clean(run, "")
    assert precious.exists()
    assert not hydra.exists()


def test_only_dead_runs_are_reaped(run):
    assert reap_dead_runs() == {}
    lease = run.lease | {"owner": [run.lease["owner"][0], 1], "guardian": None}
    (run.folder / "lease.json").write_text(json.dumps(lease))
    assert reap_dead_runs() == {run.run_id: []}
    assert all_runs() == []


def test_processes_end_though_no_reason_can_be_written(run, tmp_path, monkeypatch):
    """On a full disk, say."""
    mine, claimed = subprocess.Popen(["sleep", "60"]), tmp_path / "claimed"
    run.add_process(mine.pid, "server")
    run.claim(claimed)
    claimed.touch()
    (run.folder / "components/training.json").write_text('{"state": "running", "launcher": [1, 1]}')

    def fail(*_):
        raise UserError("no space left")

    monkeypatch.setattr(run, "fail", fail)
    clean(run, "its process was killed")
    assert mine.wait(5) != 0
    assert not claimed.exists()
    assert not run.folder.exists()


def test_a_folder_that_was_removed_is_not_made_again(run, tmp_path):
    clean(run, "")
    for write in (
        lambda: run.set_component("training", "running"),
        lambda: run.fail("training", "x"),
        lambda: run.claim(tmp_path / "x"),
    ):
        with pytest.raises(RunEnded):
            write()
    run.add_process(1, "training")
    assert not run.folder.exists()


def test_a_broken_run_folder_is_removed_and_does_not_stop_the_others(run, tmp_path):
    broken = run.folder.with_name("run-0000000000000000")
    (broken / "components").mkdir(parents=True)
    (broken / "components/training.json").write_text("{cut sho")
    os.utime(broken, (0, 0))
    lease = run.lease | {"owner": [run.lease["owner"][0], 1], "guardian": None}
    (run.folder / "lease.json").write_text(json.dumps(lease))
    assert sorted(reap_dead_runs()) == sorted([run.run_id, "0" * 16])
    assert all_runs() == []


def test_a_point_folder_that_cannot_be_written_does_not_stop_the_cleaning(run, tmp_path):
    (tmp_path / "point/failures").write_text("a file where a folder should be")
    mine = tmp_path / "mine"
    run.claim(mine)
    mine.mkdir()
    (run.folder / "components/training.json").write_text('{"state": "running", "launcher": [1, 1]}')
    clean(run, "its process was killed")
    assert not mine.exists()
    assert not run.folder.exists()
