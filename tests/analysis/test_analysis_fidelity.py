import numpy as np
import pytest
from synthetic import make_point

from simai_rules.analysis.fidelity import off_target, targets
from simai_rules.analysis.results import load

COMPUTE = ("simulation", "compute")


def simulation(**content):
    return targets({"simulation": content})


def means(found):
    return {key: target.mean for key, target in found.items()}


def test_each_kernel_of_an_iteration_a_mix_and_a_checkpoint_has_its_target():
    found = simulation(
        kernels=[{"name": "FFT", "run_time": 0.01}, {"name": "AXPY", "run_count": 3}],
        mix=[{"weight": 1, "kernels": [{"name": "Sort", "run_time": 0.03}]}, {"weight": 9, "kernels": []}],
        checkpoint={"every": 5, "kernels": [{"name": "WriteNonMPI", "run_time": 0.2}]},
        start={"kernels": [{"name": "SpMV", "run_time": 4.0}]},
    )
    assert means(found) == {(*COMPUTE, "FFT"): 0.01, (*COMPUTE, "Sort"): 0.03, (*COMPUTE, "WriteNonMPI"): 0.2}


def test_a_kernel_that_stands_in_two_places_has_a_target_only_if_they_agree():
    def both(first, second):
        return means(simulation(kernels=[{"name": "FFT", "run_time": first}, {"name": "FFT", "run_time": second}]))

    assert both(0.01, 0.01) == {(*COMPUTE, "FFT"): 0.01}
    assert both(0.01, 0.02) == both(0.01, None) == {}


def test_factors_of_ranks_are_part_of_the_target():
    kernels = [{"name": name, "run_time": 0.01} for name in ("FFT", "AllReduce", "mine:kernel")]
    apart = simulation(kernels=kernels, imbalance=[1.0, 1.3])
    assert means(apart) == pytest.approx({(*COMPUTE, "FFT"): 0.013, (*COMPUTE, "AllReduce"): 0.01})
    assert apart[*COMPUTE, "FFT"].of_slowest
    assert not apart[*COMPUTE, "AllReduce"].of_slowest
    assert means(simulation(kernels=kernels, imbalance=2.0))[*COMPUTE, "FFT"] == 0.02
    drawn = simulation(kernels=kernels, imbalance={"normal": {"mean": 1.0, "std": 0.1}})
    assert list(drawn) == [(*COMPUTE, "AllReduce")]


def test_training_and_inference_have_targets_under_the_name_of_what_they_do():
    assert means(targets({"training": {"run_time": 0.06}})) == {("training", "train", ""): 0.06}
    assert means(targets({"training": {"run_time": 0.06, "task": "infer"}})) == {("training", "infer", ""): 0.06}
    assert means(targets({"inference": {"run_time": 0.02}})) == {("inference", "infer", ""): 0.02}
    assert targets({"simulation": None, "training": {"run_time": None}, "inference": None}) == {}


def test_drawn_times_have_the_moments_of_their_distribution():
    target = targets({"training": {"run_time": {"lognormal": {"median": 0.03, "sigma": 0.4}}}})["training", "train", ""]
    assert target.mean == pytest.approx(0.03 * np.exp(0.08))
    assert target.std == pytest.approx(target.mean * np.sqrt(np.expm1(0.16)))


def row(mean, count=100, ranks=1, slowest=None):
    return {"mean_s": mean, "max_rank_mean_s": slowest or mean, "count": count, "ranks": ranks}


def test_what_chance_does_to_drawn_times_is_not_held_against_them():
    target = targets({"training": {"run_time": {"normal": {"mean": 1.0, "std": 0.1}}}})["training", "train", ""]
    assert target.off(row(1.04)) is None  # 0.02, and 3 * 0.1 / sqrt(100)
    assert target.off(row(1.06)) == pytest.approx(0.06)
    assert target.off(row(1.04, count=10_000)) == pytest.approx(0.04)
    assert target.off(row(1.04, count=10_000, ranks=100)) is None
    assert target.off(row(None)) is None


def test_with_factors_it_is_the_slowest_rank_that_is_compared():
    target = simulation(kernels=[{"name": "FFT", "run_time": 1.0}], imbalance=[1.0, 3.0])[*COMPUTE, "FFT"]
    assert target.off(row(1.5, slowest=3.0)) is None
    assert target.off(row(1.5, slowest=3.3)) == pytest.approx(0.1)


def test_kernels_that_are_off_are_named_with_how_many_points(tmp_path):
    import json

    for repeat in range(2):
        folder = make_point(tmp_path, repeat=repeat, snapshots=5)
        assert off_target(load(tmp_path)) == []
    for repeat in range(2):
        folder = make_point(tmp_path / "other", repeat=repeat, snapshots=5)
        point = json.loads((folder / "point.json").read_text())
        point["simulation"]["kernels"] = [
            {"name": "FFT", "run_time": 1.0},
            {"name": "MatMulSimple2D", "run_time": 0.001},
        ]
        point["training"]["run_time"] = 0.005
        (folder / "point.json").write_text(json.dumps(point))
    (text,) = off_target(load(tmp_path / "other"))
    assert text.startswith(
        "Iterations did not keep their run_time: the simulation's MatMulSimple2D in 2 points (+100% off), "
        "the training in 2 points (-20% off)"
    )
