"""`simai-rules points`, as a user calls it."""

import json
from collections import namedtuple

import pytest

from simai_rules.cli import main
from simai_rules.commands import points as command

CONFIG = """
name: nekrs
repeats: 2
simulation: {kernels: [{name: MatMulSimple2D, run_time: 0.1}], write_every: 10}
training: {iterations: 100, run_time: 0.1}
sweep: {axes: {backend: [filesystem, node-local], elements: [1000, 250000]}}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_table_and_totals(config, capsys):
    assert main(["points", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["point", "nodes", "ranks", "snapshots", "moved", "time"]
    assert lines[1].split() == [
        "backend~filesystem/elements~1000/nodes~1/repeat~0",
        "1",
        "1+1",
        "11",
        "88",
        "kB",
        "11",
        "s",
    ]
    assert len(lines) == 1 + 8 + 1
    # 4 points of 11 snapshots of 4 kB and 4 of 1 MB, written and read
    assert lines[-1] == (
        "nekrs: 8 points on up to 1 node and 2 ranks (simulation+training); "
        "about 88.4 MB moved (written + read) in at least 88 s"
    )


def test_the_config_here_is_the_default(config, capsys):
    assert main(["points", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2] == "… and 7 more"
    assert "8 points" in lines[3]


def test_json(config, capsys):
    assert main(["points", "--json", "--limit", "3"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["experiment"] == "nekrs"
    assert len(output["points"]) == 3
    assert output["points"][2]["path"] == "backend~filesystem/elements~250000/nodes~1/repeat~0"
    assert output["points"][2]["bytes_moved"] == 22_000_000
    assert output["totals"]["points"] == 8
    assert output["totals"]["bytes_moved"] == 4 * 88_000 + 4 * 22_000_000


def test_no_estimate_without_run_times(config, capsys):
    config.write_text("name: a\nrepeats: 1\n")
    assert main(["points"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-3:] == ["?", "?", "?"]
    assert "no estimate" in lines[2]


def test_points_without_an_estimate_are_counted(config, capsys):
    config.write_text(CONFIG.replace("axes: {", "axes: {training.run_time: [null, 0.1], "))
    assert main(["points"]) == 0
    assert "(8 points without an estimate not counted)" in capsys.readouterr().out


def test_no_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["points"]) == 1
    assert "there is no config.yaml here" in capsys.readouterr().err


def test_wrong_config(config, capsys):
    config.write_text("name: a\nelements: -5\nbackend: redi\n")
    assert main(["points"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "config.yaml has 2 problems" in captured.err
    assert "Did you mean 'redis'?" in captured.err


@pytest.mark.parametrize("limit", ["-1", "x"])
def test_wrong_limit(config, capsys, limit):
    with pytest.raises(SystemExit) as caught:
        main(["points", "--limit", limit])
    assert caught.value.code == 2


def test_warning_where_memory_is_too_small(config, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(command.shutil, "disk_usage", lambda folder: usage(2_000_000, 0, 2_000_000))
    assert main(["points"]) == 0
    [warning] = capsys.readouterr().err.splitlines()
    assert "/dev/shm has 2 MB free" in warning
    assert "backend~node-local/elements~250000/nodes~1/repeat~0 may stage 3 MB per node" in warning


def test_warning_about_a_folder_that_is_not_there(config, capsys):
    config.write_text(f"{CONFIG}backends: {{node-local: {{folder: /not/there}}}}\n")
    assert main(["points"]) == 0
    assert "/not/there cannot be used on this machine: No such file" in capsys.readouterr().err


def test_warning_where_nothing_is_measured(config, capsys):
    config.write_text(f"{CONFIG}warmup: 11\n")
    assert main(["points"]) == 0
    assert "8 points, such as backend~filesystem/elements~1000" in capsys.readouterr().err


def test_warning_about_points_that_are_the_same(config, capsys):
    config.write_text(CONFIG.replace("axes: {", "axes: {backends.redis.io_threads: [1, 4], "))
    assert main(["points"]) == 0
    assert "8 points, such as" in (err := capsys.readouterr().err)
    assert "sweep.exclude" in err


def test_units():
    assert command.in_bytes(999) == "999 B"
    assert command.in_bytes(256_000_000) == "256 MB"
    assert command.in_bytes(1e18) == "1e+03 PB"
    assert command.in_time(90) == "90 s"
    assert command.in_time(600) == "10 min"
    assert command.in_time(36_000) == "10 h"
