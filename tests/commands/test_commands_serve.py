"""`simai-rules serve` starts no point for which too little walltime is left."""

import json
import time
from pathlib import Path

import pytest

from simai_rules.analysis.results import load
from simai_rules.cli import main
from simai_rules.commands import serve
from simai_rules.config.loader import parse_experiment
from simai_rules.config.points import point_json

RUN_TIMES = {
    "simulation": {"kernels": [{"name": "MatMulSimple2D", "run_time": 0.1}], "write_every": 10},
    "training": {"iterations": 990, "run_time": 0.1},
}
"""100 s by its estimate."""


class Started(Exception):
    """The point would have been started."""


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a point that takes 100 s; serving it raises Started."""

    def start(order: object, parent: object) -> int:
        raise Started

    monkeypatch.setattr("simai_rules.lifecycle.serve.serve", start)
    return write_point(tmp_path, RUN_TIMES)


def write_point(folder: Path, config: dict[str, object]) -> Path:
    experiment = parse_experiment({"name": "a", "repeats": 1, "system": "local"} | config, folder, "test")
    (path,) = experiment.points
    point = folder / path
    point.mkdir(parents=True)
    (point / "point.json").write_text(point_json(experiment.points[path]))
    return point


def ask(point: Path, *arguments: str) -> int:
    return main(["serve", "--point", str(point / "point.json"), "--output", str(point / "server.json"), *arguments])


def ends_in(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv("SNAKEMAKE_JOB_END", str(time.time() + seconds))


def test_a_point_that_does_not_fit_is_missing_and_has_not_failed(
    point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_in(monkeypatch, 90)
    assert ask(point) == 1
    assert "not started: 1.5 min of the job's walltime are left, and the point needs 2.0 min" in capsys.readouterr().err
    info = json.loads((point / "server.json").read_text())
    assert info["state"] == "failed"
    assert info["reason"].startswith("not started: ")
    assert not (point / "failures").exists()
    (point / "server.json").unlink()  # as Snakemake does with a service's file
    (result,) = load(tmp_path)
    assert (result.state, result.reason) == ("missing", info["reason"])


def test_a_point_that_fits_is_started_and_forgets_that_it_once_was_not(
    point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_in(monkeypatch, 90)
    ask(point)
    ends_in(monkeypatch, 130)
    with pytest.raises(Started):
        ask(point)
    assert not (point / "not_started.json").exists()


def test_without_a_batch_system_every_point_is_started(point: Path) -> None:
    with pytest.raises(Started):
        ask(point)


@pytest.mark.parametrize(("minutes", "starts"), [("1", True), ("2", False), ("0", True)])
def test_without_an_estimate_what_was_asked_for_counts(
    point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: str, starts: bool
) -> None:
    unknown = write_point(tmp_path / "unknown", {})
    ends_in(monkeypatch, 60)
    if starts:
        with pytest.raises(Started):
            ask(unknown, "--minutes", minutes)
    else:
        assert ask(unknown, "--minutes", minutes) == 1


def test_not_started_is_an_error_of_the_users_kind() -> None:
    assert serve.NotStarted("x").exit_code == 1
