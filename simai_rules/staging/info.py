"""`server.json`: what a staging server says of itself, and the clients' way to find it."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from simai_rules.staging.errors import ServerLost

SERVER_FORMAT = 1
State = Literal["starting", "ready", "failed", "stopped"]
_REMEDY = "Start the staging server again: simai-rules serve."
_KINDS: dict[str, type] = {
    "backend": str,
    "run_id": str,
    "state": str,
    "reason": str,
    "address": dict,
    "config": dict,
    "run_folder": str,
    "pid": int,
}


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

    @property
    def described(self) -> dict[str, Any]:
        """What a capsule tells of the server: its options and what it says of itself, but no address or password."""
        said: dict[str, Any] = {name: self.address[name] for name in ("transport", "version") if name in self.address}
        return {"backend": self.backend, "options": self.config, **said}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read a `server.json` object; raises ServerLost where it is none, or one of another format."""
        if not isinstance(raw, dict):
            raise ServerLost(
                f"A server.json holds a JSON object, and this is of the type {type(raw).__name__}. {_REMEDY}"
            )
        if raw.get("format") != SERVER_FORMAT:
            raise ServerLost(
                f"server.json has format {raw.get('format')!s:.80}, this version of simai-rules reads {SERVER_FORMAT}. "
                "Start the server again with the same version as its clients."
            )
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
        wrong = [name for name, kind in _KINDS.items() if not isinstance(values.get(name, kind()), kind)]
        wrong += [name for name in ("backend", "run_id") if name not in values]
        hosts = values.get("hosts", ())
        if not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
            wrong.append("hosts")
        if values.get("state", "starting") not in get_args(State):
            wrong.append("state")
        if wrong:
            raise ServerLost(f"server.json lacks, or has no valid, {', '.join(dict.fromkeys(wrong))}. {_REMEDY}")
        return cls(**values | {"hosts": tuple(hosts)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file `server.json`; raises OSError where it cannot be read, ServerLost where it is none."""
        try:
            raw = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ServerLost(f"{path} cannot be read as a server.json ({error}). {_REMEDY}") from None
        return cls.from_dict(raw)
