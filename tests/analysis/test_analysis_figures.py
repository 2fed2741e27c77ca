import pytest
from synthetic import add_inference, fail, make_experiment, make_point, point_path

from simai_rules.analysis.figures.draw import draw_all, save_all
from simai_rules.analysis.figures.steps import mean_parts
from simai_rules.analysis.figures.style import backend_style
from simai_rules.analysis.figures.throughput import estimates
from simai_rules.analysis.grid import grids
from simai_rules.analysis.results import load
from simai_rules.config.registry import option_models


def lines(drawing):
    """The curves of the first panel by their label."""
    panel = drawing.figure.axes[0]
    return {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}


def test_failed_points_are_named_and_in_no_curve(tmp_path):
    make_experiment(tmp_path, elements=(10_000, 1_000_000), repeats=2, snapshots=6)
    fail(tmp_path / point_path("redis", 1_000_000, 0), ("server", "killed", 1.0))
    fail(tmp_path / point_path("redis", 1_000_000, 1), ("server", "killed", 1.0))
    fail(tmp_path / point_path("filesystem", 10_000, 1), ("server", "killed", 1.0))
    drawings = {drawing.name: drawing for drawing in draw_all(load(tmp_path))}
    assert list(drawings) == ["throughput", "steps", "kernels", "timeline"]
    curves = lines(drawings["throughput"])
    assert set(curves) == {"filesystem", "node-local", "redis"}
    assert list(curves["redis"].get_xdata()) == [40_000]
    assert list(curves["filesystem"].get_xdata()) == [40_000, 4_000_000]
    for name in ("throughput", "steps"):
        caption = drawings[name].caption
        assert "failed: filesystem 40 KB repeat 1, redis 4 MB repeat 0, redis 4 MB repeat 1" in caption


def test_the_drawn_numbers_are_the_known_ones(tmp_path):
    make_experiment(tmp_path, elements=(1_000_000,), backends=("redis",), repeats=3, snapshots=40)
    (grid,) = grids(load(tmp_path))
    # redis of the synthetic results: 110 µs and 2.4 GB/s; reads take 0.8 of that.
    expected = 4.0002 / (110e-6 + 4_000_200 / 2.4e9)
    for verb, scale in (("write", 1.0), ("read", 1.25)):
        (estimate,) = estimates(grid, "redis", verb).values()
        assert estimate.value == pytest.approx(expected * scale, rel=0.1)
        assert estimate.low <= estimate.value <= estimate.high
    parts = mean_parts(grid, 4_000_000, "redis")
    assert parts["compute"] == pytest.approx(0.020, rel=0.02)
    assert mean_parts(grid, 4_000_000, "filesystem") is None


@pytest.mark.parametrize("snapshots", [2, 3])
def test_one_size_one_backend_one_repeat_can_be_drawn(tmp_path, snapshots):
    make_point(tmp_path, snapshots=snapshots, ranks=1, elements=10)
    written = save_all(draw_all(load(tmp_path)), tmp_path / "figures")
    assert [path.name for path in written] == [
        "throughput.svg", "throughput.png", "steps.svg", "steps.png",
        "kernels.svg", "kernels.png", "timeline.svg", "timeline.png",
    ]  # fmt: skip
    assert all(path.stat().st_size > 1000 for path in written)


def test_without_measured_transfers_there_is_nothing_to_draw(tmp_path):
    make_point(tmp_path, snapshots=1)
    assert draw_all(load(tmp_path)) == []
    assert save_all([], tmp_path / "figures") == []
    assert (tmp_path / "figures").is_dir()


def test_each_further_setting_has_figures_and_outdated_ones_are_removed(tmp_path):
    for nodes in (1, 2):
        make_point(tmp_path, nodes=nodes, snapshots=4)
    drawings = draw_all(load(tmp_path))
    names = ["throughput", "steps", "throughput-2", "steps-2", "kernels", "timeline"]
    assert [drawing.name for drawing in drawings] == names
    assert drawings[2].title == "Throughput over message size (nodes 2)"
    folder = tmp_path / "figures"
    save_all(drawings, folder)
    (folder / "mine.svg").write_text("not ours")
    left = save_all(draw_all(load(tmp_path, {point_path(): None})), folder)
    assert set(folder.iterdir()) == {*left, folder / "mine.svg"}


def test_a_backend_keeps_its_colour_and_unknown_ones_get_one():
    names = [name for name in option_models() if name != "null"]  # null is in no coupled run
    for part in (0, 1):
        assert len({backend_style(name)[part] for name in names}) == len(names)
    assert backend_style("mine") == backend_style("mine")


def test_the_timeline_says_which_ranks_it_leaves_out(tmp_path):
    make_point(tmp_path, snapshots=4, ranks=6)
    timeline = draw_all(load(tmp_path))[-1]
    assert "Only the first 4 of 6 ranks are shown" in timeline.caption
    names = [label.get_text() for label in timeline.figure.axes[0].get_yticklabels()]
    assert names[:4] == ["simulation 0", "training 0", "simulation 1", "training 1"]
    assert len(names) == 8


def test_an_inference_has_a_lane_below_the_training_and_its_point_is_chosen(tmp_path):
    make_point(tmp_path, snapshots=4)
    add_inference(make_point(tmp_path, snapshots=4, repeat=1))
    timeline = draw_all(load(tmp_path))[-1]
    assert timeline.title.endswith("repeat~1")
    assert "below it the inference rank" in timeline.caption
    names = [label.get_text() for label in timeline.figure.axes[0].get_yticklabels()]
    assert names == ["simulation 0", "training 0", "inference 0", "simulation 1", "training 1"]
    legend = {text.get_text() for text in timeline.figure.legends[0].get_texts()}
    assert {"infer", "publish, take"} <= legend
    assert "barrier" not in legend


def test_start_checkpoint_barrier_and_weights_are_drawn_each_in_its_own_colour(tmp_path):
    from simai_rules.analysis.figures.timeline import _COLOURS, _LEGEND, _SAME, _lanes_of
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import read_events, write_events

    recorder = Recorder("simulation", 0, "node0")
    for operation in ("start", "checkpoint", "barrier", "publish", "infer", "iteration"):
        recorder.record(operation, 10**9, 10**9)
    recorder.record("take", 10**9, 3 * 10**9, wait_ns=2 * 10**9)  # of the first weights, which have to come
    write_events(recorder, None, tmp_path / "x.parquet", {})
    (lane,) = _lanes_of("simulation", read_events(tmp_path / "x.parquet"), {})
    assert {kind: spans.tolist() for kind, spans in lane.spans.items()} == {
        "start": [[1, 2]], "checkpoint": [[1, 2]], "barrier": [[1, 2]], "publish": [[1, 2]], "infer": [[1, 2]],
        "wait": [[1, 3]], "take": [[3, 4]],
    }  # fmt: skip
    assert {_SAME.get(kind, kind) for kind in _COLOURS} == set(_LEGEND)
    assert len({_COLOURS[kind] for kind in _LEGEND}) == len(_LEGEND)


def test_waiting_is_drawn_before_the_read_for_room_and_for_other_ranks(tmp_path):
    from simai_rules.analysis.figures.timeline import _lanes_of
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import read_events, write_events

    recorder = Recorder("training", 0, "node0")
    second = 10**9
    recorder.record("read", 1 * second, 3 * second, step=0, wait_ns=2 * second)
    recorder.record("train", 10 * second, 5 * second, wait_ns=1 * second)
    recorder.record("wait", 20 * second, 4 * second, wait_ns=4 * second)
    write_events(recorder, None, tmp_path / "x.parquet", {})
    (lane,) = _lanes_of("training", read_events(tmp_path / "x.parquet"), {"node0": second})
    assert {kind: spans.tolist() for kind, spans in lane.spans.items()} == {
        "read": [[4, 5]], "wait": [[2, 4], [10, 11], [21, 25]], "train": [[11, 16]],
    }  # fmt: skip
    assert lane.transfers == {0: (4, 5)}
