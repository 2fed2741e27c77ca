"""The backends of the fault matrix: one entry per column. A backend whose packages are missing is skipped."""

from fault_case import Subject
from staging_servers import VARIANTS

NO_REDIS = {"REDIS_SERVER": "/no/such/redis-server"}

SUBJECTS = [
    Subject("filesystem", broken={"folder": "{file}/below"}, in_files=True),
    Subject("node-local", broken={"folder": "{file}/below"}, in_files=True),
    Subject("daos-posix", broken={"folder": "{file}/below"}, in_files=True),
    Subject(
        "daos-kv", broken={"pool": "{file}/below"}, keeps_names=True, served_by="the servers are the DAOS system's"
    ),
    Subject("adios2", broken={"interface": "none0"}, in_files=True, by_key=False),
    Subject(
        "dragon",
        server=("python", "dragon_service"),
        broken={"total_mem": 2**50},
        password="token",
        for_large={"total_mem": 2**31},
    ),
    Subject("redis-cluster", server=("redis-server", ""), broken_environment=NO_REDIS, password="password"),
    Subject("redis", server=("redis-server", ""), broken_environment=NO_REDIS, password="password", port=True),
]


def lacks(subject: Subject) -> str:
    """Why a backend cannot be run here, or ""."""
    return VARIANTS[subject.backend].lacks if subject.backend in VARIANTS else f"{subject.backend} is not there yet"
