"""One running server of each backend, and clients for it that are closed after the test."""

import multiprocessing
import os
import uuid

import numpy as np
import pytest
from staging_servers import RedisProcess, peer, variants

from simai_rules.staging.datastore import DataStore
from simai_rules.staging.info import ServerInfo
from simai_rules.staging.servers import ServerManager, server_registry


@pytest.fixture(scope="session")
def redis_process():
    server = RedisProcess(uuid.uuid4().hex)
    yield server
    server.stop()


@pytest.fixture
def started(request):
    """Return a function that starts a server of a backend, as a user would; it ends with the test."""

    def start(backend, **options):
        server = ServerManager("test", server_registry.create_config(backend, **options))
        request.addfinalizer(server.stop_server)
        server.start_server()
        return server

    return start


def pytest_addoption(parser):
    group = parser.getgroup("staging", "the contract of the staging backends (tests/staging)")
    group.addoption("--backend", metavar="NAME", help="test this backend alone; a name of another package, too")
    group.addoption("--backend-options", metavar="JSON", help="its options, such as '{\"shards\": 4}'")


def pytest_configure(config):
    config.addinivalue_line("markers", "large: stages 4 GiB at once; run by 'make test-large' (pytest -m large)")


def pytest_generate_tests(metafunc):
    """Run what uses `variant` over all backends, or over the one of the command line."""
    if "variant" in metafunc.fixturenames:
        option = metafunc.config.getoption
        # Where pytest was not told to look into this folder, it came here too late for the options.
        chosen = variants(option("backend", None), option("backend_options", None))
        # Its runtime needs a core for itself; who asks for it by name gets it.
        apart = [] if option("backend", None) else ["dragon"]
        params = [
            pytest.param(variant, id=name, marks=[pytest.mark.dragon] if name in apart else [])
            for name, variant in chosen.items()
        ]
        metafunc.parametrize("variant", params, indirect=True, scope="session")


def pytest_collection_modifyitems(config, items):
    """Leave the large ones out where nobody asks for them."""
    if "large" in config.option.markexpr:
        return
    large = [item for item in items if item.get_closest_marker("large")]
    config.hook.pytest_deselected(items=large)
    items[:] = [item for item in items if item not in large]


def pytest_terminal_summary(terminalreporter, config):
    """Say of a backend that was chosen and that the machine may lack that it was not the real one."""
    name = config.getoption("backend", None)
    chosen = variants(name, config.getoption("backend_options", None)) if name else {}
    if any(variant.environment for variant in chosen.values()):
        terminalreporter.line(f"{name} was tested against a stand-in. To test the real one, give its options.")


@pytest.fixture(scope="session")
def variant(request):
    """The backend under test, with its options and what is stated of it."""
    if request.param.lacks:
        pytest.skip(request.param.lacks)
    return request.param


@pytest.fixture(autouse=True)
def surroundings(request):
    """What the backend under test needs around it, while one of its tests runs and no longer."""
    if "variant" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("variant").surroundings():
        yield


@pytest.fixture(scope="session")
def info(variant, tmp_path_factory):
    """The description of a running server; every backend in turn, with all tests of one before the next."""
    server = variant.start(tmp_path_factory.mktemp("staging"))
    yield ServerInfo.from_dict(server.get_server_info())
    server.stop_server()


@pytest.fixture
def shared(info):
    """For tests with several processes: skips where a value does not leave its writer's."""
    options = {name: value for name, value in info.config.items() if name != "type"}
    if server_registry.create_config(info.backend, **options).sharing == "process":
        pytest.skip(f"{info.backend}: a value can be read by its own process alone")


@pytest.fixture
def same(variant):
    """Return a function that asserts that what came back is what was written."""

    def check(back, written):
        if isinstance(written, dict):
            assert list(back) == list(written)
            for name, part in written.items():
                check(back[name], part)
        elif isinstance(written, np.ndarray):
            assert (back.shape, back.dtype) == (written.shape, written.dtype.newbyteorder("="))
            if variant.keeps_content:
                np.testing.assert_array_equal(back, written)
        elif isinstance(written, bytes) and not variant.keeps_content:
            assert (type(back), len(back)) == (bytes, len(written))
        else:
            assert type(back) is type(written)
            assert back == written

    return check


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
    # Fresh processes, but for what they all import, which takes most of a second each time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "simai_rules.staging.servers", "simai_rules.staging.datastore"])
    processes = []

    def start(action, info, *arguments):
        answers, sender = context.Pipe(duplex=False)
        process = context.Process(target=peer, args=(action, info, dict(os.environ), sender, *arguments))
        process.start()
        sender.close()
        process.answers = answers
        processes.append(process)
        return process

    yield start
    for process in processes:
        # A client of Dragon that is killed while it takes its leave halts the dictionary for the next test.
        process.terminate()
    for process in processes:
        process.join(10)
        process.kill()
        process.join()


@pytest.fixture
def answer_of():
    """Return a function that waits for what a peer's action has returned."""

    def wait(process, seconds=120):
        assert process.answers.poll(seconds), f"no answer of process {process.pid} within {seconds} s"
        try:
            result = process.answers.recv()
        except EOFError:
            process.join(10)
            pytest.fail(f"process {process.pid} has failed (exit code {process.exitcode}); its traceback is above")
        process.join(60)
        assert process.exitcode == 0
        return result

    return wait
