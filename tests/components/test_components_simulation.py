"""The class Simulation: kernels by time and by count, its staging verbs, and messages for what cannot be."""

import json
import re

import pytest

from simai_rules.components.simulation import Simulation
from simai_rules.errors import ConfigError, UserError
from simai_rules.events.recorder import Recorder
from simai_rules.staging.errors import StagingTimeout
from simai_rules.staging.info import ServerInfo


@pytest.fixture
def server(tmp_path):
    (tmp_path / "data").mkdir()
    address = {"folder": str(tmp_path / "data")}
    return ServerInfo(backend="filesystem", run_id="t", state="ready", address=address)


def events(recorder):
    columns = recorder.columns()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_as_in_the_readme(server):
    """The two components of SimAI-Bench's README."""
    first = Simulation(name="sim", server_info=server)
    first.add_kernel("MatMulSimple2D")
    first.run()
    first.stage_write("key", "value")
    second = Simulation(name="sim2", server_info=server.as_dict())
    second.add_kernel("MatMulGeneral")
    assert second.stage_read("key") == "value"
    second.run()
    first.close()
    second.close()


def test_run_time_is_met_and_recorded():
    recorder = Recorder("simulation", 0, "here")
    simulation = Simulation(recorder=recorder)
    simulation.add_kernel("AXPY", run_time=0.002, data_size=[100])
    simulation.add_kernel("FFT", run_time=0.001, data_size=[64], dtype="complex64")
    seconds = simulation.run(nsteps=5)
    assert len(seconds) == simulation.iteration == 5
    assert min(seconds) >= 0.003
    recorded = events(recorder)
    assert [event["operation"] for event in recorded] == ["compute", "compute", "iteration"] * 5
    assert [event["kernel"] for event in recorded[:3]] == ["AXPY", "FFT", ""]
    assert [event["iteration"] for event in recorded[::3]] == list(range(5))
    assert [event["duration_ns"] / 1e9 for event in recorded[2::3]] == seconds
    for axpy, fft, iteration in zip(recorded[::3], recorded[1::3], recorded[2::3], strict=True):
        assert axpy["duration_ns"] >= 2_000_000
        assert iteration["start_ns"] <= axpy["start_ns"]
        assert axpy["start_ns"] + axpy["duration_ns"] <= fft["start_ns"]


def test_run_count_is_exact(monkeypatch):
    simulation = Simulation()
    simulation.add_kernel("GenerateRandomNumber", run_count=3, data_size=[10])
    simulation.add_kernel("ScatterAdd", data_size=[10])
    calls = []
    for run in simulation._phases.steps:
        monkeypatch.setattr(run._pace, "_call", lambda name=run.config.name: calls.append(name))
    simulation.run(2)
    assert calls == [*["GenerateRandomNumber"] * 3, "ScatterAdd"] * 2


def test_counts_from_a_distribution(monkeypatch):
    simulation = Simulation(seed=1)
    simulation.add_kernel(
        "AXPY", run_count={"histogram": {"values": [1, 4], "probabilities": [0.5, 0.5]}}, data_size=[9]
    )
    calls = []
    monkeypatch.setattr(simulation._phases.steps[0]._pace, "_call", lambda: calls.append(1))
    counts = set()
    for _ in range(30):
        simulation.run()
        counts.add(len(calls))
        calls.clear()
    assert counts == {1, 4}


def test_from_dict_and_json(tmp_path):
    config = {"kernels": [{"name": "AXPY", "run_count": 2, "data_size": [8]}, {"name": "FFT", "data_size": [8]}]}
    file = tmp_path / "sim.json"
    file.write_text(json.dumps(config))
    first, second = Simulation(), Simulation()
    first.init_from_dict(config)
    second.init_from_json(file)
    assert [run.config for run in first._phases.steps] == [run.config for run in second._phases.steps]
    assert len(second.run()) == 1


def test_a_call_longer_than_its_run_time_names_a_size_that_fits():
    simulation = Simulation()
    simulation.add_kernel("MatMulSimple2D", run_time=0.0005, data_size=[1024, 512])
    message = r"data_size \[1024, 512\] \(float32\) takes .* ms, longer than its run_time of 0.5 ms"
    with pytest.raises(UserError, match=message) as raised:
        simulation.run()
    fitting = re.search(r"\(data_size \[(\d+), (\d+)\] would fit\)", str(raised.value))
    assert fitting is not None
    assert int(fitting[1]) == 2 * int(fitting[2]) < 1024


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"name": "MatMul"}, ["'MatMul' is no kernel", "There are: MatMulSimple2D"]),
        ({"name": "AXPY", "run_time": -1.0}, ["run_time: -1.0"]),
        ({"name": "AXPY", "run_time": 1.0, "run_count": 2}, ["run_time or run_count, not both"]),
        ({"name": "AXPY", "data_size": [0]}, ["data_size[0]: 0"]),
        ({"name": "AXPY", "dtype": "int8"}, ["'int8' is not known", "float32"]),
        ({"name": "AXPY", "devise": "cuda"}, ["devise: unknown key. Did you mean 'device'?"]),
    ],
)
def test_what_is_no_kernel(options, messages):
    with pytest.raises(ConfigError) as raised:
        Simulation().add_kernel(**options)
    for message in messages:
        assert message in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        Simulation().init_from_dict({"kernels": [options]})
    assert "kernels[0]" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "problem"), ('{"kernel": []}', "Did you mean 'kernels'?")],
)
def test_files_that_are_no_config(tmp_path, content, message):
    file = tmp_path / "sim.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as raised:
        Simulation().init_from_json(file)
    assert message in str(raised.value)
    assert "sim.json" in str(raised.value)


def test_nothing_to_run_and_nowhere_to_stage():
    with pytest.raises(UserError, match="sim has no kernel to run"):
        Simulation(name="sim").run()
    with pytest.raises(UserError, match="sim has no staging server"):
        Simulation(name="sim").stage_write("key", 1)


def test_staging_verbs(server):
    with Simulation(server_info=server) as simulation:
        assert not simulation.poll_staged_data("key")
        with pytest.raises(StagingTimeout):
            simulation.stage_read("key", timeout=0.01)
        simulation.stage_write("key", [1, 2])
        assert simulation.poll_staged_data("key", timeout=0.1)
        assert simulation.clean_staged_data("key")
        assert not simulation.clean_staged_data("key")
        assert simulation.store.last.verb == "delete"
    simulation.close()
