"""point.json: the same text for equal points, and clear errors for files that are not one."""

import json
from pathlib import Path

import pytest

from simai_rules.config.loader import parse_experiment
from simai_rules.config.points import parse_point, point_json, read_point
from simai_rules.errors import ConfigError


@pytest.fixture
def point():
    return next(iter(parse_experiment({"name": "a", "backend": "redis"}, Path(), "config.yaml").points.values()))


def test_round_trip_through_a_file(tmp_path, point):
    path = tmp_path / "point.json"
    path.write_text(json.dumps(json.loads(point_json(point)), indent=1))
    assert read_point(path) == point
    assert point_json(read_point(path)) == point_json(point)


def test_one_line(point):
    assert "\n" not in point_json(point)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text[:100], "is not complete JSON"),
        (lambda text: "", "is not complete JSON"),
        (lambda text: "[1]", "does not hold a point"),
        (lambda text: text.replace('"format":1', '"format":99'), "has format 99"),
        (lambda text: "{}", "has format None"),
        (lambda text: text.replace('"elements":1000000', '"elements":-1'), "elements: -1 is not allowed"),
        (lambda text: text.replace('"io_threads":1', '"io_threads":0'), "io_threads: 0 is not allowed"),
        (lambda text: text.replace('"type":"redis"', '"type":"rediss"'), "server"),
        (lambda text: text.replace('"repeat":0,"server"', '"repet":0,"server"'), "unknown key. Did you mean 'repeat'?"),
    ],
)
def test_text_that_is_no_point(point, change, expected):
    text = change(point_json(point))
    assert text != point_json(point)
    with pytest.raises(ConfigError) as caught:
        parse_point(text, "results/point.json")
    assert "results/point.json" in str(caught.value)
    assert expected in str(caught.value)


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file; the rule 'configure' writes it"):
        read_point(tmp_path / "point.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_point(tmp_path)


def test_too_long_for_a_command_line(tmp_path):
    bins = "".join(f"{1 / (i + 1)!r},0.001\n" for i in range(1000))
    (tmp_path / "h.csv").write_text(f"value,probability\n{bins}")
    kernel = {"name": "FFT", "run_time": {"histogram": "h.csv"}}
    raw = {"name": "a", "repeats": 1, "simulation": {"kernels": [kernel] * 9}}
    [point] = parse_experiment(raw, tmp_path, "config.yaml").points.values()
    with pytest.raises(ConfigError, match=r"command line\. Rebin its histograms"):
        point_json(point)
