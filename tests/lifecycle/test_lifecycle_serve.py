"""`simai-rules serve`: ready, failed or stopped, and nothing left behind however it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from simai_rules.config.experiment import Point
from simai_rules.config.system import SystemConfig
from simai_rules.files import write_json
from simai_rules.lifecycle.run_folder import RunFolder
from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.servers import ServerManager, server_registry

BACKENDS = ["filesystem", "node-local", "redis"]


def point_of(config):
    return Point(
        experiment="test",
        path=f"backend~{config['type']}/elements~8/nodes~1/repeat~0",
        axes={},
        repeat=0,
        backend=config["type"],
        elements=8,
        server=config,
        system=SystemConfig(),
    )


class Serve:
    """A running `simai-rules serve`."""

    def __init__(self, traces, folder, config, *, point=False, **options):
        self.folder, self.file, self.log = folder, folder / "server.json", folder / "serve.log"
        source = ["--config", json.dumps(config)]
        if point:
            write_json(folder / "point.json", point_of(config).model_dump(mode="json", by_alias=True))
            source = ["--point", folder / "point.json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simai_rules.cli", "serve", *source, "--output", self.file],
            env=traces.environment | options.pop("environment", {}),
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            cwd=folder,
            **options,
        )

    def wait_for(self, *states, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.file.exists() and (info := ServerInfo.read(self.file)).state in states:
                return info
            time.sleep(0.02)
        raise AssertionError(
            f"not {states}: {self.file.read_text() if self.file.exists() else ''} {self.log.read_text()}"
        )

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, text):
        return next(child for child in self.children() if text in " ".join(child.cmdline()))


@pytest.fixture
def start(traces, tmp_path):
    started = []

    def starter(config, **options):
        folder = tmp_path / f"point{len(started)}"
        folder.mkdir()
        started.append(Serve(traces, folder, config, **options))
        return started[-1]

    yield starter
    for serve in started:
        if serve.process.poll() is None:
            serve.process.kill()
        serve.process.wait()


@pytest.mark.parametrize("backend", BACKENDS)
def test_serves_until_sigterm(start, traces, backend):
    serve = start({"type": backend})
    info = serve.wait_for("ready")
    assert info.backend == backend
    assert len(info.hosts) == 1
    assert serve.file.stat().st_mode & 0o777 == 0o600
    with DataStore("test", serve.file) as store:
        store.stage_write("key", "value")
        assert store.stage_read("key") == "value"
    serve.process.terminate()
    assert serve.process.wait(10) == 0
    assert traces.left() == []
    assert serve.wait_for("stopped").address == {}
    assert not (serve.folder / "staging").exists()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_after_any_end(start, traces, backend, number):
    serve = start({"type": backend})
    serve.wait_for("ready")
    with DataStore("test", serve.file) as store:
        store.stage_write("key", b"x" * 1_000_000)
    serve.process.send_signal(number)
    serve.process.wait(10)
    assert traces.left_after(5) == []
    info = serve.wait_for("failed" if number == signal.SIGKILL else "stopped")
    assert ("killed" in info.reason) == (number == signal.SIGKILL)
    assert not (serve.folder / "staging").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_ends_with_its_parent(traces, tmp_path, backend):
    file = tmp_path / "server.json"
    command = [sys.executable, "-m", "simai_rules.cli", "serve", "--output", str(file), "--config"]
    shell = subprocess.Popen(
        ["sh", "-c", '"$@"; echo ended', "sh", *command, json.dumps({"type": backend})],
        env=traces.environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (file.exists() and ServerInfo.read(file).state == "ready"):
        time.sleep(0.02)
    shell.kill()
    shell.wait()
    assert traces.left_after(5) == []
    info = ServerInfo.read(file)
    assert info.state == "failed"
    assert "has ended" in info.reason


def test_killed_redis_is_a_failure_with_its_reason(start):
    serve = start({"type": "redis"})
    serve.wait_for("ready")
    serve.child("redis-server").kill()
    assert "was ended by signal 9" in serve.wait_for("failed").reason
    assert serve.process.wait(10) == 1
    assert "was ended by signal 9" in serve.log.read_text()


def test_halted_redis_is_a_failure(start):
    serve = start({"type": "redis"})
    serve.wait_for("ready")
    serve.child("redis-server").send_signal(signal.SIGSTOP)
    assert "is halted" in serve.wait_for("failed").reason
    assert serve.process.wait(10) == 1


@pytest.mark.parametrize("backend", ["filesystem", "node-local"])
def test_a_removed_staging_folder_is_a_failure(start, backend):
    serve = start({"type": backend})
    Path(serve.wait_for("ready").address["folder"]).rmdir()
    assert "is gone" in serve.wait_for("failed").reason


def test_redis_has_a_password_and_listens_on_loopback_only(start):
    serve = start({"type": "redis"})
    info = serve.wait_for("ready")
    listening = [c.laddr for c in serve.child("redis-server").net_connections() if c.status == "LISTEN"]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", info.address["port"])]
    with socket.create_connection(("127.0.0.1", info.address["port"]), timeout=5) as connection:
        connection.sendall(b"GET key\r\n")
        assert connection.recv(200).startswith(b"-NOAUTH")
    assert info.address["password"] not in " ".join(serve.child("redis-server").cmdline())


def test_a_port_in_use_is_said(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serve = start({"type": "redis", "port": port})
        assert f"port {port} on 127.0.0.1 is in use" in serve.wait_for("failed").reason
        assert serve.process.wait(10) == 1


def test_no_redis_server(start):
    serve = start({"type": "redis"}, environment={"REDIS_SERVER": "/no/such/redis-server"})
    assert "REDIS_SERVER=/no/such/redis-server is not a program" in serve.wait_for("failed").reason
    assert serve.process.wait(10) == 1


def test_a_redis_server_that_fails_to_start(start, tmp_path):
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    serve = start({"type": "redis"}, environment={"REDIS_SERVER": str(program)})
    assert "did not start" in serve.wait_for("failed").reason


def test_a_folder_that_cannot_be_made(start, tmp_path):
    (tmp_path / "file").write_text("")
    serve = start({"type": "filesystem", "folder": str(tmp_path / "file" / "below")})
    reason = serve.wait_for("failed").reason
    assert "cannot be made" in reason
    assert "backends.filesystem.folder" in reason


def test_killed_guardian_does_not_matter(start, traces):
    serve = start({"type": "node-local"})
    serve.wait_for("ready")
    serve.child("guardian").kill()
    serve.process.terminate()
    assert serve.process.wait(10) == 0
    assert traces.left() == []


def test_the_next_run_removes_what_a_dead_one_left(start, traces):
    dead = start({"type": "node-local"})
    info = dead.wait_for("ready")
    guardian = dead.child("guardian")
    dead.process.send_signal(signal.SIGSTOP)
    guardian.kill()
    dead.process.kill()
    dead.process.wait()
    assert Path(info.address["folder"]).exists()
    serve = start({"type": "filesystem"})
    serve.wait_for("ready")
    assert not Path(info.address["folder"]).exists()
    assert not Path(info.run_folder).exists()
    assert ServerInfo.read(dead.file).state == "failed"


def test_what_of_a_dead_run_cannot_be_removed_is_said_and_stops_no_server(start, traces, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(traces.folder))
    dead = RunFolder.create(traces.folder / "server.json", None)
    dead.claim(Path("/proc/version"))  # nobody can remove it
    (dead.folder / "lease.json").write_text(json.dumps(dead.lease | {"owner": [os.getpid(), 1]}))
    for _ in range(2):
        serve = start({"type": "filesystem"})
        serve.wait_for("ready")
        assert f"dead run {dead.run_id} had left, but for /proc/version: check who owns it" in serve.log.read_text()
    shutil.rmtree(dead.folder)


def test_a_living_run_is_left_alone_and_its_node_is_waited_for(start, traces):
    first = start({"type": "node-local"}, point=True)
    info = first.wait_for("ready")
    second = start({"type": "node-local"}, point=True)
    deadline = time.monotonic() + 20
    while "waiting for 1 free nodes" not in second.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ServerInfo.read(second.file).state == "starting"
    assert str(first.process.pid) in ServerInfo.read(second.file).reason
    assert Path(info.address["folder"]).exists()
    first.process.terminate()
    second.wait_for("ready")


def test_a_point_that_is_being_run_is_refused(start, traces):
    first = start({"type": "filesystem"})
    first.wait_for("ready")
    second = subprocess.run(
        [
            sys.executable,
            "-m",
            "simai_rules.cli",
            "serve",
            "--config",
            '{"type": "filesystem"}',
            "--output",
            first.file,
        ],
        env=traces.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "is being run by another process" in second.stderr
    assert first.process.poll() is None


def test_server_manager(traces, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(traces.folder))
    config = server_registry.create_config("filesystem", folder="here")
    server = ServerManager("server", config=config)
    server.start_server()
    with DataStore("client", server_info=server.get_server_info()) as store:
        store.stage_write("key", {"a": [1, 2]})
        assert store.stage_read("key") == {"a": [1, 2]}
    assert (tmp_path / "here").exists()
    server.stop_server()
    server.stop_server()
    assert not (tmp_path / "here").exists()


def test_two_server_managers_at_the_same_time(traces, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(traces.folder))
    with (
        ServerManager("one", config=server_registry.create_config("node-local")) as one,
        ServerManager("two", config=server_registry.create_config("node-local")) as two,
    ):
        assert one.get_server_info()["address"] != two.get_server_info()["address"]


def test_server_manager_leaves_a_folder_of_the_users_own(traces, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(traces.folder))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("data")
    with ServerManager("server", config=server_registry.create_config("filesystem", folder=str(mine))):
        assert len(list(mine.iterdir())) == 2
    assert [path.name for path in mine.iterdir()] == ["precious"]


def test_wrong_options_are_all_named():
    from simai_rules.errors import ConfigError

    with pytest.raises(ConfigError, match=r"(?s)port.*colour"):
        server_registry.create_config("redis", port=99999, colour="red")
    with pytest.raises(ConfigError, match=r"Did you mean .redis.*filesystem, node-local, redis"):
        server_registry.create_config("reddis")
