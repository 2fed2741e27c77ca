"""Launchers: the program that starts ranks on nodes, and the command line for it, rendered from a template."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simai_rules.config.system import LauncherConfig
from simai_rules.errors import MissingProgram, UserError
from simai_rules.launch.placement import Placement
from simai_rules.resources import shipped

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# On one node nothing has to listen on an outside interface: libfabric, UCX and gloo are told to use loopback.
_LOOPBACK = {"FI_TCP_IFACE": "lo", "UCX_NET_DEVICES": "lo", "GLOO_SOCKET_IFNAME": "lo"}


@dataclass(frozen=True)
class Launcher:
    """A launcher that was found: its program and the flavour of its command line."""

    program: Path
    flavour: str
    options: tuple[str, ...] = ()

    def command(self, placement: Placement, program: Sequence[str]) -> list[str]:
        """Return the argument list that starts `program` on the ranks of `placement`."""
        import jinja2

        template = shipped(f"templates/launch/{self.flavour}.j2")
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - not a page
        environment.filters["quote"] = shlex.quote
        line = environment.from_string(template.read_text()).render(
            launcher=str(self.program),
            hosts=placement.hosts,
            ranks=placement.ranks,
            ranks_per_node=placement.ranks_per_node,
            local=len(placement.hosts) == 1,
            root=os.geteuid() == 0,
            options=self.options,
            program=list(program),
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
    first = text.strip().splitlines()[0] if text.strip() else "nothing"
    raise UserError(
        f"{program} is of no known flavour: --version says '{first}'. Name it by launcher.flavour in system.yaml "
        "(hydra or openmpi)."
    )


def rank_environment(placement: Placement) -> dict[str, str]:
    """Return the environment of a component's ranks: threads for their cores, the binding, the expected size."""
    threads = str(len(placement.cores[0]))
    environment = dict.fromkeys(_THREAD_VARIABLES, threads)
    environment["SIMAI_SIZE"] = str(placement.ranks)
    environment["SIMAI_CORES"] = json.dumps(placement.cores)
    if len(placement.hosts) == 1:
        environment |= _LOOPBACK
    return environment
