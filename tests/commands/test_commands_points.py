"""`simai-rules points`, as a user calls it."""

import json
from collections import namedtuple

import pytest

from simai_rules.cli import main
from simai_rules.commands import points_text, points_warnings

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
        "nekrs: 8 points on up to 1 node and 2 ranks (all components); "
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
    monkeypatch.setattr(points_warnings.shutil, "disk_usage", lambda folder: usage(2_000_000, 0, 2_000_000))
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


SYSTEM = """
name: mine
scheduler: pbs
queues:
  debug: {max_nodes: 2, max_minutes: 60, min_minutes: 5, max_jobs: 1}
  scaling: {min_nodes: 2, max_nodes: 256, max_minutes: 60}
  prod: {routes_to: [small, large]}
  small: {min_nodes: 256, max_nodes: 1024, max_minutes: 720}
  large: {min_nodes: 1025, max_minutes: 1440}
"""


@pytest.fixture
def profile(config):
    """Write a profile of a machine beside the config, with some entries changed."""

    def write(**entries):
        folder = config.parent / "profiles/mine"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "system.yaml").write_text(SYSTEM)
        entries = {
            "executor": "pbs",
            "pbs-queue": "debug",
            "pbs-min-walltime": 5,
            "jobs": 1,
            "config": ["system=mine"],
        } | entries
        (folder / "config.v8+.yaml").write_text(json.dumps({key: each for key, each in entries.items() if each}))
        return "profiles/mine"

    return write


def test_the_jobs_that_a_profile_submits(profile, capsys):
    packed = {"group-components": ["point=3"]}
    assert main(["points", "--profile", profile(**packed, **{"pbs-min-walltime": 7})]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 11 s × 1.5 + 2 min for each point, rounded up; the last pack is raised to the least walltime of a job.
    assert [line.split() for line in lines[-3:-1]] == [
        ["2", "3", "1", "9", "min", "0.15"],
        ["1", "2", "1", "7", "min", "0.117"],
    ]
    assert lines[-1] == "mine, debug: 3 jobs (1 at a time), 0.4167 node-hours at most, 25 min in sum"


def test_a_job_that_is_too_short_for_the_queue(profile, capsys):
    assert main(["points", "--profile", profile(**{"pbs-min-walltime": None})]) == 1
    assert "debug takes jobs from 5 minutes on, and the shortest here has 3. Set pbs-min-walltime: 5" in (
        capsys.readouterr().err
    )


def test_jobs_as_json(profile, capsys):
    assert main(["points", "--profile", profile(), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["profile"] == {"name": "mine", "executor": "pbs", "queue": "debug"}
    assert answer["jobs"] == 8 * [{"points": 1, "nodes": 1, "minutes": 5, "node_hours": 5 / 60}]
    assert answer["refused"] == []


def test_all_that_the_queue_refuses_is_told_with_a_remedy(profile, config, capsys):
    config.write_text(f"{CONFIG.replace('axes: {', 'axes: {nodes: [2, 4], ')}minutes: 40\n")
    assert main(["points", "--profile", profile(jobs=9, **{"group-components": ["point=2"]})]) == 1
    said = capsys.readouterr().err
    assert "debug takes jobs up to 2 nodes, and the largest here has 4. No queue of this machine takes them" in said
    assert (
        "debug takes jobs up to 60 minutes, and the longest here has 80 (2 points). Pack fewer points: at most 1"
        in said
    )
    assert (
        "debug takes 1 job per user, queued or running, and 8 would be submitted. Submit one at a time (jobs: 1)"
        in said
    )
    assert "group-components: point=1" in said


def test_a_queue_that_would_take_them_is_named(profile, config, capsys):
    config.write_text(CONFIG.replace("axes: {", "axes: {nodes: [2, 4], "))
    assert main(["points", "--profile", profile()]) == 1
    assert "the largest here has 4. Queues that take them: scaling" in capsys.readouterr().err


@pytest.mark.parametrize(("nodes", "code"), [("255", 1), ("256", 0), ("2000", 0)])
def test_a_routing_queue_takes_what_the_queues_behind_it_take(profile, config, capsys, nodes, code):
    config.write_text(CONFIG.replace("axes: {", f"axes: {{nodes: [{nodes}], "))
    assert main(["points", "--profile", profile(**{"pbs-queue": "prod"})]) == code
    refused = "prod takes jobs from 256 nodes on, and the smallest here has 255" in capsys.readouterr().err
    assert refused == bool(code)


def test_a_queue_that_is_not_there(profile, capsys):
    assert main(["points", "--profile", profile(**{"pbs-queue": "debgu"})]) == 1
    assert "'debgu' is no queue of mine. Did you mean 'debug'? There are: debug, scaling" in capsys.readouterr().err
    assert main(["points", "--profile", profile(**{"pbs-queue": ""})]) == 1
    assert "the profile names no queue" in capsys.readouterr().err


def test_points_without_a_walltime_cannot_be_submitted(profile, config, capsys):
    config.write_text("name: a\nrepeats: 2\n")
    assert main(["points", "--profile", profile()]) == 1
    assert "no walltime can be worked out for 2 points, such as backend~filesystem" in capsys.readouterr().err
    config.write_text("name: a\nrepeats: 2\nminutes: 10\n")
    assert main(["points", "--profile", profile()]) == 0


def test_minutes_that_cannot_suffice(profile, config, capsys):
    config.write_text(CONFIG.replace("iterations: 100", "iterations: 10000") + "minutes: 6\n")
    assert main(["points", "--profile", profile()]) == 1
    assert "minutes is less than the estimate of 8 points" in capsys.readouterr().err


def test_a_profile_that_submits_nothing_refuses_nothing(config, capsys):
    assert main(["points", "--profile", "local"]) == 0
    assert "local: nothing is submitted; 8 points one after another" in capsys.readouterr().out


def test_profiles_default_wins_as_it_does_in_snakemake(profile, config, capsys):
    name = profile()
    (config.parent / "profiles/default").mkdir()
    (config.parent / "profiles/default/config.yaml").write_text("group-components: {point: 8}\n")
    assert main(["points", "--profile", name]) == 0
    assert "mine, debug: 1 job, " in capsys.readouterr().out


def test_no_such_profile(config, capsys):
    assert main(["points", "--profile", "auror"]) == 1
    assert "There is no profile 'auror'. Did you mean 'aurora'? There are: " in capsys.readouterr().err


def test_units():
    assert points_text.in_bytes(999) == "999 B"
    assert points_text.in_bytes(256_000_000) == "256 MB"
    assert points_text.in_bytes(1e18) == "1e+03 PB"
    assert points_text.in_time(90) == "90 s"
    assert points_text.in_time(600) == "10 min"
    assert points_text.in_time(36_000) == "10 h"
