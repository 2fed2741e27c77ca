"""Starting a staging server from Python: the registry of backends, and the ServerManager.

The server is a process of its own, `simai-rules serve`. It ends with the process that started it, however that ends.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from simai_rules.config.keys import did_you_mean
from simai_rules.config.messages import checked
from simai_rules.config.registry import BackendConfig, broken, option_models
from simai_rules.errors import ConfigError
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.server import ServerFailed

_STOP_S = 30.0


class ServerRegistry:
    """The backends by name, with their options."""

    def names(self) -> list[str]:
        """Return the names of all backends."""
        return list(option_models())

    def create_config(self, name: str, **options: Any) -> BackendConfig:
        """Return the config of backend `name`; raises ConfigError that lists every wrong option."""
        return _validated({"type": name} | options)


server_registry = ServerRegistry()


def parse_config(text: str) -> BackendConfig:
    """Read a backend's config from JSON; raises ConfigError."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the backend's config is not JSON ({error}): {text[:200]}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"the backend's config is not a JSON object: {text[:200]}")
    return _validated(raw)


def _validated(raw: dict[str, Any]) -> BackendConfig:
    name, known = raw.get("type"), option_models()
    if name not in known:
        why = broken().get(str(name), "")
        raise ConfigError(
            why or f"There is no backend {name!r}.{did_you_mean(str(name), list(known))} Known: {', '.join(known)}"
        )
    config = checked(f"The config of backend {name!r}", known[name], raw)
    if config.lacking:
        raise ConfigError(config.lacking)
    return config


class ServerManager:
    """A staging server with the life of a `with` block or of start_server() and stop_server().

    >>> with ServerManager("server", config=server_registry.create_config("redis")) as server:
    ...     store = DataStore("client", server_info=server.get_server_info())
    """

    def __init__(self, name: str, config: BackendConfig, *, timeout: float = 60.0) -> None:
        self.name, self.config, self.timeout = name, config, timeout
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None

    def start_server(self) -> None:
        """Start the server and wait up to `timeout` seconds until it is proved; raises ServerFailed."""
        if self._process is not None:
            raise ServerFailed(f"server '{self.name}' has been started before; stop it first")
        try:
            self._start()
        except BaseException:  # Ctrl-C, too, leaves nothing
            self.stop_server()
            raise

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="simai-rules-server-")
        command = [sys.executable, "-m", "simai_rules.cli", "serve", "--config", self.config.model_dump_json()]
        log = Path(self._folder.name, "serve.log")
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [*command, "--parent", str(os.getpid()), "--output", str(self._file)],
                stdout=output,
                stderr=output,
                text=True,
            )
        deadline = time.monotonic() + self.timeout
        while True:
            state, reason = self._state()
            if state == "ready":
                return
            ended = self._process.poll() is not None
            if state == "failed" or ended or time.monotonic() > deadline:
                reason = reason or (log.read_text().strip() if ended else f"not ready within {self.timeout:g} s")
                raise ServerFailed(f"Server '{self.name}' ({self.config.type}) did not start: {reason}")
            time.sleep(0.01)

    def get_server_info(self) -> dict[str, Any]:
        """Return what a DataStore needs to find the server; raises ServerFailed if it is not ready."""
        state, reason = self._state()
        if state != "ready":
            raise ServerFailed(f"Server '{self.name}' is not ready but {state}{': ' + reason if reason else ''}.")
        return ServerInfo.read(self._file).as_dict()

    def stop_server(self) -> None:
        """Stop the server and wait until nothing of it is left. Stopping twice is fine."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                # The guardian and the kernel clean up after it.
                self._process.kill()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_S)
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        self.start_server()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop_server()

    @property
    def _file(self) -> Path:
        return Path(self._folder.name if self._folder else "", "server.json")

    def _state(self) -> tuple[str, str]:
        if self._folder is None:
            return "stopped", ""
        try:
            info = ServerInfo.read(self._file)
        except FileNotFoundError:
            return "starting", ""
        return info.state, info.reason
