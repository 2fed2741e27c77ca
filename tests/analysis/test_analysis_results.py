import json

import pytest
from synthetic import add_inference, fail, make_point, point_path, settings

from simai_rules.analysis.results import completeness, experiment_folder, found_points, load
from simai_rules.errors import UserError


def states(results):
    return {result.path: (result.state, result.reason) for result in results}


def test_the_earliest_failure_is_the_cause(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    fail(
        folder, ("training", "server lost", 30.0), ("server", "killed by signal 9", 29.0), ("simulation", "lost", 31.0)
    )
    (result,) = load(tmp_path)
    assert (result.state, result.reason) == ("failed", "server: killed by signal 9")
    assert result.samples is None
    (row,) = result.rows
    assert (row["status"], row["reason"], row["backend"], row["count"]) == ("failed", result.reason, "redis", 0)
    assert row["mean_s"] is None


def test_a_failure_whose_note_is_broken_is_still_a_failure(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    (folder / "failures").mkdir()
    (folder / "failures" / "server.json").write_text("{")
    (result,) = load(tmp_path)
    assert result.state == "failed"
    assert "server.json" in result.reason


def test_expected_points_that_are_not_there_are_missing_with_what_their_path_says(tmp_path):
    make_point(tmp_path, snapshots=3)
    absent = point_path("filesystem", 4000, 1, **{"simulation.write_every": 5})
    results = load(tmp_path, {point_path(): None, absent: None})
    assert [result.state for result in results] == ["done", "missing"]
    (row,) = results[1].rows
    assert (row["status"], row["reason"]) == ("missing", "not run yet")
    assert (row["backend"], row["elements"], row["repeat"], row["simulation.write_every"]) == ("filesystem", 4000, 1, 5)
    assert results[1].message_bytes == 16000
    assert completeness(results) == "1 of 2 points done, 1 missing"


def test_unfinished_points_say_what_is_lacking(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    (folder / "training.parquet").unlink()
    assert states(load(tmp_path))[point_path()] == ("missing", "not finished: no events of training yet")
    (folder / "simulation.parquet").unlink()
    (folder / "server.json").write_text("{}")
    assert states(load(tmp_path))[point_path()][1].startswith("running now, or killed")


def test_a_point_with_an_inference_is_done_when_all_three_have_left_their_events(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    add_inference(folder)
    (result,) = load(tmp_path)
    assert result.components == ("simulation", "training", "inference")
    rows = {(row["component"], row["operation"]): row["count"] for row in result.rows}
    assert (rows["inference", "infer"], rows["inference", "take"]) == (20, 4)
    (folder / "inference.parquet").unlink()
    assert states(load(tmp_path))[point_path()] == ("missing", "not finished: no events of inference yet")


def test_an_inference_without_ranks_is_no_component(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    (folder / "point.json").write_text(json.dumps({**settings(), "inference": {"ranks_per_node": 0}}))
    (result,) = load(tmp_path)
    assert (result.state, result.components) == ("done", ("simulation", "training"))


def test_a_file_cut_short_makes_the_point_a_failed_one(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    file = folder / "training.parquet"
    file.write_bytes(file.read_bytes()[:500])
    (result,) = load(tmp_path)
    assert result.state == "failed"
    assert result.reason.startswith("training.parquet cannot be read")


def test_events_of_two_runs_are_not_mixed(tmp_path):
    folder, other = make_point(tmp_path, snapshots=3), make_point(tmp_path, snapshots=3, repeat=1)
    (other / "training.parquet").replace(folder / "training.parquet")
    result = load(tmp_path)[0]
    assert result.state == "failed"
    assert "different runs" in result.reason


def test_a_broken_point_json_makes_the_point_a_failed_one(tmp_path):
    folder = make_point(tmp_path, snapshots=3)
    for content in ("{", "[]", "{}"):
        (folder / "point.json").write_text(content)
        (result,) = load(tmp_path)
        assert (result.state, result.backend) == ("failed", "redis")


def test_a_point_measured_with_another_config_is_marked(tmp_path):
    make_point(tmp_path, snapshots=3)
    wanted = settings()
    assert not load(tmp_path, {point_path(): wanted})[0].outdated
    assert load(tmp_path, {point_path(): {**wanted, "warmup": 9}})[0].outdated


def test_points_are_found_in_the_order_of_their_numbers(tmp_path):
    for elements in (10_000, 900, 1000):
        (tmp_path / point_path(elements=elements)).mkdir(parents=True)
        (tmp_path / point_path(elements=elements) / "point.json").write_text(json.dumps(settings(elements=elements)))
    assert found_points(tmp_path) == [point_path(elements=elements) for elements in (900, 1000, 10_000)]


def test_the_folder_of_the_experiment_is_found_or_named(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        experiment_folder(tmp_path / "none")
    with pytest.raises(UserError, match="holds no results"):
        experiment_folder(tmp_path)
    make_point(tmp_path / "a", snapshots=3)
    assert experiment_folder(tmp_path) == tmp_path / "a"
    assert experiment_folder(tmp_path / "a") == tmp_path / "a"
    make_point(tmp_path / "b", snapshots=3)
    with pytest.raises(UserError, match="several experiments"):
        experiment_folder(tmp_path)
