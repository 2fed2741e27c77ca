"""One running server of each backend, and clients for it that are closed after the test."""

import multiprocessing
import uuid

import pytest
from staging_servers import VARIANTS, RedisProcess, peer

from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo


@pytest.fixture(scope="session")
def redis_process():
    server = RedisProcess(uuid.uuid4().hex)
    yield server
    server.stop()


@pytest.fixture(scope="session", params=VARIANTS.values(), ids=VARIANTS)
def info(request, tmp_path_factory):
    """The description of a running server; every backend in turn, with all tests of one before the next."""
    variant = request.param
    if variant.lacks:
        pytest.skip(variant.lacks)
    server = variant.start(tmp_path_factory.mktemp("staging"))
    yield ServerInfo.from_dict(server.get_server_info())
    server.stop_server()


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
