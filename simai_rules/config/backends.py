"""Options of the staging backends, one model each. Their names are the values of the `backend` axis."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from simai_rules.config.base import Says, Strict, as_number


class FilesystemConfig(Strict):
    """Files in a folder of a (parallel) file system that all nodes see."""

    type: Literal["filesystem"] = "filesystem"
    folder: Annotated[str, Field(min_length=1)] = "staging"
    """Where each run makes its own staging folder; relative to the folder that snakemake runs in."""


class NodeLocalConfig(Strict):
    """Files in memory (/dev/shm) or on a local disk of each node."""

    type: Literal["node-local"] = "node-local"
    folder: Annotated[str, Field(pattern="^/"), Says("an absolute path")] = "/dev/shm"  # noqa: S108 - memory of the node
    """A folder in the node's memory or on its local disk, as an absolute path."""


class RedisConfig(Strict):
    """A redis-server that the run starts, with a password made for the run."""

    type: Literal["redis"] = "redis"
    port: Annotated[int, Field(ge=0, le=65535), BeforeValidator(as_number)] = 0
    """0 takes a free port."""
    io_threads: Annotated[int, Field(ge=1, le=128), BeforeValidator(as_number)] = 1
    """Threads of the server for reading and writing sockets."""


BackendConfig = Annotated[FilesystemConfig | NodeLocalConfig | RedisConfig, Field(discriminator="type")]
BackendName = Literal["filesystem", "node-local", "redis"]


class BackendOptions(Strict):
    """The options of every backend that an experiment may use, by name."""

    filesystem: FilesystemConfig = FilesystemConfig()
    node_local: Annotated[NodeLocalConfig, Field(alias="node-local")] = NodeLocalConfig()
    redis: RedisConfig = RedisConfig()

    def of(self, name: str) -> FilesystemConfig | NodeLocalConfig | RedisConfig:
        """Return the options of backend `name`."""
        options: FilesystemConfig | NodeLocalConfig | RedisConfig = getattr(self, name.replace("-", "_"))
        return options
