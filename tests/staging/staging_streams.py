"""What the partner of a stream does in the tests, in a process of its own: SST holds the interpreter while it opens."""

import os
import signal
import time

import numpy as np

from simai_rules.staging.datastore import DataStore


def partner(action, info, name, *arguments):
    """Run one of the functions below."""
    with DataStore("partner", info, timeout=60) as store:
        globals()[action](store, name, *arguments)


def write_values(store, name, values, pause=0.0, wait_before_close=""):
    """Write each value as a step."""
    with store.stream_writer(name) as stream:
        for value in values:
            assert stream.begin_step()
            stream.write(value)
            stream.end_step()
            time.sleep(pause)
        if wait_before_close:
            store.stage_read(wait_before_close)


def read_values(store, name, wait="", most=1_000_000):
    """Read the steps, when the key `wait` is there, and stage their numbers and values."""
    numbers, values = [], []
    with store.stream_reader(name) as stream:
        if wait:
            store.stage_read(wait)
        while len(numbers) < most and (number := stream.begin_step()) is not None:
            numbers.append(number)
            values.append(stream.read())
            stream.end_step()
        if most > len(numbers):
            assert stream.ended
    for number, value in enumerate(values):
        store.stage_write(f"{name}/{number}", value)
    store.stage_write(f"{name}/numbers", numbers)


def read_late(store, name, seconds):
    """Open the stream after a while."""
    time.sleep(seconds)
    read_values(store, name)


def open_writer(store, name, seconds):
    """Open the stream for writing."""
    store.stream_writer(name, timeout=seconds)


def read_soon(store, name):
    """Open the stream when there is a writer, and read a step in vain: its writer is halted."""
    with store.stream_reader(name) as stream:
        stream.begin_step()
        stream._timeout_ns = 10**9
        store.stage_write(f"{name}/begun", True)
        store.stage_read(f"{name}/halted")
        stream.read()


def write_and_be_halted(store, name):
    """Write a step, and halt before its data is asked for."""
    with store.stream_writer(name) as stream:
        stream.begin_step()
        stream.write(np.zeros(100_000_000, np.uint8))
        stream.end_step()
        _die("SIGSTOP")


def read_late_and_leave(store, name, seconds):
    """Read all steps, and look for another one only after a while."""
    with store.stream_reader(name) as stream:
        for _ in range(2):
            assert stream.begin_step() is not None
            stream.end_step()
        store.stage_write(f"{name}/read", True)
        time.sleep(seconds)
        assert stream.begin_step() is None
        store.stage_write(f"{name}/ended", stream.ended)


def write_late(store, name, seconds):
    """Open the stream after a while."""
    time.sleep(seconds)
    write_values(store, name, [0, 1])


def read_and_die(store, name, how):
    """Read one step, and end without closing the stream."""
    with store.stream_reader(name) as stream:
        stream.begin_step()
        stream.read()
        stream.end_step()
        stream.begin_step()
        _die(how)


def write_and_die(store, name, how):
    """Write one step, wait until it is read, and end without closing the stream."""
    with store.stream_writer(name) as stream:
        stream.begin_step()
        stream.write(0)
        stream.end_step()
        store.stage_read(f"{name}/die")
        _die(how)


def _die(how):
    if how == "raise":
        raise RuntimeError("what a component fails of")
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)  # SIGSTOP comes back
