"""One running server of each backend, and clients for it that are closed after the test."""

import multiprocessing
import shutil
import tempfile
import uuid

import pytest
from staging_servers import RedisProcess, peer

from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo

BACKENDS = ("filesystem", "node-local", "redis")


@pytest.fixture(scope="session")
def redis_process():
    server = RedisProcess(uuid.uuid4().hex)
    yield server
    server.stop()


@pytest.fixture(params=BACKENDS)
def info(request, tmp_path):
    """The description of a running server; every backend in turn."""
    if request.param == "redis":
        yield request.getfixturevalue("redis_process").info
        return
    if request.param == "filesystem":
        yield ServerInfo("filesystem", "run", "ready", address={"folder": str(tmp_path)})
        return
    folder = tempfile.mkdtemp(prefix="simai-test-", dir="/dev/shm")
    yield ServerInfo("node-local", "run", "ready", address={"folder": folder})
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def connect():
    """Return a function that opens a DataStore."""
    stores = []

    def open_store(info, **options):
        stores.append(DataStore("test", info, **({"timeout": 30} | options)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def store(info, connect):
    return connect(info)


@pytest.fixture
def key(request):
    """A key of this test alone: the redis-server is shared."""
    return f"{request.node.name}/{uuid.uuid4().hex}"


@pytest.fixture
def start_peer():
    """Return a function that runs one of `staging_servers`' actions in another process."""
    context = multiprocessing.get_context("spawn")
    processes = []

    def start(action, info, *arguments):
        process = context.Process(target=peer, args=(action, info, *arguments))
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()
