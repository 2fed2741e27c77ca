"""The cluster that the tests of this folder share: starting it takes a second or two."""

import pytest
from slurm_cluster import SlurmCluster, lacking


@pytest.fixture(scope="session")
def cluster():
    """Slurm with the nodes n1 to n4."""
    if reason := lacking():
        pytest.skip(reason)
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(cluster, monkeypatch):
    """The cluster with its programs on the PATH; a test leaves no jobs in it."""
    for key, value in cluster.environment.items():
        monkeypatch.setenv(key, value)
    yield cluster
    cluster.cancel_all()
