"""Whatever a file holds, loading it succeeds or says what is wrong; no other error comes out."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simai_rules.config.estimate import estimate
from simai_rules.config.experiment import ExperimentConfig, Point
from simai_rules.config.keys import dotted_keys
from simai_rules.config.loader import load_experiment, parse_experiment
from simai_rules.config.points import point_json
from simai_rules.config.sweep import sweepable
from simai_rules.errors import ConfigError

KEYS = sorted({name for key in dotted_keys(sweepable(ExperimentConfig(name="a"))) for name in key.split(".")})
NAMES = [
    *KEYS,
    "normal",
    "mean",
    "std",
    "histogram",
    "lognormal",
    "median",
    "sigma",
    "values",
    "name",
    "sweep",
    "results",
]
DOTTED = list(dotted_keys(sweepable(ExperimentConfig(name="a"))))

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1, 5)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*NAMES, "1e4", "1e400", "nan", "redis", "FFT", "sin", "\ud800", "local", ".", "../x"])
    | st.dates()
    | st.binary(max_size=3)
)
keys = st.sampled_from(NAMES) | st.text(max_size=3) | st.integers(0, 3) | st.none()
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
blocks = st.fixed_dictionaries(
    {"name": st.just("a")},
    optional={
        **dict.fromkeys(("simulation", "training", "staging", "backends", "system", "repeats", "elements"), trees),
        "sweep": trees
        | st.fixed_dictionaries(
            {"axes": st.dictionaries(st.sampled_from(DOTTED), st.lists(trees, min_size=1, max_size=3), max_size=3)},
            optional={
                "zip": st.lists(st.lists(st.sampled_from(DOTTED), max_size=3), max_size=2) | trees,
                "exclude": st.lists(st.dictionaries(st.sampled_from(DOTTED), trees, max_size=2), max_size=2) | trees,
            },
        ),
    },
)


def load(raw) -> tuple[list[Point], str]:
    try:
        return list(parse_experiment(raw, Path("/nowhere"), "config.yaml").points.values()), ""
    except ConfigError as error:
        return [], str(error)


@settings(deadline=None, max_examples=150)
@given(blocks | st.dictionaries(keys, trees, max_size=4))
@example(
    {"name": "a", "sweep": {"axes": {"training.run_time": [{"histogram": {"values": [0], "probabilities": [1]}}]}}}
)
def test_any_mapping(raw):
    points, error = load(raw)
    if error:
        assert error.startswith("config.yaml has ")
        error.encode()  # can be printed
    for point in points:
        point_json(point)
        estimate(point)


@settings(deadline=None, max_examples=100)
@given(st.text() | trees.map(lambda tree: yaml.safe_dump(tree, allow_unicode=True)) | st.binary())
def test_any_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))
    with pytest.raises(ConfigError):
        load_experiment(path)


def test_values_that_contain_themselves():
    loop = []
    loop.append(loop)
    for raw in (
        {"staging": loop},
        {"sweep": {"axes": {"training": [loop]}}},
        {"sweep": {"exclude": [{"nodes": loop}]}},
    ):
        with pytest.raises(ConfigError):
            parse_experiment({"name": "a", **raw}, Path(), "config.yaml")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", ["staging", "sweep", "simulation", "odd"])
def test_anchors_that_make_billions_of_values(tmp_path, key):
    levels = [f"  a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(["name: a", "more:", "  a0: &a0 [1, 2, 3]", *levels, f"{key}: *a11", ""]))
    with pytest.raises(ConfigError, match="anchors"):
        load_experiment(path)


def test_anchors_that_save_some_lines(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: a\nrepeats: &n 8\nsweep: {axes: {elements: [*n, 10]}}\n")
    assert len(load_experiment(path).points) == 16
