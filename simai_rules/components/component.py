"""What a simulation and an AI have in common: a name, and the verbs of a DataStore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from simai_rules.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from simai_rules.staging.datastore import DataStore
    from simai_rules.staging.info import ServerInfo


class Component:
    """One rank of a component of a workflow.

    server_info: a ServerInfo, its dict, or the path of a server.json; only needed for staging.
    timeout: seconds that a read waits for its key.
    """

    def __init__(
        self, name: str, server_info: ServerInfo | dict[str, Any] | str | Path | None = None, *, timeout: float = 120.0
    ) -> None:
        self.name = name
        self._server_info = server_info
        self._timeout = timeout
        self._store: DataStore | None = None

    @property
    def store(self) -> DataStore:
        """The DataStore of this component, connected when it is first used.

        Raises UserError where the component has no server_info.
        """
        if self._store is None:
            if self._server_info is None:
                raise UserError(
                    f"{self.name} has no staging server. Give it one: server_info=server.get_server_info(), or the "
                    "path of a server.json."
                )
            from simai_rules.staging.datastore import DataStore

            self._store = DataStore(self.name, self._server_info, timeout=self._timeout)
        return self._store

    def stage_write(self, key: str, value: Any) -> None:
        """Stage `value` under `key`; what is there already is replaced."""
        self.store.stage_write(key, value)

    def stage_read(self, key: str, *, timeout: float | None = None) -> Any:
        """Return the value of `key`, waiting up to `timeout` seconds for it; then StagingTimeout is raised."""
        return self.store.stage_read(key, timeout=timeout)

    def poll_staged_data(self, key: str, timeout: float = 0.0) -> bool:
        """Say whether `key` is there, waiting up to `timeout` seconds for it."""
        return self.store.poll_staged_data(key, timeout)

    def clean_staged_data(self, key: str) -> bool:
        """Remove `key`; say whether it was there."""
        return self.store.clean_staged_data(key)

    def close(self) -> None:
        """End the connection to the staging server; the component can be closed more than once."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
