"""The server half of node-local: a folder on every node of the point, each for the clients of its node."""

import os
from collections.abc import Sequence
from typing import Any

from simai_rules.config.backends import NodeLocalConfig
from simai_rules.staging.server import Run, ServerFailed
from simai_rules.staging.servers.files import FileServer


def make_server(config: NodeLocalConfig, run: Run, hosts: Sequence[str], needed: int) -> "NodeLocalServer":  # noqa: ARG001
    """Return the server that makes the run's folder in the node's memory or on its disk."""
    return NodeLocalServer(config, run, needed)


def make_part(
    config: NodeLocalConfig,
    run: Run,
    hosts: Sequence[str],  # noqa: ARG001
    needed: int,
    order: dict[str, Any],  # noqa: ARG001
) -> "NodeLocalServer":
    """Return the part of another node, which does the same there."""
    return NodeLocalServer(config, run, needed)


class NodeLocalServer(FileServer):
    """Makes the folder on this node, and tries what the clients will rely on."""

    prefix = "simai-rules-"

    def order(self) -> dict[str, Any]:
        """Every node needs a folder, and nothing has to be known for it."""
        return {}

    def join(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return which folder the clients of each node use."""
        return {"nodes": list(parts)}

    def start(self) -> dict[str, Any]:
        """Make the folder; raises ServerFailed where its file system has no hard links."""
        address = super().start()
        self._try_link()
        return address

    def _try_link(self) -> None:
        """Give a file a second name, as the clients will to publish a value."""
        path = self._folder / ".tmp.probe"
        second = path.with_name(f"{path.name}.link")
        try:
            path.touch(mode=0o600)
            os.link(path, second)
        except OSError as error:
            raise ServerFailed(
                f"node-local needs hard links, which the file system of {self._folder} refuses ({error.strerror}). "
                f"Choose a folder in memory or on a local disk of another kind ({self.option})."
            ) from error
        finally:
            second.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
