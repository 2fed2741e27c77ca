"""`simai-rules clean`: what dead runs have left goes, what is alive or somebody else's stays."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simai_rules.cli import main
from simai_rules.lifecycle.reaper import reap_dead_runs
from simai_rules.lifecycle.run_folder import RunFolder, all_runs
from simai_rules.process import Process, boot_of, pid_space
from simai_rules.staging.servers import ServerManager, server_registry


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The folder of this user's runs, for this test alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"simai-rules-{os.getuid()}"


@pytest.fixture
def run(state, tmp_path):
    """A run that is alive: this process is its server."""
    return RunFolder.create(tmp_path / "server.json", None)


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def rewrite(run, **changes):
    (run.folder / "lease.json").write_text(json.dumps(run.lease | changes))


def die(run, **changes):
    """Let its server be a process that has ended, whose pid has another one by now."""
    rewrite(run, owner=[os.getpid(), 1], guardian=[os.getppid(), 1], **changes)


def cleaned(capsys, *options, code=0):
    assert main(["clean", *options]) == code
    return capsys.readouterr().out


def test_nothing_to_clean(state, capsys):
    assert cleaned(capsys) == "nothing to clean\n"


def test_a_dead_run_is_removed_and_what_it_left_is_told(run, tmp_path, capsys, sleeper):
    staged, memory = tmp_path / "staged", Path(f"/dev/shm/simai-rules-{run.run_id}")
    for path, size in ((staged, 3_000_000), (memory, 2_000_000)):
        run.claim(path)
        path.mkdir()
        (path / "value").write_bytes(bytes(size))
    run.add_process(sleeper.pid, "server")
    die(run)
    said = cleaned(capsys)
    assert said.count("\n") == 1
    assert said.startswith(
        f"run {run.run_id}, which served {tmp_path}/server.json: dead (server process {os.getpid()} "
    )
    assert f"removed 1 processes ({sleeper.pid}), 3.0 MB of files, 2.0 MB of shared memory" in said
    assert sleeper.wait(5) != 0
    assert not staged.exists()
    assert not memory.exists()
    assert not run.folder.exists()
    assert cleaned(capsys) == "nothing to clean\n"


def test_a_dry_run_removes_nothing(run, tmp_path, capsys, sleeper):
    staged = tmp_path / "staged"
    run.claim(staged)
    staged.write_bytes(bytes(5000))
    run.add_process(sleeper.pid, "server")
    die(run)
    for _ in range(2):
        said = cleaned(capsys, "--dry-run")
        assert f"would remove 1 processes ({sleeper.pid}), " in said
    assert staged.exists()
    assert sleeper.poll() is None
    assert [found.run_id for found in all_runs()] == [run.run_id]


def test_a_running_run_is_listed_and_not_touched(run, tmp_path, capsys, sleeper):
    (tmp_path / "staged").mkdir()
    run.claim(tmp_path / "staged")
    run.add_process(sleeper.pid, "server")
    before = sorted(path.name for path in run.folder.rglob("*"))
    said = cleaned(capsys)
    assert f"run {run.run_id}" in said
    assert f"running (server process {os.getpid()}): left alone\nnothing to clean\n" in said
    assert sorted(path.name for path in run.folder.rglob("*")) == before
    assert (tmp_path / "staged").exists()
    assert sleeper.poll() is None
    # Its server was killed, but its guardian is at work.
    rewrite(run, owner=[os.getpid(), 1], guardian=list(Process.current()))
    assert "left alone" in cleaned(capsys)


def test_only_what_the_run_claimed_is_removed(run, state, tmp_path, capsys, sleeper):
    """A file beside, a user's folder with other things in it, a link's target, a pid that somebody else has by now."""
    theirs, shared, target = tmp_path / "theirs", tmp_path / "shared", tmp_path / "target"
    theirs.write_text("data")
    (state / "notes of mine.txt").write_text("data")
    for folder in (shared, target):
        folder.mkdir()
        (folder / "file").write_text("data")
    run.claim(shared, only_if_empty=True)
    run.claim(tmp_path / "link")
    (tmp_path / "link").symlink_to(target)
    (run.folder / "inner link").symlink_to(target)
    (run.folder / "processes" / str(sleeper.pid)).write_text(f"{Process.of(sleeper.pid).start - 1} server")
    (run.folder / "processes" / "notes").write_text("1 server")
    die(run)
    said = cleaned(capsys)
    assert "processes" not in said
    assert theirs.exists()
    assert (state / "notes of mine.txt").exists()
    assert (shared / "file").exists()
    assert (target / "file").exists()
    assert not (tmp_path / "link").is_symlink()
    assert not run.folder.exists()
    assert sleeper.poll() is None


def test_a_link_that_is_called_like_a_run_is_no_run(state, tmp_path, capsys):
    state.mkdir(mode=0o700)
    target = tmp_path / "precious"
    (target / "claims").mkdir(parents=True)
    (target / "lease.json").write_text("{}")
    os.utime(target, (0, 0))
    (state / "run-0123456789abcdef").symlink_to(target)
    assert cleaned(capsys) == "nothing to clean\n"
    assert (target / "lease.json").exists()


@pytest.mark.parametrize(
    "lease", [b"", b"\xff", b"[]", b"5", b"{}", b'{"owner": 5}', b'{"owner": ["a", {}]}', b"[" * 9999]
)
def test_a_run_with_an_unreadable_lease(run, tmp_path, capsys, lease, sleeper):
    staged = tmp_path / "staged"
    staged.touch()
    run.claim(staged)
    run.add_process(sleeper.pid, "server")
    (run.folder / "lease.json").write_bytes(lease)
    os.utime(run.folder, (0, 0))
    # It may be at work as long as one of its processes is.
    assert "left alone" in cleaned(capsys)
    assert staged.exists()
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()
    assert f"run {run.run_id}: dead (" in cleaned(capsys)
    assert not staged.exists()
    assert not run.folder.exists()


@pytest.mark.parametrize("note", ["claims/1.json", "components/simulation.json", "processes/5", "failures/server.json"])
@pytest.mark.parametrize("content", [b"\xff[", b"[" * 99999, b'{"path": 5, "command": 5, "state": 5, "launcher": 5}'])
def test_a_note_that_cannot_be_read_keeps_nothing_else_from_going(run, tmp_path, capsys, note, sleeper, content):
    staged = tmp_path / "staged"
    staged.touch()
    run.claim(staged)
    run.add_process(sleeper.pid, "server")
    (run.folder / note).write_bytes(content)
    die(run)
    assert f"removed 1 processes ({sleeper.pid})" in cleaned(capsys)
    assert not staged.exists()
    assert not run.folder.exists()
    assert sleeper.wait(5) != 0


def test_a_run_of_several_nodes_says_where_to_clean_too(run, capsys):
    hosts = [platform.node(), "node-b", "node-c"]
    die(run, hosts=hosts, clean_others=["mpiexec", "-hosts", "node-b,node-c", "a program", "clean"])
    assert "or this does: mpiexec -hosts node-b,node-c 'a program' clean" in cleaned(capsys)


def test_a_run_of_one_node_says_nothing_of_others(run, capsys):
    die(run, hosts=[platform.node()])
    assert "mpiexec" not in cleaned(capsys)


def test_a_run_of_another_node_is_left_to_that_node(run, capsys):
    """A temporary folder may be on a file system that many nodes share; pids of another node mean nothing here."""
    die(run, node="node-b")
    assert "made on the node node-b" in cleaned(capsys)
    assert run.folder.exists()


def test_a_run_of_another_container_of_this_node_is_left_to_it(run, tmp_path, capsys, sleeper):
    """Its pids mean nothing here, though name and temporary folder are the same (apptainer --pid)."""
    staged = tmp_path / "staged"
    staged.touch()
    run.claim(staged)
    run.add_process(sleeper.pid, "server")
    die(run, pid_space=f"{boot_of(pid_space())}-1")
    said = cleaned(capsys)
    assert "made in another container (pid namespace) of this node" in said
    assert str(run.folder) in said
    assert staged.exists()
    assert sleeper.poll() is None


def test_a_run_of_an_earlier_boot_of_this_node_is_dead(run, capsys):
    """Whatever process has one of its pids now, and were it started at the same time after the boot."""
    rewrite(run, pid_space=f"earlier-{pid_space().rpartition('-')[2]}")
    assert f"run {run.run_id}" in cleaned(capsys)
    assert not run.folder.exists()


def test_clean_in_another_pid_namespace_leaves_a_living_run(run, tmp_path):
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    (tmp_path / "staged").touch()
    run.claim(tmp_path / "staged")
    command = [*unshare, sys.executable, "-m", "simai_rules.cli", "clean"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "another container" in done.stdout
    assert (tmp_path / "staged").exists()


def test_a_state_folder_that_others_can_write_to_is_a_message(state, capsys):
    state.mkdir()
    state.chmod(0o777)
    assert main(["clean"]) == 1
    assert "is not a private folder of yours" in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_run_of_another_user_is_left_alone(run, state, capsys):
    die(run)
    os.chown(run.folder, 12345, -1)
    assert cleaned(capsys) == "nothing to clean\n"
    assert run.folder.exists()
    os.chown(state, 12345, -1)
    assert main(["clean"]) == 1
    assert "owner 12345" in capsys.readouterr().err


def test_what_cannot_be_removed_is_told_until_it_is_gone(run, tmp_path, capsys, monkeypatch, sleeper):
    parent, other = tmp_path / "staging", tmp_path / "other"
    run.claim(parent, only_if_empty=True)
    run.claim(parent / "held")
    run.claim(other)
    (parent / "held").mkdir(parents=True)
    (run.folder / "segments/1").touch()
    other.touch()
    die(run)
    remove = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **how: path == parent / "held" or remove(path, **how))
        for _ in range(2):
            said = cleaned(capsys, code=1)
            assert "removed what it could of" in said
            assert f"could not be removed: {parent / 'held'}." in said
            assert not other.exists()
        # What it had made and is gone is not its own any more, whoever makes it again.
        other.write_text("somebody else's")
        assert sorted(path.name for path in run.folder.iterdir()) == ["claims", "lease.json"]
        assert reap_dead_runs() == {run.run_id: [parent / "held"]}
    assert f"run {run.run_id}" in cleaned(capsys)
    assert not parent.exists()
    assert other.exists()
    assert cleaned(capsys) == "nothing to clean\n"


def test_a_claim_that_cannot_be_followed_keeps_no_other_from_being_removed(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in ("older", "file/below", "newer"):
        run.claim(tmp_path / name)
    (tmp_path / "older").touch()
    (tmp_path / "newer").touch()
    die(run)
    cleaned(capsys)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]
    assert not run.folder.exists()


@pytest.mark.parametrize("backend", ["node-local", "redis"])
def test_what_a_server_leaves_when_all_of_it_is_killed(state, capsys, backend):
    """A real server, its guardian and its children at once, as at the end of a walltime; then clean."""
    manager = ServerManager("killed", server_registry.create_config(backend))
    manager.start_server()
    try:
        [run] = all_runs()
        lease = run.lease
        assert lease["hosts"] == [platform.node()]
        assert f"running (server process {lease['owner'][0]})" in cleaned(capsys)
        # The guardian first: it would clean up.
        for number, start in (lease["guardian"], lease["owner"], *run.processes()):
            Process(number, start).send(9)
        claimed = [path for path, only_if_empty in run.claims() if not only_if_empty]
    finally:
        manager.stop_server()
    assert f"run {run.run_id}" in cleaned(capsys)
    assert not any(path.exists() for path in claimed)
    assert not any(process.alive for process in run.processes())
    assert cleaned(capsys) == "nothing to clean\n"
