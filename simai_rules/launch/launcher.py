"""Launchers: the program that starts ranks on nodes, and the command line for it, rendered from a template."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simai_rules.config.ranges import ranges_text
from simai_rules.config.system import LauncherConfig
from simai_rules.errors import MissingProgram, UserError
from simai_rules.launch.here import is_here
from simai_rules.launch.placement import Placement
from simai_rules.resources import shipped

# Where a run is on one node, nothing has to listen on an outside interface: libfabric, UCX and gloo are told to use
# loopback. Ranks of one node that stage data to other nodes by one of these need the others.
_LOOPBACK = {"FI_TCP_IFACE": "lo", "UCX_NET_DEVICES": "lo", "GLOO_SOCKET_IFNAME": "lo"}
_FROM_PLACEMENT = {"--n", "--np", "--hosts", "--host", "--H", "--hostfile", "--f", "--w", "--nodelist", "--ppn", "--N"}
_FROM_PLACEMENT |= {"--npernode", "--nodes", "--ntasks", "--ntasks-per-node", "--cpu-bind", "--bind-to", "--map-by"}
_FROM_PLACEMENT |= {"--distribution", "--rankfile", "--cpu-set", "--depth"}
# Options that people carry over from one launcher to another, and who knows them: facts of the recorded runs, and for
# PALS github.com/mlcommons/storage/pull/549. Whatever is not named here is passed on as it is.
_OPTIONS_OF = {
    "hydra": {
        "--launcher",
        "--launcher-exec",
        "--iface",
        "--rmk",
        "--genv",
        "--genvall",
        "--env",
        "--print-all-exitcodes",
    },
    "openmpi": {"--mca", "--prtemca", "--oversubscribe", "--allow-run-as-root", "--x", "--report-bindings"},
    "pals": {"--no-vni", "--gpu-bind", "--line-buffer", "--mem-bind", "--env", "--pmi"},
    "srun": {"--mpi", "--overlap", "--exact", "--gpu-bind", "--mem-bind", "--gres", "--export", "--mem", "--network"},
}
_LONGEST_TEXT = 131_000
"""Bytes of one argument or variable that Linux passes to a program, with its name (MAX_ARG_STRLEN, execve(2))."""


@dataclass(frozen=True)
class Launcher:
    """A launcher that was found: its program and the flavour of its command line."""

    program: Path
    flavour: str
    options: tuple[str, ...] = ()

    def command(self, placement: Placement, program: Sequence[str]) -> list[str]:
        """Return the argument list that starts `program` on the ranks of `placement`, each through `launch.rank`.

        It is to be run with `rank_environment(placement)` in its environment.
        """
        import jinja2

        template = shipped(f"templates/launch/{self.flavour}.j2")
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - not a page
        environment.filters["quote"] = shlex.quote
        bound = placement.cores if all(placement.cores) else ()
        line = environment.from_string(template.read_text()).render(
            launcher=str(self.program),
            hosts=placement.hosts,
            ranks=placement.ranks,
            ranks_per_node=placement.ranks_per_node,
            cores=bound,
            ranges=[ranges_text(own) for own in bound],
            masks=[hex(sum(1 << core for core in set(own))) for own in bound],
            widest=max(map(len, bound), default=0),
            local=len(placement.hosts) == 1 and is_here(placement.hosts[0]),
            root=os.geteuid() == 0,
            environment=rank_environment(placement),
            found_by=[name for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ],
            options=self.options,
            program=[sys.executable, "-m", "simai_rules.launch.rank", "--launcher", self.flavour, *program],
        )
        return shlex.split(line, comments=True)


def find_launcher(config: LauncherConfig) -> Launcher:
    """Find the launcher's program and its flavour; raises MissingProgram or UserError."""
    program = find_program(config.command)
    if program is None:
        raise MissingProgram(
            f"No '{config.command}' beside {sys.executable} or on the PATH, so ranks cannot be started. On a machine "
            "of your own: pip install 'simai-rules[mpi]'. On a cluster load its MPI module; another launcher is chosen "
            "by launcher.command in system.yaml."
        )
    flavour = config.flavour if config.flavour != "auto" else _flavour_of(program)
    _check_options(config.options, flavour)
    return Launcher(program, flavour, tuple(config.options))


def find_program(name: str) -> Path | None:
    """Return the path of `name`: as it is if it has a folder, else beside Python, else on the PATH."""
    beside = Path(sys.executable).parent / name
    if os.sep not in name and os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name)
    return Path(found) if found else None


def _flavour_of(program: Path) -> str:
    """Ask `program --version` which MPI it belongs to."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{program} --version gave no answer ({error}). Is the MPI installation whole?") from error
    text = answer.stdout + answer.stderr
    if "HYDRA" in text:
        return "hydra"
    if "Open MPI" in text or "OpenRTE" in text:
        return "openmpi"
    if re.match(r"slurm\S* [0-9]", text):
        return "srun"
    # Not tried on a real one. It lies below /opt/cray/pals on ALCF's machines and is said to call itself so.
    if "pals" in f"{program.resolve()} {text}".lower() or re.match(r"mpiexec version [0-9]", text):
        return "pals"
    first = text.strip().splitlines()[0] if text.strip() else "nothing"
    raise UserError(
        f"{program} is of no known flavour: --version says '{first}'. Name it by launcher.flavour in system.yaml "
        "(hydra, openmpi, pals or srun)."
    )


def _check_options(options: Sequence[str], flavour: str) -> None:
    """Raise UserError for options that the launcher does not know, or that the placement gives."""
    names = [option.partition("=")[0] for option in options if option.startswith("-")]
    plain = ["--" + name.lstrip("-") for name in names]
    problems = []
    for name, same in zip(names, plain, strict=True):
        others = [other for other, own in _OPTIONS_OF.items() if same in own]
        if same in _FROM_PLACEMENT:
            problems.append(f"{name} comes from the placement (nodes, ranks_per_node, cores_per_rank, cores)")
        elif others and flavour not in others:
            problems.append(f"{name} is not an option of {flavour} but of {' and '.join(others)}")
    if problems:
        raise UserError(
            f"launcher.options in system.yaml: {'; '.join(problems)}. Remove it, or name the launcher that is meant "
            "(launcher.command, launcher.flavour)."
        )


def rank_environment(placement: Placement) -> dict[str, str]:
    """Return what the launcher's environment has to hold for the ranks of `placement`; see `launch.rank`.

    Raises UserError where the names of its nodes are longer than what Linux passes to a program.
    """
    hosts = json.dumps(placement.hosts)
    if len(hosts) > _LONGEST_TEXT:
        raise UserError(
            f"{placement.component} is on {len(placement.hosts)} nodes, whose names make up {len(hosts)} characters: a "
            f"launcher can be given at most {_LONGEST_TEXT}. Use fewer nodes in one point."
        )
    environment = {
        "SIMAI_SIZE": str(placement.ranks),
        "SIMAI_CORES": json.dumps(placement.cores),
        "SIMAI_HOSTS": hosts,
    }
    if placement.gpus:
        environment["SIMAI_GPUS"] = json.dumps(placement.gpus)
        environment["SIMAI_GPU_VARIABLE"] = placement.gpu_variable
    if len(placement.hosts) == 1 and placement.alone:
        environment |= _LOOPBACK
    if "SLURM_JOB_ID" in os.environ:
        # In a job of Slurm, mpiexec reaches the nodes by srun: without this the second component waits for the first.
        environment["SLURM_OVERLAP"] = "1"
    return environment
