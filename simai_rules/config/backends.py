"""Options of the staging backends that come with simai-rules, one model each; `registry` adds those of others."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from simai_rules.config.base import NaturalInt, PositiveInt, Says, Strict, as_number

Sharing = Literal["process", "node", "job"]
"""Who can read a value besides its writer: nobody, processes on the writer's node, all processes of the job."""

MIB = 1024 * 1024


class BackendBase(Strict):
    """What the options of every backend have in common."""

    type: str
    """The backend's name, a value of the axis `backend`."""

    required: ClassVar[tuple[str, ...]] = ()
    """Options without a usable default: they have to be given where the backend is used."""

    @property
    def sharing(self) -> Sharing:
        """From where a value can be read, with these options."""
        return "job"

    @property
    def everywhere(self) -> bool:
        """Whether its server has processes on every node of the point, instead of one."""
        return False

    def busy_cores(self, nodes: int) -> int:  # noqa: ARG002 - for those that divide their processes among the nodes
        """Return how many cores its server's processes keep busy on each of `nodes` nodes."""
        return 0

    @property
    def lacking(self) -> str:
        """What to say where options are missing without which the backend cannot be used; "" if none are."""
        names = [name for name in self.required if not getattr(self, name)]
        keys = " and ".join(f"backends.{self.type}.{name}" for name in names)
        return f"the backend {self.type} cannot be used without {keys}" if names else ""


class FilesystemConfig(BackendBase):
    """Files in a folder of a (parallel) file system that all nodes see."""

    type: Literal["filesystem"] = "filesystem"
    folder: Annotated[str, Field(min_length=1)] = "staging"
    """Where each run makes its own staging folder; relative to the folder that snakemake runs in."""
    shards: Annotated[int, Field(ge=1, le=4096), BeforeValidator(as_number)] = 1
    """Subfolders that the values are spread over, for file systems whose folders are slow with many writers."""
    layout: Literal["file-per-key", "file-per-step"] = "file-per-key"
    """Whether each value has a file of its own, or all ranks' values of a step share one."""
    stripe_count: Annotated[int, Field(ge=-1, le=2000), BeforeValidator(as_number)] = 0
    """Lustre: storage targets of a file (`lfs setstripe -c`); -1 takes all, 0 leaves the folder as it is."""
    stripe_size: NaturalInt = 0
    """Lustre: bytes of a stripe (`lfs setstripe -S`), a multiple of 65536; 0 leaves the folder as it is."""
    fsync: bool = False
    """Force each value to the disk before it can be read."""
    direct: bool = False
    """Write and read past the page cache (O_DIRECT)."""

    @field_validator("stripe_size")
    @classmethod
    def _whole_pages(cls, value: int) -> int:
        if value % 65536:
            raise ValueError(f"{value} is no multiple of 65536, which Lustre asks for")
        return value


class NodeLocalConfig(BackendBase):
    """Files in memory (/dev/shm) or on a local disk of each node."""

    type: Literal["node-local"] = "node-local"
    folder: Annotated[str, Field(pattern="^/"), Says("an absolute path")] = "/dev/shm"  # noqa: S108 - memory of the node
    """A folder in the node's memory or on its local disk, as an absolute path."""

    @property
    def sharing(self) -> Sharing:
        """Values stay on their node."""
        return "node"


class RedisConfig(BackendBase):
    """Redis-servers that the run starts, with a password made for the run."""

    type: Literal["redis"] = "redis"
    per: Literal["job", "node"] = "job"
    """job: one server for all nodes of a point. node: one on each node, for the ranks of that node alone."""
    port: Annotated[int, Field(ge=0, le=65535), BeforeValidator(as_number)] = 0
    """0 takes a free port."""
    interface: Annotated[str, Field(min_length=1)] = "auto"
    """The network interface (`ip link`) that a server listens on; it listens on no other. auto: loopback (lo) where
    only its own node uses it, else the one that leads to the point's other nodes."""
    io_threads: Annotated[int, Field(ge=1, le=128), BeforeValidator(as_number)] = 1
    """Threads of a server for reading and writing sockets."""

    @property
    def sharing(self) -> Sharing:
        """The servers of the nodes do not know each other."""
        return "node" if self.per == "node" else "job"

    @property
    def everywhere(self) -> bool:
        """One on each node, if the user says so."""
        return self.per == "node"

    def busy_cores(self, nodes: int) -> int:  # noqa: ARG002 - one server on each
        """One per thread."""
        return self.io_threads


class RedisClusterConfig(BackendBase):
    """Several redis-servers that share the keys among them, with a password made for the run."""

    type: Literal["redis-cluster"] = "redis-cluster"
    masters: Annotated[int, Field(ge=3, le=1000), BeforeValidator(as_number)] = 3
    """Servers that own a part of the keys."""
    replicas: Annotated[int, Field(ge=0, le=5), BeforeValidator(as_number)] = 0
    """Copies of each master; they cost memory and time and are what a real deployment would have."""
    keys: Literal["spread", "local"] = "spread"
    """spread: over all masters. local: on the writer's node, by hash tags; only that node's ranks find them."""
    interface: Annotated[str, Field(min_length=1)] = "auto"
    """The network interface (`ip link`) that the servers listen on; they listen on no other. auto: loopback (lo) where
    a point has one node, else the one that leads to its other nodes."""
    io_threads: Annotated[int, Field(ge=1, le=128), BeforeValidator(as_number)] = 1
    """Threads of each server for reading and writing sockets."""

    @property
    def everywhere(self) -> bool:
        """The masters are spread over the nodes."""
        return True

    def busy_cores(self, nodes: int) -> int:
        """One per thread of each server; with more nodes than servers, some nodes have none."""
        return -(-self.masters * (1 + self.replicas) // nodes) * self.io_threads

    @property
    def sharing(self) -> Sharing:
        """Keys that are pinned to a node are found from that node."""
        return "node" if self.keys == "local" else "job"


class DragonConfig(BackendBase):
    """The distributed dictionary of a Dragon runtime that the run starts (DragonHPC)."""

    type: Literal["dragon"] = "dragon"
    total_mem: Annotated[int, Field(ge=64 * MIB), BeforeValidator(as_number)] = 1024 * MIB
    """Bytes of memory of the dictionary, over all nodes."""
    managers_per_node: Annotated[int, Field(ge=1, le=64), BeforeValidator(as_number)] = 1
    """Processes per node that hold parts of the dictionary."""
    transport: Literal["tcp", "hsta"] = "tcp"
    """Dragon's agent between nodes: TCP, or HSTA over libfabric."""

    @property
    def everywhere(self) -> bool:
        """The runtime and its managers are on every node."""
        return True

    def busy_cores(self, nodes: int) -> int:  # noqa: ARG002 - as many on each
        """One per manager."""
        return self.managers_per_node


class DaosPosixConfig(BackendBase):
    """Files in a DAOS container that is mounted by dfuse on all nodes."""

    type: Literal["daos-posix"] = "daos-posix"
    required: ClassVar[tuple[str, ...]] = ("folder",)
    folder: Annotated[str, Field(pattern="^(/|$)"), Says("an absolute path below the dfuse mount")] = ""
    """A folder below the dfuse mount, as an absolute path; each run makes its own staging folder in it."""
    shards: Annotated[int, Field(ge=1, le=4096), BeforeValidator(as_number)] = 16
    """Subfolders that the values are spread over."""


class DaosKvConfig(BackendBase):
    """Key-value objects of a DAOS container, by pydaos."""

    type: Literal["daos-kv"] = "daos-kv"
    required: ClassVar[tuple[str, ...]] = ("pool", "container")
    pool: str = ""
    """Label or UUID of the pool."""
    container: str = ""
    """Label or UUID of a container of type PYTHON in it."""


class Adios2Config(BackendBase):
    """Step-wise streaming by ADIOS2's Sustainable Staging Transport (SST)."""

    type: Literal["adios2"] = "adios2"
    folder: Annotated[str, Field(min_length=1)] = "staging"
    """Where each run makes a folder that all nodes see, for the streams' contact files and the values by key."""
    queue_limit: PositiveInt = 3
    """Steps of a stream that may lie unread."""
    queue_policy: Literal["block", "discard"] = "block"
    """What a writer does when the queue is full: wait for the reader, or drop the step that it is about to send."""
    data_transport: Literal["WAN", "RDMA", "UCX", "MPI"] = "WAN"
    """How SST moves the data: WAN is sockets; the others need an ADIOS2 that was built with them."""
    interface: Annotated[str, Field(min_length=1)] = "lo"
    """The network interface (`ip link`) of the streams; with `lo`, writer and reader have to be on the same node."""

    @property
    def sharing(self) -> Sharing:
        """Streams over loopback stay on their node."""
        return "node" if self.interface == "lo" else "job"


class NullConfig(BackendBase):
    """Nothing is moved: writes are dropped and reads answered from memory. The cost of simai-rules' own layers."""

    type: Literal["null"] = "null"

    @property
    def sharing(self) -> Sharing:
        """There is nothing that another process could read."""
        return "process"


BUILT_IN: tuple[type[BackendBase], ...] = (
    FilesystemConfig,
    NodeLocalConfig,
    RedisConfig,
    RedisClusterConfig,
    DragonConfig,
    DaosPosixConfig,
    DaosKvConfig,
    Adios2Config,
    NullConfig,
)
