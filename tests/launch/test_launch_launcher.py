"""Launchers: the program is found, its flavour known, its command line exact, and the real mpiexec runs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from simai_rules.config.system import LauncherConfig
from simai_rules.errors import MissingProgram, UserError
from simai_rules.launch.launcher import Launcher, find_launcher, find_program, rank_environment
from simai_rules.launch.placement import Placement

ONE_NODE = Placement("simulation", ("n1",), ((0,), (1,)), shared=False)
TWO_NODES = Placement("simulation", ("n1", "n2"), ((0, 1), (2, 3), (4, 5)), shared=False)


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def line(launcher, placement):
    """The command line as one would type it."""
    return shlex.join(launcher.command(placement, ["a program", "x"]))


def test_hydra_lines():
    launcher = Launcher(Path("/mpi/mpiexec"), "hydra", ("-print-all-exitcodes",))
    common = "-bind-to none -print-all-exitcodes 'a program' x"
    assert line(launcher, ONE_NODE) == f"/mpi/mpiexec -launcher fork -iface lo -n 2 -ppn 2 {common}"
    assert line(launcher, TWO_NODES) == f"/mpi/mpiexec -hosts n1,n2 -n 6 -ppn 3 {common}"


def test_open_mpi_lines(monkeypatch):
    launcher = Launcher(Path("/mpi/mpiexec"), "openmpi")
    common = "--bind-to none 'a program' x"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert line(launcher, ONE_NODE) == f"/mpi/mpiexec -n 2 --map-by ppr:2:node:OVERSUBSCRIBE {common}"
    hosts = "--host n1:3,n2:3 -n 6 --map-by ppr:3:node:OVERSUBSCRIBE"
    assert line(launcher, TWO_NODES) == f"/mpi/mpiexec {hosts} {common}"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert line(launcher, TWO_NODES) == f"/mpi/mpiexec --allow-run-as-root {hosts} {common}"


def test_arguments_with_shell_characters_stay_one_argument_each():
    nasty = ["$(touch x)", "a b", "';'", "# no comment", '"']
    assert Launcher(Path("mpiexec"), "hydra").command(ONE_NODE, nasty)[-5:] == nasty


def test_missing_launcher_says_how_to_get_one():
    with pytest.raises(MissingProgram, match=r"No 'no-such-mpiexec'.*pip install 'simai-rules\[mpi\]'"):
        find_launcher(LauncherConfig(command="no-such-mpiexec"))


def test_flavour_is_asked_of_the_program(tmp_path):
    for answer, flavour in (("HYDRA build details:", "hydra"), ("mpiexec (Open MPI) 5.0.11", "openmpi")):
        program = script(tmp_path / "mpiexec", f"echo '{answer}'")
        assert find_launcher(LauncherConfig(command=str(program))).flavour == flavour


def test_an_unknown_launcher_has_to_be_named(tmp_path):
    program = script(tmp_path / "mpiexec", "echo 'My MPI 1.0'")
    with pytest.raises(UserError, match=r"'My MPI 1.0'.*launcher.flavour"):
        find_launcher(LauncherConfig(command=str(program)))
    assert find_launcher(LauncherConfig(command=str(program), flavour="hydra")).flavour == "hydra"


def test_environment_of_ranks():
    environment = rank_environment(TWO_NODES)
    assert environment["SIMAI_SIZE"] == "6"
    assert environment["SIMAI_CORES"] == "[[0, 1], [2, 3], [4, 5]]"
    assert {environment[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"2"}
    assert "FI_TCP_IFACE" not in environment
    assert rank_environment(ONE_NODE)["FI_TCP_IFACE"] == "lo"


@pytest.mark.skipif(find_program("mpiexec") is None, reason="no mpiexec: pip install 'simai-rules[mpi]'")
def test_the_real_mpiexec_starts_the_ranks(tmp_path):
    # Each rank writes a file of its own: mpiexec forwards what ranks print in pieces, and mixes the pieces.
    program = (
        "import pathlib, sys; from mpi4py import MPI; c = MPI.COMM_WORLD; "
        "pathlib.Path(sys.argv[1], str(c.rank)).write_text(str(c.size))"
    )
    command = find_launcher(LauncherConfig()).command(ONE_NODE, [sys.executable, "-c", program, str(tmp_path)])
    subprocess.run(
        command, env=os.environ | rank_environment(ONE_NODE), capture_output=True, text=True, timeout=60, check=True
    )
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"0": "2", "1": "2"}
