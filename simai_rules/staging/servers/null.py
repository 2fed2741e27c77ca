"""The server half of null: there is nothing to start."""

from collections.abc import Sequence

from simai_rules.config.backends import NullConfig
from simai_rules.staging.server import Run


class NullServer:
    """Neither process nor place."""

    def start(self) -> dict[str, str]:
        """Return an empty address."""
        return {}

    def check(self) -> None:
        """Nothing can die."""

    def stop(self) -> None:
        """Nothing to end."""


def make_server(config: NullConfig, run: Run, hosts: Sequence[str], needed: int) -> NullServer:  # noqa: ARG001
    """Return the server of a backend without one."""
    return NullServer()
