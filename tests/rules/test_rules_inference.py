"""An experiment with an inference beside the simulation and the training, run by Snakemake."""

import os

import pytest
from experiment import Experiment

from simai_rules.analysis.results import load
from simai_rules.events.store import read_events
from simai_rules.launch.launcher import find_program

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")

RANKS = {"inference.ranks_per_node": [0, 2]}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two points that have been run, one of them with an inference."""
    folder = tmp_path_factory.mktemp("inference")
    (folder / "tmp").mkdir()
    experiment = Experiment(
        folder / "e",
        os.environ | {"TMPDIR": str(folder / "tmp")},
        sweep={"axes": {"backend": ["filesystem"], "elements": [1000], **RANKS}},
        inference={"run_time": 0.01, "take_every": 3},
        staging={"timeout": 120, "start_timeout": 60},  # five ranks load torch or MPI at the same time
    )
    experiment.config["training"] |= {"publish_every": 4}
    experiment.save()
    code, output = experiment.run()
    assert code == 0, output
    return experiment


def test_only_the_point_with_an_inference_has_its_events(experiment):
    without, beside = (
        experiment.results / f"backend~filesystem/elements~1000/nodes~1/inference.ranks_per_node~{ranks}/repeat~0"
        for ranks in RANKS["inference.ranks_per_node"]
    )
    assert not (without / "inference.parquet").exists()
    events = read_events(beside / "inference.parquet").to_pylist()
    assert {event["rank"] for event in events} == {0, 1}
    assert {event["operation"] for event in events} == {"init", "take", "infer", "iteration", "poll"}
    assert (beside / "inference.capsule.json").exists()
    results = load(experiment.results)
    assert {result.state for result in results} == {"done"}
    components = [{row["component"] for row in result.rows} for result in results]
    assert components == [{"simulation", "training"}, {"simulation", "training", "inference"}]


def test_a_second_run_does_nothing_and_a_lost_result_runs_its_point(experiment):
    code, output = experiment.run("-n")
    assert code == 0
    assert "Nothing to be done" in output
    [lost] = experiment.results.rglob("inference.parquet")
    lost.unlink()
    code, output = experiment.run()
    assert code == 0, output
    assert lost.exists()
    code, output = experiment.run("-n")
    assert "Nothing to be done" in output
