"""Files in a node's memory (/dev/shm) or on its local disk: writers and readers are on the same node."""

from pathlib import Path

from simai_rules.staging.backends.files import Files
from simai_rules.staging.info import ServerInfo


def connect(info: ServerInfo, deadline_ns: int) -> Files:  # noqa: ARG001
    """Open the run's folder on this node; raises ServerLost where it is not there."""
    return Files("node-local", Path(info.address["folder"]), pause_s=0.00025, trust_events=True)
