"""The wrapper that every launcher starts: which rank it is, its node, its GPUs and its cores."""

import json
import os
import signal
import subprocess
import sys

import pytest

from simai_rules.errors import UserError
from simai_rules.launch import rank

CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def same_cores():
    yield
    os.sched_setaffinity(0, CORES)


def environment(cores=((), ()), hosts=("n1", "n2"), **more):
    return {"SIMAI_CORES": json.dumps(cores), "SIMAI_HOSTS": json.dumps(hosts), **more}


def prepared(launcher="", **given):
    found = environment(**given)
    rank.prepare(found, launcher)
    return found


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("hydra", {"PMI_RANK": "3", "MPI_LOCALRANKID": "1"}),
        ("openmpi", {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}),
        ("openmpi", {"PMIX_RANK": "3"}),
        ("pals", {"PALS_RANKID": "3", "PALS_LOCAL_RANKID": "1"}),
        ("srun", {"SLURM_PROCID": "3", "SLURM_LOCALID": "1"}),
    ],
)
def test_each_launchers_rank_is_found(launcher, variables):
    for told in (launcher, ""):
        found = prepared(told, **variables)
        assert (found["SIMAI_RANK"], found["SIMAI_LOCAL_RANK"]) == ("3", "1")
        assert (found["SIMAI_NODE"], found["SIMAI_NODE_INDEX"]) == ("n2", "1")


def test_a_launcher_inside_of_another_is_not_taken_for_it():
    # mpiexec in the shell of `srun --pty bash`, whose own variables are still there
    both = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "PMI_RANK": "3", "MPI_LOCALRANKID": "1"}
    assert prepared("hydra", **both)["SIMAI_RANK"] == "3"
    assert prepared("srun", **both)["SIMAI_RANK"] == "0"


def test_a_process_that_no_launcher_has_started_is_rank_0():
    assert prepared(cores=((),), hosts=("n1",))["SIMAI_NODE"] == "n1"


def test_a_rank_gets_its_gpus_and_as_many_threads_as_cores():
    gpus = {"SIMAI_GPUS": '[["0.0"], ["0.1", "1.0"]]', "SIMAI_GPU_VARIABLE": "ZE_AFFINITY_MASK"}
    found = prepared("srun", cores=((), (CORES[-1],)), SLURM_PROCID="1", OMP_NUM_THREADS="64", **gpus)
    assert found["ZE_AFFINITY_MASK"] == "0.1,1.0"
    assert {found[name] for name in rank.THREAD_VARIABLES} == {"1"}
    assert os.sched_getaffinity(0) == {CORES[-1]}


def test_a_rank_without_cores_and_gpus_keeps_what_it_has():
    found = prepared("srun", SLURM_PROCID="0", OMP_NUM_THREADS="64", SIMAI_GPUS="[[], []]", CUDA_VISIBLE_DEVICES="2")
    assert (found["OMP_NUM_THREADS"], found["CUDA_VISIBLE_DEVICES"]) == ("64", "2")
    assert sorted(os.sched_getaffinity(0)) == CORES


def test_ranks_that_are_not_in_blocks_are_refused():
    with pytest.raises(UserError, match=r"rank 1 on .* is local rank 0 to its launcher, but 1 by its placement.* of 2"):
        prepared("srun", SLURM_PROCID="1", SLURM_LOCALID="0")


def test_nodes_in_another_order_than_slurms_are_refused():
    with pytest.raises(
        UserError, match="rank 1 is on n1, but on n2 by its placement: srun takes the nodes in the order"
    ):
        prepared("srun", cores=((),), SLURM_PROCID="1", SLURMD_NODENAME="n1")
    assert prepared("srun", cores=((),), SLURM_PROCID="1", SLURMD_NODENAME="n2")["SIMAI_NODE"] == "n2"


@pytest.mark.parametrize(
    ("cores", "message"),
    [([], "has no cores: SIMAI_CORES names those of 0 ranks"), ([[]], "on each of 2 nodes.*More ranks were started")],
)
def test_more_ranks_than_were_placed_are_refused(cores, message):
    with pytest.raises(UserError, match=message):
        prepared("srun", cores=cores, SLURM_PROCID="2")


def test_cores_that_cannot_be_had_are_named():
    with pytest.raises(UserError, match=r"rank 0 on n1 cannot be bound to cores \[10000\].*may use cores"):
        prepared(cores=((10_000,),))


def test_cores_that_the_job_may_not_use_are_a_warning(capsys, monkeypatch):
    given = [{10, 11, 12}, {10}]  # the kernel binds to those that are allowed, and says nothing
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: given.pop(0))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    prepared(cores=((10, 20),))
    assert "warning: rank 0 on n1 was placed on cores [10, 20] and got [10]" in capsys.readouterr().err


def test_what_was_placed_and_what_is_observed_are_compared():
    gpus = {"SIMAI_GPUS": '[["0"], ["1"]]', "SIMAI_GPU_VARIABLE": "CUDA_VISIBLE_DEVICES"}
    found = prepared("srun", cores=((), (CORES[0],)), SLURM_PROCID="1", **gpus)
    wanted = rank.asked(found)
    assert wanted == {"cores": [CORES[0]], "gpus": {"CUDA_VISIBLE_DEVICES": "1"}}
    assert rank.differences(wanted, rank.observed(found)) == []
    assert rank.differences(wanted, {"cores": [7, 8], "gpus": {}}) == [
        f"placed on cores [{CORES[0]}], runs on [7, 8]",
        "placed on CUDA_VISIBLE_DEVICES=1, sees none set",
    ]
    assert rank.asked({}) == {}
    assert rank.differences({}, rank.observed({})) == []


def run(*program, **given):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "SIMAI_", "SLURM"))}
    command = [sys.executable, "-m", "simai_rules.launch.rank", *program]
    return subprocess.run(command, env=clean | given, capture_output=True, text=True, timeout=60)


def test_it_becomes_the_program_with_its_arguments_and_exit_code():
    ended = run(
        "--launcher",
        "srun",
        "/bin/sh",
        "-c",
        'echo "$SIMAI_NODE $SIMAI_LOCAL_RANK" "$@"; exit 3',
        "x",
        "a b",
        **environment(SLURM_PROCID="3"),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "n2 1 a b\n", "")


def test_it_says_in_one_line_what_is_wrong():
    ended = run("/bin/true", **environment(cores=((10_000,),)))
    assert ended.returncode == 1
    assert ended.stderr.startswith("simai-rules: rank 0 on n1 cannot be bound")
    assert len(ended.stderr.splitlines()) == 1
    ended = run("/no/such/program")
    assert ended.returncode == 1
    assert "/no/such/program cannot be started on" in ended.stderr


def test_one_of_several_ranks_ends_by_a_signal_so_that_launchers_end_the_others():
    ended = run("/bin/true", SIMAI_SIZE="2", **environment(cores=((10_000,),)))
    assert ended.returncode == -signal.SIGTERM
    assert "cannot be bound" in ended.stderr


def test_a_program_of_simai_rules_says_it_itself():
    code = "import os; from simai_rules.launch.rank import raise_if_misplaced as r; r(os.environ)"
    ended = run(sys.executable, "-c", code, "simai_rules.x", SIMAI_SIZE="2", **environment(cores=((10_000,),)))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("simai_rules.errors.UserError: rank 0 on n1 cannot be bound")


def test_a_keeper_that_is_not_where_it_was_placed_says_so(tmp_path):
    program = [sys.executable, "-m", "simai_rules.lifecycle.keeper", str(tmp_path)]
    ended = run("--launcher", "srun", *program, **environment(cores=((),), SLURM_PROCID="2"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("keeper: rank 2 on ")
    assert "More ranks were started than were placed." in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_it_imports_nothing_heavy():
    heavy = ("numpy", "pydantic", "mpi4py", "asyncio", "ctypes")
    code = f"import sys, simai_rules.launch.rank; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
