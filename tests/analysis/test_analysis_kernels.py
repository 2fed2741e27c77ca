import json

import pytest
from synthetic import fail, make_experiment, make_point, point_path

from simai_rules.analysis.environment import read_environment
from simai_rules.analysis.figures.kernels import draw_each
from simai_rules.analysis.grid import grids
from simai_rules.analysis.kernels import kernel_table, slowed_kernels
from simai_rules.analysis.results import load
from simai_rules.analysis.warnings import find_warnings

# Of the synthetic points: 100 calls of 2 * 64**3 operations in nine tenths of 2 ms.
RATE = 100 * 2 * 64**3 / 1.8e6


def panels(results):
    (drawing,) = draw_each(grids(results))
    return drawing, {panel.get_title("left"): panel for panel in drawing.figure.axes}


def dots(panel):
    """The (rate, place) of each dot by its label, which is `backend bytes`."""
    labelled = {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}
    return {label: (line.get_xdata()[0], line.get_ydata()[0]) for label, line in labelled.items()}


def test_the_table_has_a_row_per_kernel_size_and_backend(tmp_path):
    make_experiment(tmp_path, elements=(10_000, 1_000_000), backends=("redis", "filesystem"), repeats=3, snapshots=4)
    fail(tmp_path / point_path("redis", 10_000, 1), ("server", "killed", 1.0))
    rows = kernel_table(load(tmp_path))
    assert [(row["kernel"], row["size"], row["backend"], row["repeats"]) for row in rows] == [
        ("MatMulSimple2D", size, backend, 2 if (size, backend) == (40_000, "redis") else 3)
        for size in (40_000, 4_000_000)
        for backend in ("filesystem", "redis")
    ]
    assert rows[0]["calls_per_iteration"] == 100
    assert rows[0]["median_GFLOPps"] == pytest.approx(RATE, rel=0.01)
    assert rows[0]["median_GBps"] == pytest.approx(RATE * 3 * 64**2 * 4 / (2 * 64**3), rel=0.01)
    assert rows[0]["slowest_rank_GFLOPps"] <= rows[0]["median_GFLOPps"]


def test_each_backend_has_a_row_and_each_size_a_dot_in_it(tmp_path):
    make_experiment(tmp_path, elements=(10_000,), backends=("filesystem", "redis"), repeats=2, snapshots=3)
    make_point(tmp_path, backend="redis", elements=1_000_000, snapshots=3, slowed=2.0)
    drawing, found = panels(load(tmp_path))
    assert list(found) == ["MatMulSimple2D"]
    panel = found["MatMulSimple2D"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["filesystem", "redis"]
    where = dots(panel)
    assert {label: rate for label, (rate, _) in where.items()} == pytest.approx(
        {"filesystem 40000": RATE, "redis 40000": RATE, "redis 4000000": RATE / 2}, rel=0.01
    )
    assert {label: round(place) for label, (_, place) in where.items()} == {
        "filesystem 40000": 0, "redis 40000": 1, "redis 4000000": 1,
    }  # fmt: skip
    assert where["redis 40000"][1] < where["redis 4000000"][1]
    assert panel.get_xlabel() == "GFLOP/s of a rank, below GB/s"
    assert "40 KB, 4 MB from top to bottom" in drawing.caption


def test_settings_share_a_figure_until_they_are_too_many(tmp_path):
    for nodes in (1, 2):
        make_point(tmp_path, nodes=nodes, snapshots=3)
    _, found = panels(load(tmp_path))
    names = [label.get_text() for label in found["MatMulSimple2D"].get_yticklabels()]
    assert names == ["redis, nodes 1", "redis, nodes 2"]
    for nodes in range(3, 14):
        make_point(tmp_path, nodes=nodes, snapshots=3, ranks=1)
    drawings = [each.name for each in draw_each(grids(load(tmp_path)))]
    assert drawings == ["kernels", *(f"kernels-{number}" for number in range(2, 14))]


def test_a_kernel_without_operations_is_drawn_in_bytes_and_one_without_either_not_at_all(tmp_path):
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import write_events

    folder = make_point(tmp_path, snapshots=3)
    recorder = Recorder("simulation", 0, "node0")
    recorder.phase = "measured"
    recorder.record("write", 0, 10, nbytes=10, transport_ns=10)
    for kernel, more in (("Ring", {"nbytes": 3000}), ("own:work", {}), ("ScatterAdd", {"flops": 10.0})):
        recorder.record("compute", 0, 2000, iteration=0, kernel=kernel, calls=1, work_ns=1000, **more)
    write_events(recorder, None, folder / "simulation.parquet", {"run_id": folder.relative_to(tmp_path).as_posix()})
    _, found = panels(load(tmp_path))
    assert {title: panel.get_xlabel() for title, panel in found.items()} == {
        "Ring": "GB/s of a rank", "ScatterAdd": "GFLOP/s of a rank",
    }  # fmt: skip
    assert dots(found["Ring"])["redis 4000000"][0] == pytest.approx(3)
    assert [row["kernel"] for row in kernel_table(load(tmp_path))] == ["Ring", "ScatterAdd", "own:work"]


def test_without_operations_and_bytes_there_is_no_figure(tmp_path):
    from simai_rules.events.recorder import Recorder
    from simai_rules.events.store import write_events

    folder = make_point(tmp_path, snapshots=3)
    recorder = Recorder("simulation", 0, "node0")
    recorder.phase = "measured"
    recorder.record("compute", 0, 2000, iteration=0, kernel="own:work", calls=1, work_ns=1000)
    write_events(recorder, None, folder / "simulation.parquet", {"run_id": folder.relative_to(tmp_path).as_posix()})
    assert list(draw_each(grids(load(tmp_path)))) == []


@pytest.mark.parametrize(("slowed", "repeats", "warned"), [(1.3, 4, True), (1.05, 4, False), (1.3, 3, False)])
def test_a_kernel_that_one_backend_slows_down_is_warned_of(tmp_path, slowed, repeats, warned):
    for repeat in range(repeats):
        make_point(tmp_path, backend="redis", repeat=repeat, snapshots=3, slowed=slowed)
        make_point(tmp_path, backend="filesystem", repeat=repeat, snapshots=3)
    results = load(tmp_path)
    found = slowed_kernels(results)
    assert bool(found) == warned
    if warned:
        assert found[0].startswith("MatMulSimple2D ran at 77% of its rate with filesystem when redis carried the data")
        assert found[0] in find_warnings(results, read_environment(results), 0)


def test_backends_with_kernels_of_their_own_are_not_compared(tmp_path):
    for repeat in range(4):
        folder = make_point(tmp_path, backend="redis", repeat=repeat, snapshots=3, slowed=1.4)
        point = json.loads((folder / "point.json").read_text())
        point["simulation"]["kernels"][0]["data_size"] = [512, 512]  # by an axis zipped with the backend
        (folder / "point.json").write_text(json.dumps(point))
        make_point(tmp_path, backend="filesystem", repeat=repeat, snapshots=3)
    assert slowed_kernels(load(tmp_path)) == []


def test_backends_whose_points_overlap_are_not_told_apart(tmp_path):
    for repeat in range(4):
        make_point(tmp_path, backend="redis", repeat=repeat, snapshots=3, slowed=1.0 if repeat == 0 else 1.4)
        make_point(tmp_path, backend="filesystem", repeat=repeat, snapshots=3, slowed=1.4 if repeat == 0 else 1.0)
    assert slowed_kernels(load(tmp_path)) == []
