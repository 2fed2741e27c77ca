"""Copies arrive, in both directions and for every dtype, on a stand-in and on every device that is there."""

import numpy as np
import pytest
from kernel_making import DEVICES, DTYPES, kernel
from pydantic import ValidationError

from simai_rules.config.kernels import COPY, KernelConfig
from simai_rules.kernels.base import Setup
from simai_rules.kernels.devices.host import Host
from simai_rules.kernels.registry import KERNELS


class StandIn(Host):
    """A device in the host's memory that notes how long its work was, and which memory was asked for."""

    is_host = False
    pinned = None

    def host_memory(self, values, *, pinned):
        self.pinned = pinned
        return values.copy()

    def timed(self, work, meanwhile):
        work()
        meanwhile()
        return lambda: 250


def copying(device, name, dtype="float32", **options):
    if device != "stand-in":
        return kernel(name, (30, 7), dtype, device=device, **options)
    config = KernelConfig(name=name, data_size=[30, 7], dtype=dtype, device="cuda", **options)
    return KERNELS[name](Setup(config, np.random.default_rng(1), StandIn()))


pytestmark = pytest.mark.parametrize("device", ["stand-in", *DEVICES[1:]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pinned", [False, True])
def test_to_the_device(device, dtype, pinned):
    made = copying(device, "CopyHostToDevice", dtype, pinned=pinned)
    np.testing.assert_array_equal(made.device.to_host(made.array), 0)
    made()
    np.testing.assert_array_equal(made.device.to_host(made.array), made.values)
    assert made.values.any()
    assert made.nbytes() == made.memory() == made.values.nbytes
    assert made.flops() == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pinned", [False, True])
def test_to_the_host(device, dtype, pinned):
    made = copying(device, "CopyDeviceToHost", dtype, pinned=pinned)
    expected = made.device.to_host(made.array).copy()
    assert not np.array_equal(made.values, expected)
    made()
    np.testing.assert_array_equal(made.values, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_within_the_device(device, dtype):
    made = copying(device, "CopyDeviceToDevice", dtype)
    made()
    source, target = made.device.to_host(made.source), made.device.to_host(made.target)
    np.testing.assert_array_equal(target, source)
    assert source.any()
    assert made.nbytes() == 2 * source.nbytes


def test_both_kinds_of_memory_and_the_time_on_the_device(device):
    for pinned in (True, False):
        made = copying(device, "CopyHostToDevice", pinned=pinned)
        made()
        made()
        if device == "stand-in":
            assert made.device.pinned is pinned
            assert made.device_ns == 500
        else:
            assert made.device_ns > 0


def test_on_the_cpu_there_is_nothing_to_copy_to(device):
    for name in COPY:
        with pytest.raises(ValidationError, match=f"{name} needs a device other than cpu: cuda, xpu or sycl-cpu"):
            KernelConfig(name=name)
