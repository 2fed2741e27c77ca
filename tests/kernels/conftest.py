"""Where SIMAI_TEST_SKIPS=fail, a skipped test is a failure: make test-hdf5 and make test-dpnp bring what it needs."""

import os

import pytest


def refused(report):
    """Return the report of a test or a module; where it was skipped and may not be, as that of a failure."""
    if report.skipped and os.environ.get("SIMAI_TEST_SKIPS") == "fail":
        report.outcome, report.longrepr = "failed", f"may not be skipped here: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return refused((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return refused((yield))
