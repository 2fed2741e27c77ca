"""Files in a DAOS container that dfuse mounts on all nodes. Not run on real DAOS yet."""

from pathlib import Path

from simai_rules.staging.backends.files import Files
from simai_rules.staging.info import ServerInfo


def connect(info: ServerInfo, deadline_ns: int) -> Files:  # noqa: ARG001
    """Open the run's folder; raises ServerLost where it is not there."""
    # Each node has a dfuse of its own: writes on other nodes raise no events here, so the looks go on beside inotify.
    folder, shards = Path(info.address["folder"]), int(info.address["shards"])
    return Files("daos-posix", folder, pause_s=0.002, trust_events=False, shards=shards)
