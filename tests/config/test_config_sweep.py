"""Sweeps: axes, zips, exclusions, and the paths of their points."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simai_rules.config.loader import backend_pattern, parse_experiment, point_pattern
from simai_rules.config.paths import value_text
from simai_rules.config.points import parse_point, point_json
from simai_rules.errors import ConfigError


def experiment(sweep, **keys):
    return parse_experiment({"name": "a", "repeats": 1, **keys, "sweep": sweep}, Path(), "config.yaml")


def problem(sweep, **keys) -> str:
    with pytest.raises(ConfigError) as caught:
        experiment(sweep, **keys)
    return str(caught.value)


def test_cartesian_product_in_the_order_of_the_config():
    points = experiment({"axes": {"elements": [10, 20], "backend": ["redis", "filesystem"]}}, repeats=2).points
    assert list(points)[:5] == [
        "backend~redis/elements~10/nodes~1/repeat~0",
        "backend~redis/elements~10/nodes~1/repeat~1",
        "backend~filesystem/elements~10/nodes~1/repeat~0",
        "backend~filesystem/elements~10/nodes~1/repeat~1",
        "backend~redis/elements~20/nodes~1/repeat~0",
    ]
    point = points["backend~redis/elements~20/nodes~1/repeat~1"]
    assert (point.backend, point.elements, point.repeat) == ("redis", 20, 1)
    assert point.server.type == "redis"
    assert point.axes == {"backend": "redis", "elements": 20, "nodes": 1, "repeat": 1}


def test_zipped_axes_advance_together():
    sweep = {
        "axes": {"nodes": [1, 2], "backend": ["redis", "filesystem"], "simulation.write_every": [10, 20]},
        "zip": [["nodes", "simulation.write_every"]],
    }
    values = [(p.nodes, p.backend, p.simulation.write_every) for p in experiment(sweep).points.values()]
    assert values == [(1, "redis", 10), (1, "filesystem", 10), (2, "redis", 20), (2, "filesystem", 20)]


def test_zip_of_axes_that_are_only_valid_together():
    sweep = {
        "axes": {"simulation.ranks_per_node": [1, 2], "training.ranks_per_node": [1, 2]},
        "zip": [["simulation.ranks_per_node", "training.ranks_per_node"]],
    }
    assert [point.training.ranks_per_node for point in experiment(sweep).points.values()] == [1, 2]


def test_exclude_drops_what_matches_all_of_an_entry():
    sweep = {
        "axes": {"backend": ["redis", "filesystem"], "elements": [10, 20, 30]},
        "exclude": [{"backend": "redis", "elements": 30}, {"elements": "10"}],
    }
    values = [(point.backend, point.elements) for point in experiment(sweep).points.values()]
    assert values == [("redis", 20), ("filesystem", 20), ("filesystem", 30)]


def test_axes_of_every_kind_of_key(tmp_path):
    (tmp_path / "a.csv").write_text("value,probability\n1,1\n")
    raw = {
        "name": "a",
        "repeats": 1,
        "simulation": {"kernels": [{"name": "FFT", "run_time": {"normal": {"mean": 1, "std": 0}}}]},
        "sweep": {
            "axes": {
                "simulation.kernels.0.run_time.normal.mean": [1, 2],
                "simulation.kernels.0.data_size": [[8, 8], [16]],
                "training.run_time": [None, 0.5, {"histogram": "a.csv"}],
                "backends.redis.io_threads": [1, 4],
                "backends.filesystem.folder": ["staging", "/scratch/a b"],
                "training.model": [{"features": 3}, {"hidden": []}],
            }
        },
        "backend": "redis",
    }
    points = parse_experiment(raw, tmp_path, "config.yaml").points
    assert len(points) == 2 * 2 * 3 * 2 * 2 * 2
    assert all(re.fullmatch(point_pattern(), path) for path in points)
    last = list(points.values())[-1]
    assert last.simulation.kernels[0].run_time.normal.mean == 2
    assert last.simulation.kernels[0].data_size == [16]
    assert last.training.run_time.histogram.probabilities == [1]
    assert last.axes["training.run_time"] == {"histogram": "a.csv"}
    assert last.server.io_threads == 4
    assert last.training.model.hidden == []
    assert last.training.model.features == 7


def test_axis_of_the_file_of_a_histogram(tmp_path):
    for name, value in [("a.csv", 1), ("b.csv", 2)]:
        (tmp_path / name).write_text(f"value,probability\n{value},1\n")
    raw = {
        "name": "a",
        "repeats": 1,
        "training": {"run_time": {"histogram": "a.csv"}},
        "sweep": {"axes": {"training.run_time.histogram": ["a.csv", "b.csv"]}},
    }
    points = parse_experiment(raw, tmp_path, "config.yaml").points
    assert [p.training.run_time.histogram.values for p in points.values()] == [[1], [2]]
    assert "training.run_time.histogram~b.csv" in list(points)[1]


def test_whole_blocks_as_axes():
    redis = {"redis": {"io_threads": 2}}
    points = experiment({"axes": {"backends": [redis, {}], "backend": ["redis", "filesystem"]}}).points
    assert [getattr(point.server, "io_threads", None) for point in points.values()] == [2, None, 1, None]


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ({"axes": {"element": [1]}}, ["sweep.axes.element:", "Did you mean 'elements'?"]),
        ({"axes": {"write_every": [1]}}, ["sweep.axes.write_every:", "Did you mean 'simulation.write_every'?"]),
        ({"axes": {"simulation.write_evry": [1]}}, ["Did you mean 'simulation.write_every'?"]),
        ({"axes": {"simulation.kernels[0].run_time": [1]}}, ["Did you mean 'simulation.kernels.0.run_time'?"]),
        ({"axes": {"simulation.kernels.1.run_time": [1]}}, ["there is no such key in this config"]),
        ({"axes": {"repeat": [1]}}, ["sweep.axes.repeat:", "'repeats: 3'"]),
        ({"axes": {"repeats": [1]}}, ["sweep.axes.repeats:", "'repeats: 3'"]),
        ({"axes": {"system": ["local"]}}, ["sweep.axes.system:", "cannot be an axis"]),
        ({"axes": {"elements": [1, 1.0]}}, ["sweep.axes.elements[1]: 1.0 is there twice", "repeats"]),
        ({"axes": {"elements": [4, -1]}}, ["sweep.axes.elements[1]: -1 is not allowed", "a whole number >= 1"]),
        ({"axes": {"backend": ["redis", "filesytem"]}}, ["sweep.axes.backend[1]: 'filesytem'", "'filesystem'?"]),
        (
            {"axes": {"training.run_time": [{"normal": {"mean": -1, "std": 0}}]}},
            ["sweep.axes['training.run_time'][0].normal.mean: -1 is not allowed"],
        ),
        (
            {"axes": {"training.run_time": [{"histogram": "no.csv"}]}},
            ["sweep.axes['training.run_time'][0].histogram: no.csv: there is no such histogram file"],
        ),
        (
            {"axes": {"simulation": [{}], "simulation.write_every": [1]}},
            ["sweep.axes['simulation.write_every']: lies inside another axis, 'simulation'"],
        ),
        (
            {"axes": {"nodes": [1, 2], "warmup": [1]}, "zip": [["nodes", "warmup"]]},
            ["sweep.zip[0]:", "nodes has 2, warmup has 1"],
        ),
        (
            {"axes": {"nodes": [1], "warmup": [1], "seed": [1]}, "zip": [["nodes", "warmup"], ["seed", "nodes"]]},
            ["sweep.zip[1]: 'nodes' is in sweep.zip[0] too"],
        ),
        ({"axes": {"nodes": [1]}, "zip": [["nodes", "nodes"]]}, ["sweep.zip[0]: 'nodes' is twice in this group"]),
        (
            {"axes": {"nodes": [1], "seed": [1]}, "zip": [["seed", "node"]]},
            ["sweep.zip[0]: 'node' is not an axis", "Did you mean 'nodes'?", "Axes: nodes, seed"],
        ),
        ({"axes": {"nodes": [1]}, "zip": [["nodes"]]}, ["sweep.zip[0]:", "at least 2"]),
        (
            {"axes": {"nodes": [1]}, "exclude": [{"node": 1}]},
            ["sweep.exclude[0].node: is not an axis", "Did you mean 'nodes'?"],
        ),
        ({"axes": {"nodes": [1, 2]}, "exclude": [{"nodes": 3}]}, ["sweep.exclude[0].nodes: 3", "Its values: 1, 2"]),
        ({"axes": {"backend": ["redis"]}, "exclude": [{"backend": "rediss"}]}, ["Did you mean 'redis'?"]),
        (
            {
                "axes": {"nodes": [1, 2], "seed": [1, 2]},
                "zip": [["nodes", "seed"]],
                "exclude": [{"nodes": 1, "seed": 2}],
            },
            ["sweep.exclude[0]:", '{"nodes": 1, "seed": 2} matches no point'],
        ),
        ({"axes": {"nodes": [1]}, "exclude": [{"nodes": 1}]}, ["no point is left: all are excluded"]),
        ({"axes": {"nodes": [*range(1, 400)], "seed": [*range(400)]}}, ["159600 combinations", "100000"]),
    ],
)
def test_message(sweep, expected):
    text = problem(sweep)
    for part in expected:
        assert part in text


def test_far_too_many_repeats_are_told_before_they_are_made():
    assert "repeats: makes 1000000000 points" in problem({}, repeats=10**9)


def test_exclude_is_not_blamed_for_an_axis_that_is_wrong_itself():
    text = problem({"axes": {"nodes": [0, 1]}, "exclude": [{"nodes": 1}]})
    assert "has 1 problem:" in text
    assert "sweep.axes.nodes[0]: 0 is not allowed" in text


def test_what_does_not_concern_a_point_leaves_it_as_it_is():
    axes = {"backend": ["redis"], "elements": [10]}
    kept = "backend~redis/elements~10/nodes~1/repeat~0"
    before = point_json(experiment({"axes": axes}).points[kept])
    more = {"nodes": [1, 2], "elements": [20, 10], "backend": ["filesystem", "redis"]}
    after = experiment(
        {"axes": more, "exclude": [{"nodes": 2, "elements": 20}]},
        repeats=5,
        results="elsewhere",
        backends={"filesystem": {"folder": "x"}},
    )
    assert point_json(after.points[kept]) == before


def test_the_order_of_axes_changes_neither_path_nor_content():
    axes = {"warmup": [1, 2], "seed": [3], "elements": [10]}
    one = experiment({"axes": axes}).points
    other = experiment({"axes": dict(reversed(axes.items()))}).points
    assert {path: point_json(point) for path, point in one.items()} == {
        path: point_json(point) for path, point in other.items()
    }


def test_a_change_of_its_backend_changes_a_point():
    axes = {"axes": {"backend": ["redis", "filesystem"]}}
    before = experiment(axes).points
    after = experiment(axes, backends={"redis": {"io_threads": 2}}).points
    changed = [path for path in before if point_json(before[path]) != point_json(after[path])]
    assert changed == ["backend~redis/elements~1000000/nodes~1/repeat~0"]


def test_patterns_match_the_form_of_paths_and_nothing_else():
    path = "backend~node-local/elements~10/nodes~1/training.run_time~normal-0123abcd/repeat~0"
    assert re.fullmatch(point_pattern(), path)
    assert re.fullmatch(backend_pattern("node-local"), path)
    assert not re.fullmatch(backend_pattern("redis"), path)
    for wrong in (
        path.replace("node-local", "nodelocal"),
        path.removesuffix("/repeat~0"),
        f"{path}/simulation.parquet",
        path.replace("normal", "nor/mal"),
        path.replace("elements~10", "elements~x"),
        f"results/{path}",
        "backend~redis/repeat~0",
    ):
        assert not re.fullmatch(point_pattern(), wrong)


def test_texts_of_values():
    assert value_text(0.03147) == "0.03147"
    assert value_text(1e-05) == "1e-05"
    assert value_text(True) == "true"
    assert value_text(None) == "null"
    assert value_text("sin") == "sin"
    assert re.fullmatch(r"lustre-a-b-[0-9a-f]{8}", value_text("/lustre/a b"))
    assert re.fullmatch(r"normal-[0-9a-f]{8}", value_text({"normal": {"mean": 1, "std": 2}}))
    assert re.fullmatch(r"256x256-[0-9a-f]{8}", value_text([256, 256]))
    assert value_text({"a": 1, "b": 2}) == value_text({"b": 2, "a": 1})
    assert value_text("") != value_text(" ")


AXES = {
    "backend": st.sampled_from(["filesystem", "node-local", "redis"]),
    "elements": st.integers(8, 10**9),
    "nodes": st.integers(1, 512),
    "seed": st.integers(0, 2**63 - 1),
    "staging.timeout": st.floats(1e-9, 1e9),
    "simulation.kernels.0.dtype": st.sampled_from(["float32", "float64", "complex64"]),
    "backends.filesystem.folder": st.text(st.characters(codec="utf-8"), min_size=1),
    "training.model.hidden": st.lists(st.integers(1, 512), max_size=5),
    "training.run_time": st.none()
    | st.floats(1e-6, 10)
    | st.fixed_dictionaries({"normal": st.fixed_dictionaries({"mean": st.floats(1e-6, 9), "std": st.floats(0, 9)})}),
}


@st.composite
def sweeps(draw):
    keys = draw(st.lists(st.sampled_from(sorted(AXES)), unique=True, max_size=4))
    axes = {key: draw(st.lists(AXES[key], min_size=1, max_size=3, unique_by=repr)) for key in keys}
    zipped = draw(st.booleans()) and len(keys) >= 2 and len(axes[keys[0]]) == len(axes[keys[1]])
    exclude = {key: draw(st.sampled_from(axes[key])) for key in keys[2:] if draw(st.booleans())}
    return axes, [keys[:2]] if zipped else [], exclude


@settings(deadline=None, max_examples=60)
@given(sweeps(), st.integers(1, 3))
def test_any_sweep(sweep, repeats):
    axes, zipped, exclude = sweep
    counts = {key: len(values) for key, values in axes.items()}
    if zipped:
        del counts[zipped[0][1]]
    combinations = math.prod(counts.values())
    excluded = combinations // math.prod(counts[key] for key in exclude) if exclude else 0
    entries = {"axes": axes, "zip": zipped, "exclude": [exclude] if exclude else []}
    if combinations == excluded:
        assert "no point is left" in problem(entries, repeats=repeats)
        return
    points = experiment(entries, repeats=repeats).points
    assert len(points) == (combinations - excluded) * repeats
    for path, point in points.items():
        assert point.path == path
        assert re.fullmatch(point_pattern(), path)
        assert re.fullmatch(backend_pattern(point.backend), path)
        assert all(len(part.encode()) < 128 for part in path.split("/"))
        text = point_json(point)
        assert parse_point(text, "point.json") == point
        assert point_json(parse_point(text, "point.json")) == text


def test_a_message_shorter_than_a_row_of_the_training_is_refused():
    with pytest.raises(ConfigError, match=r"rows of training.model.features \+ 1 = 8 elements, but elements is 7"):
        experiment({"axes": {"elements": [7, 8]}})
