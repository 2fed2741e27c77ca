from simai_rules.analysis.grid import following_axes, grids
from simai_rules.analysis.results import PointResult


def point(backend="redis", elements=1000, repeat=0, nodes=1, **axes):
    settings = {"backend": backend, "elements": elements, "nodes": nodes, "repeat": repeat, "axes": axes}
    return PointResult(f"{backend}{elements}{repeat}{axes}", None, settings, "missing")


def test_repeats_share_a_cell_and_backends_and_sizes_do_not():
    (grid,) = grids([point(b, e, r) for b in ("redis", "filesystem") for e in (1000, 100) for r in (0, 1)])
    assert grid.label == ""
    assert grid.sizes == [400, 4000]
    assert grid.backends == ["filesystem", "redis"]
    assert all(len(cell) == 2 for cell in grid.cells.values())
    assert len(grid.cells) == 4


def test_every_setting_of_the_other_axes_is_a_grid_of_its_own():
    found = grids([point(nodes=n, dtype="float64", warmup=w) for n in (1, 2) for w in (1, 3)])
    assert [grid.label for grid in found] == [
        "nodes 1, warmup 1", "nodes 1, warmup 3", "nodes 2, warmup 1", "nodes 2, warmup 3",
    ]  # fmt: skip


def test_an_axis_that_goes_with_the_size_makes_no_setting_and_is_named():
    results = [point(elements=e, repeat=r, write_every=e // 10) for e in (100, 1000) for r in (0, 1)]
    (grid,) = grids(results)
    assert grid.sizes == [400, 4000]
    assert following_axes(results) == ["write_every"]


def test_axes_of_mappings_can_be_told_apart():
    results = [point(run_time={"normal": {"mean": mean, "std": 0.1}}) for mean in (1, 2)]
    assert len(grids(results)) == 2
