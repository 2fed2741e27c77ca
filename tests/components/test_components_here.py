"""Where the ranks run on this machine, what keeps a component from being made is found by the rule `configure`."""

import pytest

from simai_rules.cli import main
from simai_rules.components.here import check_here
from simai_rules.config.loader import load_experiment
from simai_rules.config.points import point_json
from simai_rules.errors import UserError

KERNELS = "simulation: {kernels: [{name: FFT, device: 'cuda:99'}, {name: AXPY, data_size: [100000, 100000, 100]}]}"


@pytest.fixture
def point(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("PBS_NODEFILE", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
        monkeypatch.delenv(variable, raising=False)

    def make(text, system="name: here"):
        (tmp_path / "system.yaml").write_text(system)
        (tmp_path / "config.yaml").write_text(f"name: e\nsystem: system.yaml\n{text}\n")
        return next(iter(load_experiment(tmp_path / "config.yaml").points.values()))

    return make


def test_all_that_is_wrong_is_told_and_no_point_is_written(point, tmp_path, capsys):
    output = tmp_path / "point.json"
    assert main(["configure", "--config", point_json(point(KERNELS)), "--output", str(output)]) == 1
    message = capsys.readouterr().err
    assert "2 problems with kernels:\n  kernel FFT: Device cuda" in message
    assert "kernel AXPY: its operands with data_size [100000, 100000, 100]" in message
    assert not output.exists()


def test_nodes_that_are_not_this_machine_are_not_judged(point, monkeypatch, tmp_path):
    check_here(point(KERNELS, "{name: cluster, scheduler: pbs}"))
    (tmp_path / "hosts").write_text("elsewhere\n")
    check_here(point(KERNELS, "{name: some, hostfile: hosts}"))
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    check_here(point(KERNELS))


def test_a_model_in_the_folder_of_the_run_is_made(point, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry not in ("", str(tmp_path))])
    (tmp_path / "nets_here.py").write_text("from torch.nn import Linear as Net\nNumber = 5\n")
    options = "inputs: [4], targets: [2], options: {in_features: 4, out_features: %d}"
    check_here(point("training: {model: {name: 'nets_here:Net', %s}}" % (options % 2)))
    with pytest.raises(UserError, match=r"nets_here:Net makes of two samples an array of shape \[2, 3\]"):
        check_here(point("training: {model: {name: 'nets_here:Net', %s}}" % (options % 3)))
    with pytest.raises(UserError, match="nets_here:Number, which is no class"):
        check_here(point("training: {model: {name: 'nets_here:Number', inputs: [4]}}"))
