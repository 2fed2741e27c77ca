"""An experiment of simai-rules, submitted to a real Slurm: coupled points on two nodes, their ranks started by srun."""

import copy
import json

import pytest
from experiment import ENDLESS, SMALL, Experiment

SYSTEM = """\
name: test
scheduler: slurm
oversubscribe: true
launcher:
  command: srun
  options: ["--mpi=pmi2"]
"""
SUBMISSION = (
    "--simai-slurm-partition", "debug", "--simai-slurm-poll-seconds", "0.5", "--latency-wait", "20", "--config",
    "system=system.yaml",
)  # fmt: skip


@pytest.fixture
def experiment(slurm, traces, tmp_path):
    """A small one_to_one experiment on two nodes with the profile slurm, one rank of each component on each node."""
    small = {name: copy.deepcopy(SMALL[name]) | {"ranks_per_node": 1} for name in ("simulation", "training")}
    small["sweep"] = {"axes": {"backend": ["filesystem", "node-local"], "elements": [1000]}}
    experiment = Experiment(
        tmp_path / "e", traces.environment | slurm.environment, nodes=2, minutes=3, system="system.yaml", **small
    )
    (experiment.folder / "system.yaml").write_text(SYSTEM)
    experiment.profile = experiment.profile.parent / "slurm"
    return experiment


def point_of(experiment, backend):
    return experiment.results / f"backend~{backend}/elements~1000/nodes~2/repeat~0"


def test_a_pack_of_points_runs_on_two_nodes(experiment, traces):
    points = [point_of(experiment, backend) for backend in ("filesystem", "node-local")]
    events = [file for point in points for file in experiment.events(point)]
    code, output = experiment.run(*SUBMISSION, "--group-components", "point=2", "--", *events)
    assert code == 0, output
    assert output.count("Submitted as Slurm job") == 1
    for point in points:
        for component in ("simulation", "training"):
            ranks = json.loads((point / f"{component}.capsule.json").read_text())["ranks"]
            assert [rank["host"] for rank in ranks] == ["n1", "n2"]
    assert traces.left_after(10) == []


def test_a_deleted_job_leaves_nothing_on_any_node(experiment, slurm, traces):
    # Here by MPICH's mpiexec, which starts its proxies on the nodes by srun.
    (experiment.folder / "system.yaml").write_text("name: test\nscheduler: slurm\noversubscribe: true\n")
    # Longer than the test, and short enough to be let into the queue.
    changes = {"simulation": SMALL["simulation"], "training": ENDLESS | {"iterations": 2000}, "minutes": 30}
    experiment.config |= changes
    experiment.save()
    point = point_of(experiment, "node-local")
    snakemake = experiment.start(*SUBMISSION, "--", *experiment.events(point))
    experiment.wait_until_coupled(point)
    traces.note_segments()
    slurm.run("scancel", slurm.run("squeue", "--noheader", "--format=%A"))
    output, _ = snakemake.communicate(timeout=60)
    assert snakemake.returncode != 0
    assert "was deleted" in output
    assert traces.left_after(20) == []
