"""Descriptions of machines: what does not fit together is told, all of it at once."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from simai_rules.config.ranges import parse_ranges, ranges_text
from simai_rules.config.system import SystemConfig
from simai_rules.config.system_files import load_system
from simai_rules.errors import ConfigError
from simai_rules.resources import shipped

SHIPPED = sorted(path.parent.name for path in shipped("profiles").glob("*/system.yaml"))
GOOD = {
    "cores": 8,
    "threads_per_core": 2,
    "reserved_cores": ["0", 8],
    "gpus": [0, "1"],
    "gpu_variable": "CUDA_VISIBLE_DEVICES",
    "numa": [{"cores": "0-3,8-11", "gpus": [0]}, {"cores": "4-7,12-15", "gpus": ["1"]}],
}


def problems(tmp_path, **changes):
    file = tmp_path / "system.yaml"
    file.write_text(yaml.safe_dump(GOOD | changes))
    with pytest.raises(ConfigError) as caught:
        load_system(str(file), tmp_path)
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_machines_that_are_shipped(name):
    system = load_system(name, Path())
    assert system.name == name
    if system.gpus:
        assert sorted(gpu for domain in system.numa for gpu in domain.gpus) == sorted(system.gpus)
    threads = (system.cores or 0) * system.threads_per_core
    if system.cores:
        # Of a reserved core all hardware threads are reserved.
        reserved = {core % system.cores for core in system.reserved_cores}
        assert len(system.reserved_cores) == len(reserved) * system.threads_per_core
        assert sorted(core for domain in system.numa for core in domain.cores) == list(range(threads))


def test_the_machines_of_the_issue_are_shipped():
    assert {"aurora", "polaris", "frontier", "perlmutter", "slurm", "local"} <= set(SHIPPED)


@given(st.lists(st.integers(0, 300)))
def test_ranges_are_read_as_they_are_written(numbers):
    assert parse_ranges(ranges_text(numbers) or []) == sorted(set(numbers))


def test_ranges_and_numbers_may_be_mixed():
    assert parse_ranges(["0-2", 7, "9,11-12"]) == [0, 1, 2, 7, 9, 11, 12]
    assert parse_ranges(5) == [5]
    assert SystemConfig(**GOOD).gpus == ["0", "1"]


@pytest.mark.parametrize("value", ["3-1", "a", "1-", "", "-1", -1, True, 1.5, "0-99999999999", 70_000, ["1", None], {}])
def test_what_is_no_range_of_cores_is_named(tmp_path, value):
    assert "reserved_cores: " in problems(tmp_path, reserved_cores=value)


def test_all_that_does_not_fit_together_is_told_at_once(tmp_path):
    text = problems(
        tmp_path,
        reserved_cores=[0, 0, 99],
        gpus=["0", "1", "0", "2"],
        gpu_variable=None,
        numa=[{"cores": "0-3,16", "gpus": ["0", "7"]}, {"cores": "3-5", "gpus": ["0"]}],
    )
    for part in (
        "reserved_cores: there is no core 99; 8 cores with 2 hardware threads have the numbers 0 to 15",
        "reserved_cores: core 0 is named twice",
        "numa[0].cores: there is no core 16",
        "numa: core 6-7 is in no domain",
        "numa: core 3 is named twice",
        "gpus: 0 is named twice",
        "numa: the GPU 0 is in two domains",
        "numa: the GPU 7 is none of gpus",
        "numa: the GPU 1, 2 is in no domain",
        "without gpu_variable no rank can be given one of them",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reserved_cores": "0-7"}, "all cores are reserved"),
        ({"cores": None, "reserved_cores": []}, "numa and threads_per_core need cores"),
        ({"gpus": [0.1]}, "put the ids of GPUs in quotes"),
        ({"gpus": ["a b"]}, "gpus[0]"),
        ({"node_local": "scratch"}, "node_local: 'scratch' is not allowed. It takes an absolute path"),
        ({"launcher": {"flavour": "palls"}}, "Did you mean 'pals'?"),
        ({"scheduler": "lsf"}, "Allowed: none, pbs, slurm"),
        (
            {"queues": {"q": {"min_nodes": 4, "max_nodes": 2, "min_minutes": 9, "max_minutes": 5}}},
            "min_nodes 4 is more",
        ),
        ({"queues": {"q": {"max_node": 2}}}, "queues.q.max_node: unknown key. Did you mean 'max_nodes'?"),
        ({"numa": [{"cores": []}]}, "numa[0].cores"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(tmp_path, changes, message):
    assert message in problems(tmp_path, **changes)
