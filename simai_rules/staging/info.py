"""`server.json`: what a staging server says of itself, and the clients' way to find it."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from simai_rules.errors import UserError
from simai_rules.launch.here import this_node
from simai_rules.staging.errors import ServerLost

SERVER_FORMAT = 2
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
    "shared_folder": str,
    "pid": int,
}


def index_here(nodes: Sequence[str]) -> int | None:
    """Return the number of the node that this process runs on among `nodes`, or None where it is none of them."""
    try:
        return nodes.index(this_node(nodes))
    except UserError:
        return None


@dataclass(frozen=True)
class ServerInfo:
    """One staging server, or the servers of one run.

    `address` is the backend's own: `{"folder": …}` for files, `{"host": …, "port": …, "password": …}` for redis. Where
    each of several nodes has a server of its own, it is `{"nodes": […]}` with an address for each of `hosts`.
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
    run_folders: tuple[str, ...] = ()
    """The same for each of `hosts`, where there are several."""
    shared_folder: str = ""
    """A folder of the run that all nodes see, where there are several."""
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

    @property
    def folder_here(self) -> str:
        """The run's folder on this node; "" where the run has none here."""
        if not self.run_folders:
            return self.run_folder
        index = index_here(self.hosts)
        return "" if index is None else self.run_folders[index]

    @property
    def address_here(self) -> dict[str, Any]:
        """The address of the server for clients on this node; raises ServerLost where there is none for it."""
        if "nodes" not in self.address:
            return self.address
        index = index_here(self.hosts)
        if index is None:
            raise ServerLost(
                f"The {self.backend} servers of this run are on {', '.join(self.hosts)}, each for its own node, and "
                f"{platform.node()} is none of them. Start clients on these nodes by 'simai-rules run'."
            )
        return dict(self.address["nodes"][index])

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
        hosts, folders, address = (values.get(name, ()) for name in ("hosts", "run_folders", "address"))
        wrong += [name for name, value in (("hosts", hosts), ("run_folders", folders)) if not _are_texts(value)]
        if "run_folders" not in wrong and folders and len(folders) != len(hosts):
            wrong.append("run_folders")
        if isinstance(address, dict) and "nodes" in address and not _of_each(address["nodes"], hosts):
            wrong.append("address")
        if values.get("state", "starting") not in get_args(State):
            wrong.append("state")
        if wrong:
            raise ServerLost(f"server.json lacks, or has no valid, {', '.join(dict.fromkeys(wrong))}. {_REMEDY}")
        return cls(**values | {"hosts": tuple(hosts), "run_folders": tuple(folders)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file `server.json`; raises OSError where it cannot be read, ServerLost where it is none."""
        try:
            raw = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ServerLost(f"{path} cannot be read as a server.json ({error}). {_REMEDY}") from None
        return cls.from_dict(raw)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _of_each(addresses: Any, hosts: Any) -> bool:
    """Whether there is an address for each of `hosts`."""
    if not isinstance(addresses, list) or not isinstance(hosts, list | tuple) or len(addresses) != len(hosts):
        return False
    return all(isinstance(one, dict) for one in addresses)
