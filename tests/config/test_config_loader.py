"""What a config file may say, and every message about what it may not."""

from pathlib import Path

import pytest

from simai_rules.config.loader import load_experiment, parse_experiment
from simai_rules.errors import ConfigError


@pytest.fixture
def problems(tmp_path):
    """Return the error text for a config file with the given content."""

    def load(content: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            load_experiment(path)
        text = str(caught.value)
        for jargon in ("pydantic", "Input should", "Choice", "<number>", "<normal>", "Value error", "constrained"):
            assert jargon not in text
        return text

    return load


def line_of(text: str, key: str) -> str:
    [line] = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
    return line


def test_smallest_config(tmp_path):
    (tmp_path / "config.yaml").write_text("name: small\n")
    experiment = load_experiment(tmp_path / "config.yaml")
    assert list(experiment.points) == [f"backend~filesystem/elements~1000000/nodes~1/repeat~{i}" for i in range(3)]
    point = next(iter(experiment.points.values()))
    assert point.experiment == "small"
    assert point.axes == {"backend": "filesystem", "elements": 1_000_000, "nodes": 1, "repeat": 0}
    assert point.server.type == "filesystem"
    assert point.system.name == "local"


def test_numbers_without_a_dot_that_yaml_takes_for_text(tmp_path):
    (tmp_path / "config.yaml").write_text("name: a\nelements: 1e4\ntraining: {model: {learning_rate: 1e-3}}\n")
    point = next(iter(load_experiment(tmp_path / "config.yaml").points.values()))
    assert point.elements == 10_000
    assert point.training.model.learning_rate == 0.001


def test_all_problems_of_a_file_in_one_error(problems):
    text = problems("name: a\nelements: -5\nbackend: redi\nrepeat: 2\nsweep: {axes: {node: [1]}}\nsystem: lokal\n")
    assert text.splitlines()[0].endswith("config.yaml has 5 problems:")
    for key in ("elements", "backend", "repeat", "sweep.axes.node", "system"):
        assert line_of(text, key)


@pytest.mark.parametrize(
    ("content", "key", "expected"),
    [
        ("backend: rediss", "backend", ["'rediss'", "Did you mean 'redis'?", "filesystem, node-local, redis"]),
        ("backend: node_local", "backend", ["Did you mean 'node-local'?"]),
        ("elements: -5", "elements", ["-5", "a whole number >= 1"]),
        ("elements: 1.5", "elements", ["1.5", "a whole number"]),
        ("nodes: yes", "nodes", ["true", "a whole number >= 1"]),
        ("dtype: float", "dtype", ["'float'", "Did you mean 'float", "int64"]),
        ("staging: {timeout: 0}", "staging.timeout", ["0", "a number > 0"]),
        ("staging: {timeout: .inf}", "staging.timeout", ["Infinity", "a number > 0"]),
        ("staging: 5", "staging", ["5", "a mapping with the keys timeout, start_timeout, in_flight"]),
        ("repeat: 3", "repeat", ["unknown key", "Did you mean 'repeats'?"]),
        ("write_every: 3", "write_every", ["unknown key", "Did you mean 'simulation.write_every'?"]),
        ("backends: {rediss: {}}", "backends.rediss", ["unknown key", "Did you mean 'redis'?"]),
        ("backends: {redis: {prt: 3}}", "backends.redis.prt", ["unknown key", "Did you mean 'port'?"]),
        ("backends: {redis: {port: 70000}}", "backends.redis.port", ["70000", ">= 0 and <= 65535"]),
        ("backends: {node-local: {folder: shm}}", "backends.node-local.folder", ["'shm'", "an absolute path"]),
        ("training: {model: {hidden: [64, x]}}", "training.model.hidden[1]", ["'x'", "a whole number >= 1"]),
        ("training: {run_time: abc}", "training.run_time", ["'abc'", "a number > 0, {normal: {mean: …, std: …}}"]),
        ("training: {run_time: [1]}", "training.run_time", ["[1]", "a number > 0, {normal:"]),
        ("training: {run_time: {norml: {mean: 1}}}", "training.run_time", ["Did you mean 'normal'?", "{lognormal:"]),
        ("training: {run_time: {normal: {mean: 1}}}", "training.run_time.normal.std", ["required", "a number >= 0"]),
        ("training: {run_time: {normal: {mean: 1, sd: 1, std: 1}}}", "training.run_time.normal.sd", ["'std'"]),
        ("training: {run_time: {histogram: 5}}", "training.run_time.histogram", ["5", "CSV file"]),
        ("system: lokal", "system", ["'lokal'", "Did you mean 'local'?", "Known machines: "]),
        ("system: here/mine.yaml", "system", ["here/mine.yaml", "there is no file"]),
        ("sweep: {axes: [1]}", "sweep.axes", ["[1]", "a mapping"]),
        ("sweep: {axes: {nodes: 3}}", "sweep.axes.nodes", ["3", "a list of the axis's values"]),
        ("sweep: {axes: {nodes: []}}", "sweep.axes.nodes", ["[]", "a list of the axis's values"]),
        ("sweep: {axis: {}}", "sweep.axis", ["unknown key", "Did you mean 'axes'?"]),
        ("simulation: {kernels: []}", "simulation", ["kernels: [] leaves an iteration without work", "mix"]),
        ("simulation: {kernels: {}}", "simulation.kernels", ["{}", "a list of kernels"]),
    ],
)
def test_message(problems, content, key, expected):
    line = line_of(problems(f"name: a\n{content}\n"), key)
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("kernel", "key", "expected"),
    [
        ("{name: MatMul2D}", "[0].name", ["'MatMul2D'", "Did you mean 'MatMulSimple2D'?", "ScatterAdd"]),
        ("{run_time: 1}", "[0].name", ["required", "MatMulSimple2D"]),
        ("{name: FFT, run_time: -1}", "[0].run_time", ["-1", "a number > 0"]),
        ("{name: FFT, run_time: 1, run_count: 2}", "[0]", ["give run_time or run_count, not both"]),
        ("{name: FFT, datasize: [3]}", "[0].datasize", ["unknown key", "Did you mean 'data_size'?"]),
        ("{name: FFT, data_size: [3, -1]}", "[0].data_size[1]", ["-1", "a whole number >= 1"]),
        ("{name: FFT, data_size: [1, 1, 1, 1, 1]}", "[0].data_size", ["[1, 1, 1, 1, 1]", "a list"]),
        ("{name: MatMulSimple2D, data_size: [4]}", "[0]", ["[4]", "MatMulSimple2D takes 2 dimensions"]),
        ("{name: MatMulGeneral, data_size: [4]}", "[0]", ["[4]", "MatMulGeneral takes 2 to 4 dimensions"]),
        ("{name: InplaceCompute, ufunc: sinn}", "[0]", ["'sinn'", "Did you mean 'sin'?", "tanh"]),
        ("{name: InplaceCompute, ufunc: add}", "[0]", ["'add'", "one float32 array"]),
        ("{name: InplaceCompute, ufunc: cbrt, dtype: complex64}", "[0]", ["'cbrt'", "one complex64 array"]),
    ],
)
def test_message_about_a_kernel(problems, kernel, key, expected):
    line = line_of(problems(f"name: a\nsimulation: {{kernels: [{kernel}]}}\n"), f"simulation.kernels{key}")
    for part in expected:
        assert part in line


def test_every_problem_of_a_kernel_is_told(problems):
    text = problems(
        "name: a\nsimulation: {kernels: [{name: MatMulSimple2D, data_size: [1], run_time: 1, run_count: 1}]}\n"
    )
    assert "not both" in text
    assert "takes 2 dimensions" in text


def test_ufuncs_are_numpy_functions_that_work_in_place():
    import numpy as np

    from simai_rules.config.kernels import REAL_ONLY_UFUNCS, UFUNCS

    for dtype, ufuncs in [("float32", UFUNCS + REAL_ONLY_UFUNCS), ("complex128", UFUNCS)]:
        for name in ufuncs:
            operand = np.full(3, 0.5, dtype=dtype)
            with np.errstate(invalid="ignore"):
                assert getattr(np, name)(operand, out=operand) is operand


def test_the_sweep_is_checked_although_another_part_is_wrong(problems):
    text = problems("name: a\nstaging: 5\nsweep: {axes: {staging.timeout: [1], simulation.kernels.0.nam: [x]}}\n")
    assert "staging: 5" in text
    assert "Did you mean 'simulation.kernels.0.name'?" in text
    assert "staging.timeout" not in text  # whether that key exists cannot be known


def test_many_problems_are_counted(problems):
    text = problems("name: a\n" + "".join(f"key{i}: 1\n" for i in range(60)))
    assert "has 60 problems" in text
    assert "… and 10 more" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["the file is empty"]),
        ("# nothing\n", ["the file is empty"]),
        ("- a\n- b\n", ["holds a list", "key: value"]),
        ("just text", ["holds a single value"]),
        ("name: a\nname: b\n", ["line 2, column 1", "'name' is there twice", "line 1"]),
        ("name: a\nstaging: {timeout: 1, timeout: 2}\n", ["line 2", "'timeout' is there twice"]),
        ("name: a\nstaging:\n\ttimeout: 1\n", ["line 3", "a tab cannot indent"]),
        ("name: [a\n", ["line 2"]),
        ("name: &a [*a]\n", ["line 1", "recursive"]),
        ("? [1]\n: 2\n", ["unhashable"]),
        ("name: !!python/name:os.system ''\n", ["line 1", "could not determine a constructor"]),
        ("name: " + "[" * 900 + "]" * 900, ["nested too deep"]),
        ("name: a\nnodes: " + "9" * 5000, ["a value that YAML cannot read"]),
        ("name: a\x00", ["is not valid YAML"]),
        ("1: a\n", ["1", "not text; put it in quotes"]),
        ("name: a\nsweep: {axes: {1: [1]}}\n", ["sweep.axes", "the key 1 is not text"]),
        ("name: no\n", ["name: false", "letters"]),
        ("name: 2026-11-21\n", ["name: '2026-11-21'", "letters"]),
        ("name: a/b\n", ["name: 'a/b'", "letters"]),
        ("nodes: 1\n", ["name: this key is required", "letters"]),
    ],
)
def test_file_that_is_no_config(problems, content, expected):
    text = problems(content)
    assert "config.yaml" in text
    for part in expected:
        assert part in text


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: there is no such file"):
        load_experiment(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_experiment(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_experiment(tmp_path / "binary.yaml")


def test_merge_keys_of_yaml_work(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: a\nsimulation: {kernels: [&k {name: FFT, run_time: 1}, {<<: *k, run_time: 2}]}\n")
    point = next(iter(load_experiment(path).points.values()))
    assert [kernel.run_time for kernel in point.simulation.kernels] == [1, 2]


def test_source_names_the_file_in_errors():
    with pytest.raises(ConfigError, match=r"Snakefiles/x/config\.yaml has 1 problem"):
        parse_experiment({"name": "a", "nodes": 0}, Path(), "Snakefiles/x/config.yaml")


def test_different_numbers_of_ranks(problems):
    text = problems("name: a\nsimulation: {ranks_per_node: 2}\n")
    assert "simulation.ranks_per_node is 2, training.ranks_per_node is 1" in text
    assert "(with" not in text  # it concerns every point


def test_a_problem_of_some_points_names_the_axes_and_their_values(problems):
    text = problems("name: a\nsweep: {axes: {simulation.ranks_per_node: [1, 2, 4], nodes: [1, 2]}}\n")
    assert "has 2 problems" in text
    assert "simulation.ranks_per_node is 2" in text
    assert "(with simulation.ranks_per_node: 2, nodes: 1 and 1 more)" in text


def test_histogram_of_the_config_is_read_into_the_point(tmp_path):
    (tmp_path / "times.csv").write_text("value,probability\n0.5,0.5\n1.5,0.5\n")
    raw = {"name": "a", "training": {"run_time": {"histogram": "times.csv"}}}
    experiment = parse_experiment(raw, tmp_path, "config.yaml")
    for point in experiment.points.values():
        assert point.training.run_time.histogram.values == [0.5, 1.5]


def test_histogram_that_is_missing_names_key_and_file(problems):
    line = line_of(problems("name: a\ntraining: {run_time: {histogram: no.csv}}\n"), "training.run_time.histogram")
    assert "no.csv: there is no such histogram file" in line


def test_system_of_the_users_profiles(tmp_path):
    folder = tmp_path / "Snakefiles" / "mine"
    folder.mkdir(parents=True)
    for place, cores in [(tmp_path, 4), (folder, 8)]:
        (place / "profiles" / "big").mkdir(parents=True)
        (place / "profiles" / "big" / "system.yaml").write_text(f"name: big\ncores: {cores}\n")
    point = next(iter(parse_experiment({"name": "a", "system": "big"}, folder, "c").points.values()))
    assert point.system.cores == 8
    (folder / "profiles" / "big" / "system.yaml").unlink()
    point = next(iter(parse_experiment({"name": "a", "system": "big"}, folder, "c").points.values()))
    assert point.system.cores == 4
    raw = {"name": "a", "system": "../../profiles/big/system.yaml"}
    assert next(iter(parse_experiment(raw, folder, "c").points.values())).system.cores == 4


def test_wrong_system_file_is_named_with_its_problems(tmp_path):
    (tmp_path / "s.yaml").write_text("name: a\ncore: 3\nlauncher: {flavour: hydr}\n")
    with pytest.raises(ConfigError) as caught:
        parse_experiment({"name": "a", "system": "./s.yaml"}, tmp_path, "config.yaml")
    text = str(caught.value)
    assert "s.yaml has 2 problems" in text
    assert "core: unknown key. Did you mean 'cores'?" in text
    assert "launcher.flavour: 'hydr' is not known. Did you mean 'hydra'?" in text
