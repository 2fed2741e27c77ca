"""`simai-rules placement`: the table of a point, and of all placements of a sweep."""

import json

import pytest

from simai_rules.cli import main
from simai_rules.config.loader import load_experiment
from simai_rules.config.points import point_json

COMPONENT = {"ranks_per_node": 2, "cores_per_rank": 8, "gpus_per_rank": 1}
CONFIG = {
    "name": "x",
    "repeats": 2,
    "nodes": 2,
    "backend": "redis",
    "system": "aurora",
    "simulation": COMPONENT,
    "training": COMPONENT,
}
BESIDE = """\
x1    simulation     0  1-8    0.0
      simulation     1  9-16   0.1
      training       0  17-24  1.0
      training       1  25-32  1.1
      server            33     -
x2    simulation     2  1-8    0.0
      simulation     3  9-16   0.1
      training       2  17-24  1.0
      training       3  25-32  1.1
"""


def written(folder, **changes):
    file = folder / "config.yaml"
    file.write_text(json.dumps(CONFIG | changes))
    return file


def drawn(capsys, *arguments):
    assert main(["placement", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert main(["placement", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_a_points_ranks_are_drawn_by_node_with_cores_and_gpus(tmp_path, capsys):
    point = next(iter(load_experiment(written(tmp_path)).points.values()))
    file = tmp_path / "point.json"
    file.write_text(point_json(point))
    title, head, table = drawn(capsys, file, "--hosts", "x1,x2").split("\n", 2)
    assert title == f"{point.path} on aurora (GPUs by ZE_AFFINITY_MASK)"
    assert head.split() == ["node", "component", "rank", "cores", "GPU"]
    assert table == BESIDE


def test_each_placement_of_a_sweep_is_drawn_once(tmp_path, capsys):
    axes = {"backend": ["filesystem", "redis"], "layout": ["beside", "apart"], "elements": [1000, 2000]}
    output = drawn(capsys, written(tmp_path, sweep={"axes": axes}))
    tables = output.split("\n\n")
    assert len(tables) == 4
    assert all("and 3 more points on aurora" in table for table in tables)
    apart = next(table for table in tables if "redis" in table and "apart" in table)
    assert [line.split()[:2] for line in apart.splitlines()[2:] if line.startswith("node")] == [
        ["node0", "simulation"],
        ["node1", "training"],
    ]


def test_a_server_on_a_node_of_its_own(tmp_path, capsys):
    output = drawn(capsys, written(tmp_path, nodes=3, staging={"server_nodes": "own"}), "--hosts", "a,b,c")
    assert output.splitlines()[2].split() == ["a", "server", "1", "-"]
    assert "b  " in output


def test_ranks_that_share_cores_are_told(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text("name: small\ncores: 2\noversubscribe: true\n")
    component = {"ranks_per_node": 2}
    output = drawn(capsys, written(tmp_path, system="small.yaml", simulation=component, training=component))
    assert "Ranks share cores" in output
    assert "none of its own" in output


@pytest.mark.parametrize("command", ["placement", "points"])
def test_what_cannot_be_placed_is_refused_before_anything_runs(tmp_path, capsys, command):
    axes = {"simulation.ranks_per_node": [2, 16], "training.ranks_per_node": [2, 16], "elements": [1000, 2000]}
    zipped = [["simulation.ranks_per_node", "training.ranks_per_node"]]
    file = written(tmp_path, sweep={"axes": axes, "zip": zipped})
    assert main([command, str(file)]) == 1
    error = capsys.readouterr().err
    assert "asks for 32 GPUs per node (simulation 16, training 16); system 'aurora' has 12" in error
    assert "elements~1000/" in error


def test_wrong_nodes_are_named(tmp_path, capsys):
    assert "names a node twice" in refused(capsys, written(tmp_path), "--hosts", "a,a")
    assert "is for 2 nodes, but 3 are there: a, b, c" in refused(capsys, written(tmp_path), "--hosts", "a,b,c")


def test_points_that_are_left_out_of_the_check(tmp_path):
    from simai_rules.launch.placement import check_placements

    (tmp_path / "site.yaml").write_text("name: site\nscheduler: slurm\n")  # how many cores it has is not said
    wide = {"cores_per_rank": 100_000}
    check_placements(
        load_experiment(written(tmp_path, system="site.yaml", simulation=wide, training={})).points.values()
    )
    listed = {"nodes": ["x1", "x2"], "ranks_per_node": 60}
    check_placements(load_experiment(written(tmp_path, simulation=listed, training=listed)).points.values())
