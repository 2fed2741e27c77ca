"""`simai-rules configure` and `simai-rules schema`, as rules and users call them."""

import json
from pathlib import Path

import pytest

from simai_rules.cli import main
from simai_rules.config.loader import parse_experiment
from simai_rules.config.points import point_json, read_point


@pytest.fixture
def point():
    return next(iter(parse_experiment({"name": "a"}, Path(), "config.yaml").points.values()))


def test_writes_the_point(tmp_path, point):
    output = tmp_path / "a" / "point.json"
    assert main(["configure", "--config", point_json(point), "--output", str(output)]) == 0
    assert read_point(output) == point
    assert [path.name for path in output.parent.iterdir()] == ["point.json"]


def test_a_wrong_point_leaves_the_old_file(tmp_path, point, capsys):
    output = tmp_path / "point.json"
    output.write_text("old")
    wrong = point_json(point).replace('"elements":1000000', '"elements":0')
    assert main(["configure", "--config", wrong, "--output", str(output)]) == 1
    assert "elements: 0 is not allowed" in capsys.readouterr().err
    assert output.read_text() == "old"


def test_folder_that_cannot_be_written(point, capsys):
    assert main(["configure", "--config", point_json(point), "--output", "/proc/results/point.json"]) == 1
    assert "Cannot write" in capsys.readouterr().err


def test_schema_is_printed(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "simai-rules experiment"
