"""On a device a call lasts until the device has done it, so an iteration takes its run_time there as on the CPU.

The stand-in does nothing when work is handed to it: its clock moves when somebody waits for it.
"""

import numpy as np
import pytest
from kernel_making import FOUND, kernel

from simai_rules.components import kernel_run
from simai_rules.components.simulation import Simulation
from simai_rules.config.kernels import KernelConfig
from simai_rules.events.recorder import Recorder
from simai_rules.kernels import pace, registry
from simai_rules.kernels.base import Setup
from simai_rules.kernels.devices.host import Host

MS = 1_000_000


class Asynchronous(Host):
    """Takes `cost` ns for each call that it was given, and 50 µs for its events."""

    name = "queue"
    is_host = False

    def __init__(self, cost):
        self.cost, self.now, self.queued, self.waits = cost, 0, 0, 0

    def perf_counter_ns(self):
        self.now += 100
        return self.now

    def timed(self, work, meanwhile):
        work()
        meanwhile()
        self.queued += 1
        took = self.wait()
        return lambda: took

    def wait(self):
        self.waits += 1
        done, self.queued = self.queued * self.cost, 0
        self.now += done + 50_000
        return done


@pytest.fixture
def queue(monkeypatch):
    there = Asynchronous(3 * MS)

    def make(config, rng, comm=None, claim=None):
        return registry.kernel_class(config)(Setup(config, rng, there, comm, claim))

    monkeypatch.setattr(kernel_run, "make", make)
    monkeypatch.setattr(pace, "time", there)
    return there


def test_every_call_is_waited_for_and_the_run_time_is_met(queue):
    config = KernelConfig(name="AXPY", data_size=[8], device="xpu", run_time=0.031)
    run = kernel_run.KernelRun(config, seed=1, repeat=0, rank=0, purpose="test")
    run.prepare()
    before = queue.waits
    done = run.run(run.draw())
    assert done.calls == 10 == queue.waits - before
    assert queue.queued == 0
    assert 31 * MS <= done.elapsed_ns <= 31 * MS + 200
    assert done.device_ns == 30 * MS
    assert 30.5 * MS <= done.work_ns < 31 * MS


def test_the_stand_in_does_what_the_kernel_says(queue):
    made = kernel_run.make(KernelConfig(name="AXPY", data_size=[8]), np.random.default_rng(1))
    before = made.y.copy()
    made()
    np.testing.assert_array_equal(made.y, before + np.float32(0.5) * made.x)
    assert made.device_ns == 3 * MS
    assert kernel("AXPY").device_ns == 0


@pytest.mark.parametrize("device", FOUND or [pytest.param("", marks=pytest.mark.skip(reason="no device but the CPU"))])
def test_on_a_device_the_times_of_calls_fit_into_that_of_the_iteration(device):
    recorder = Recorder("simulation", 0, "here")
    with Simulation("sim", recorder=recorder) as simulation:
        simulation.add_kernel("MatMulSimple2D", data_size=[128, 128], device=device, run_time=0.02)
        simulation.run(5)
    rows = recorder.columns()
    of_kernel = [number for number, name in enumerate(rows["kernel"]) if name == "MatMulSimple2D"]
    assert len(of_kernel) == 5
    for number in of_kernel:
        assert 0 < rows["device_ns"][number] < rows["work_ns"][number] <= rows["duration_ns"][number]
        assert rows["duration_ns"][number] >= 20 * MS  # whole calls and a busy finish: never less
