"""Files in a folder of a (parallel) file system that all nodes of the run see."""

from pathlib import Path
from typing import Any

from simai_rules.staging.backends.files import Files
from simai_rules.staging.info import ServerInfo


def connect(info: ServerInfo, deadline_ns: int) -> Files:  # noqa: ARG001
    """Open the run's folder; raises ServerLost where it is not there."""
    folder, address = Path(info.address["folder"]), info.address
    # Writers on other nodes raise no events here: a look every 2 ms at first is what finds their files.
    options: dict[str, Any] = {"pause_s": 0.002, "trust_events": False}
    options |= {"shards": address.get("shards", 1), "fsync": address.get("fsync", False)}
    if address.get("layout") == "file-per-step":
        from simai_rules.staging.backends.step_files import StepFiles

        return StepFiles("filesystem", folder, direct=address.get("direct", False), **options)
    if address.get("direct"):
        from simai_rules.staging.backends.direct import DirectFiles

        return DirectFiles("filesystem", folder, **options)
    return Files("filesystem", folder, **options)
