"""Coupled points on two nodes and packs of them, on a real Slurm: how they end, and what the next call runs."""

import signal

import pytest
from slurm_workflow import Workflow


@pytest.fixture
def workflow(slurm, tmp_path):
    workflow = Workflow(tmp_path / """it's "my" $HOME, é""")  # nothing may depend on the name
    yield workflow
    workflow.close()
    slurm.cancel_all()
    workflow.wait_quiet()


def test_points_run_at_the_same_time_each_on_two_nodes_of_its_own(workflow):
    workflow.mark("hang")
    process = workflow.start(points=2)
    workflow.wait_started(2)
    workflow.unmark("hang")
    code, output = workflow.end_of(process)
    assert code == 0, output
    nodes = workflow.results()
    assert len(workflow.jobs()) == 2
    assert sorted(nodes["0"] + nodes["1"]) == ["n1", "n2", "n3", "n4"]
    assert "Nothing to be done" in workflow.run(points=2)[1]


def test_a_pack_runs_its_points_one_after_another_and_a_failing_one_costs_no_other(workflow):
    workflow.mark("fail-first")
    code, output = workflow.run(points=2, packed=2)
    assert code != 0
    assert "failed, exit code 1" in output
    failed, finished = workflow.times("start")
    assert workflow.overlapping() == []
    assert len(workflow.jobs()) == 1
    assert list(workflow.results()) == [finished]
    code, output = workflow.run(points=2, packed=2)
    assert code == 0, output
    assert workflow.times("start") == [failed, finished, failed]
    assert sorted(workflow.results()) == ["0", "1"]


def test_the_walltime_and_scancel_end_packs_whose_finished_points_stay(workflow, slurm):
    workflow.mark("hang-later")
    process = workflow.start(points=4, packed=2)
    workflow.wait_started(4)
    out_of_time, deleted = workflow.jobs()
    slurm.run("scontrol", "update", f"jobid={out_of_time}", "endtime=now+1")
    slurm.run("scancel", deleted)
    code, output = workflow.end_of(process)
    assert code != 0
    assert f"job {out_of_time} (point_client_server) exceeded its walltime" in output
    assert f"job {deleted} (point_client_server) was deleted" in output
    done = workflow.times("end")
    assert len(done) == 2
    assert sorted(workflow.results()) == sorted(done)
    workflow.wait_quiet()
    workflow.unmark("hang-later")
    code, output = workflow.run(points=4, packed=2)
    assert code == 0, output
    assert [workflow.times("start").count(point) for point in done] == [1, 1]
    assert sorted(workflow.results()) == ["0", "1", "2", "3"]


def test_a_dead_node_ends_a_pack_whose_finished_points_stay(workflow, slurm):
    workflow.mark("hang-later")
    process = workflow.start(points=2, packed=2)
    workflow.wait_started(2)
    (job,) = workflow.jobs()
    node = slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%B")
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    code, output = workflow.end_of(process)
    assert code != 0
    assert f"job {job} (point_client_server) lost a node" in output
    assert list(workflow.results()) == workflow.times("end")
    workflow.wait_quiet()


def test_after_kill_9_of_the_driver_the_next_call_waits_for_the_job_that_runs(workflow):
    workflow.mark("hang")
    process = workflow.start(points=1)
    workflow.wait_started(1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = workflow.start(points=1)
    workflow.wait_for(process, "of an earlier call makes this")
    workflow.unmark("hang")
    code, output = workflow.end_of(process)
    assert code == 0, output
    assert workflow.times("start") == ["0"]
    assert len(workflow.jobs()) == 1


def test_ctrl_c_cancels_all_jobs(workflow, slurm):
    workflow.mark("hang")
    process = workflow.start(points=2)
    workflow.wait_started(2)
    process.send_signal(signal.SIGINT)
    code, _ = workflow.end_of(process)
    assert code != 0
    for job in workflow.jobs():
        slurm.wait(job, "CANCELLED", seconds=20)
