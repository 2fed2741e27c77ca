"""`server.json`: what a staging server says of itself, and the clients' way to find it."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from simai_rules.staging.errors import ServerLost

SERVER_FORMAT = 1
State = Literal["starting", "ready", "failed", "stopped"]


@dataclass(frozen=True)
class ServerInfo:
    """One staging server, or the servers of one run.

    `address` is the backend's own: `{"folder": …}` for files, `{"host": …, "port": …, "password": …}` for redis.
    """

    backend: str
    run_id: str
    state: State = "starting"
    reason: str = ""
    """Why it has failed."""
    hosts: tuple[str, ...] = ()
    """Nodes taken out of the allocation for this run."""
    address: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    """The backend's options as they were used."""
    run_folder: str = ""
    """Folder of the run on the first node: processes, failures, what has to be removed."""
    pid: int = 0
    format: int = SERVER_FORMAT

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `server.json` holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read a `server.json` object; raises ServerLost where it is of another format."""
        if raw.get("format") != SERVER_FORMAT:
            raise ServerLost(
                f"server.json has format {raw.get('format')!r}, this version of simai-rules reads {SERVER_FORMAT}. "
                "Start the server again with the same version as its clients."
            )
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
        return cls(**values | {"hosts": tuple(raw.get("hosts", ()))})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file `server.json`."""
        return cls.from_dict(json.loads(path.read_text()))
