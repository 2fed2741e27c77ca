"""What a node offers and how ranks are launched on it: `profiles/<machine>/system.yaml`."""
# ruff: noqa: RUF012 - pydantic copies a default before it gives it to an instance

from typing import Annotated, Literal

from pydantic import Field

from simai_rules.config.base import NaturalInt, PositiveInt, Strict


class LauncherConfig(Strict):
    """The program that starts ranks."""

    flavour: Literal["auto", "hydra", "openmpi"] = "auto"
    """auto asks the program itself (mpiexec --version)."""
    command: Annotated[str, Field(min_length=1)] = "mpiexec"
    """A name that is looked for beside Python first and then on the PATH, or an absolute path."""
    options: list[str] = []
    """Further arguments for every launch."""


class SystemConfig(Strict):
    """One machine."""

    name: Annotated[str, Field(min_length=1)] = "local"
    cores: PositiveInt | None = None
    """Cores per node; without it, those that this process may use."""
    hostfile: Annotated[str, Field(min_length=1)] | None = None
    """A file with the names of the nodes to use, one per line; without it, this machine alone."""
    reserved_cores: list[NaturalInt] = []
    """Core numbers that no rank is placed on."""
    oversubscribe: bool = False
    """Let ranks share cores where there are fewer cores than ranks need. Times then include waiting for a core."""
    launcher: LauncherConfig = LauncherConfig()
