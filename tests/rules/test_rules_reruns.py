"""Only what is missing or changed runs again: dry runs after a real run, with one thing changed at a time."""

import re

import pytest
from experiment import Experiment

from simai_rules.launch.launcher import find_program

pytestmark = pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")

AXES = {"axes": {"backend": ["filesystem", "redis"], "elements": [1000]}}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """An experiment of two points that has been run."""
    import os

    folder = tmp_path_factory.mktemp("complete")
    (folder / "tmp").mkdir()
    experiment = Experiment(folder / "e", os.environ | {"TMPDIR": str(folder / "tmp")}, sweep=AXES)
    code, output = experiment.run()
    assert code == 0, output
    return experiment


def would_run(experiment: Experiment) -> dict[str, int]:
    """How many jobs of each rule a run would have, by the table of a dry run."""
    code, output = experiment.run("-n")
    assert code == 0, output
    if "Nothing to be done" in output:
        return {}
    table = re.search(r"^-+ +-+\n(.*?)^total", output, re.DOTALL | re.MULTILINE)
    assert table, output
    return {rule: int(count) for rule, count in re.findall(r"^(\S+) +(\d+)$", table[1], re.MULTILINE)}


def point_jobs(jobs: dict[str, int]) -> dict[str, int]:
    return {rule: count for rule, count in jobs.items() if rule not in ("all", "summarize", "plot", "report")}


@pytest.fixture
def changed(complete):
    """The experiment, with its config and results put back after the test."""
    config = complete.config
    complete.config = {**config}
    yield complete
    complete.config = config
    complete.save()


def test_a_complete_run_leaves_results_and_nothing_else(complete):
    assert sorted(path.name for path in complete.results.iterdir()) == [
        "backend~filesystem", "backend~redis", "figures", "logs", "report.html", "summary.csv", "summary.parquet"
    ]  # fmt: skip
    assert not (complete.folder / "staging").exists()
    assert not (complete.point("redis") / "server.json").exists()
    assert not (complete.point("redis") / "failures").exists() or not any((complete.point() / "failures").iterdir())


def test_a_second_run_does_nothing(complete):
    assert would_run(complete) == {}


def test_a_deleted_result_runs_its_point_only(complete):
    lost = complete.point("redis") / "training.parquet"
    content, times = lost.read_bytes(), lost.stat()
    lost.unlink()
    try:
        jobs = would_run(complete)
    finally:
        import os

        lost.write_bytes(content)
        os.utime(lost, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert point_jobs(jobs) == {"staging_server_redis": 1, "training": 1, "simulation": 1}
    assert {"summarize", "plot", "report"} <= set(jobs)


def test_an_option_of_one_backend_touches_its_points_only(changed):
    changed.config["backends"] = {"redis": {"io_threads": 2}}
    changed.save()
    jobs = point_jobs(would_run(changed))
    assert jobs == {"configure": 1, "staging_server_redis": 1, "simulation": 1, "training": 1}


def test_a_value_of_all_points_touches_all(changed):
    changed.config["training"] = {**changed.config["training"], "read_every": 3}
    changed.save()
    jobs = point_jobs(would_run(changed))
    assert (jobs["configure"], jobs["simulation"], jobs["training"]) == (2, 2, 2)


def test_more_repeats_add_points_and_keep_those_that_are_there(changed):
    changed.config["repeats"] = 2
    changed.save()
    jobs = point_jobs(would_run(changed))
    assert (jobs["configure"], jobs["simulation"], jobs["training"]) == (2, 2, 2)


def test_fewer_points_make_a_new_summary_only(changed):
    changed.config["sweep"] = {"axes": {"backend": ["redis"], "elements": [1000]}}
    changed.save()
    jobs = would_run(changed)
    assert point_jobs(jobs) == {}
    assert "summarize" in jobs
