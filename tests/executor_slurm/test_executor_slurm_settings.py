"""The settings of the executor simai-slurm: what is wrong with them is said at once, before anything is submitted."""

import pytest

from snakemake_executor_plugin_simai_slurm import ExecutorSettings, problems, words


def test_settings_that_are_right():
    settings = ExecutorSettings(account="proj", partition="debug", options=["--network=job_vni --comment='a b'"])
    assert problems(settings) == []
    assert words(settings.options) == ["--network=job_vni", "--comment=a b"]


def test_all_wrong_ones_are_named_at_once():
    found = problems(ExecutorSettings(account="a b", qos="--x", submit_retries=-1, options=["-C --time=5"]))
    assert len(found) == 5
    assert all(line.startswith("--simai-slurm-") for line in found)
    assert "No closing quotation" in problems(ExecutorSettings(options=["--comment='a"]))[0]


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("--nodes=4", "the resource nodes"),
        ("--time=10", "the resource runtime, in minutes"),
        ("--partition=debug", "--simai-slurm-partition"),
        ("--requeue", "a job is not to start twice"),
    ],
)
def test_an_option_with_a_place_of_its_own_says_where(option, instead):
    (found,) = problems(ExecutorSettings(options=[option]))
    assert instead in found
