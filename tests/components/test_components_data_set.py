"""The replay buffer: what stays in it, in which order it is learned, and how samples are cut."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simai_rules.components.data_set import DataSet, split
from simai_rules.config.models import ModelConfig


def data_set(**options):
    return DataSet(ModelConfig(**({"features": 1, "outputs": 1, "max_samples": 10, "batch_size": 4} | options)), 0, 0)


def numbers(first, last):
    """Samples whose input is their number."""
    return np.repeat(np.arange(first, last, dtype=np.float32), 2)


def kept(data):
    return data.rows()[:, 0].int().tolist()


@given(
    eviction=st.sampled_from(["oldest", "random", "reservoir"]),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    most=st.integers(1, 25),
)
@settings(max_examples=60, deadline=None)
def test_no_more_than_max_samples_are_kept_and_each_was_staged_once(eviction, sizes, most):
    data = data_set(eviction=eviction, max_samples=most)
    seen = 0
    for size in sizes:
        taken = data.add(numbers(seen, seen + size))
        seen += size
        assert 0 <= taken <= size
        assert len(data) == min(seen, most)
        assert len(set(kept(data))) == len(data)
        assert set(kept(data)) <= set(range(seen))
    if eviction == "oldest":
        assert kept(data) == list(range(max(0, seen - most), seen))


def test_random_eviction_keeps_all_new_samples_and_some_old_ones():
    data = data_set(eviction="random")
    data.add(numbers(0, 10))
    assert data.add(numbers(10, 14)) == 4
    assert {10, 11, 12, 13} < set(kept(data))


def test_a_reservoir_keeps_old_and_new_samples_alike():
    counts = Counter()
    for seed in range(300):
        data = DataSet(ModelConfig(features=1, max_samples=10, eviction="reservoir"), seed, 0)
        for first in range(0, 50, 5):
            data.add(numbers(first, first + 5))
        counts.update(kept(data))
    # Each of the 50 samples is kept with probability 1/5: 60 of 300 times, standard deviation 6.9.
    assert min(counts[number] for number in range(50)) > 60 - 5 * 6.9
    assert max(counts.values()) < 60 + 5 * 6.9


@pytest.mark.parametrize("eviction", ["oldest", "random", "reservoir"])
def test_memory_does_not_grow_with_what_is_added(eviction):
    data = data_set(eviction=eviction, max_samples=100)
    place = None
    for first in range(10_000):
        data.add(numbers(first, first + 3))
        if len(data) == 100:
            place = place or data._room.data_ptr()
            assert data._room.data_ptr() == place
    assert data._room.shape == (100, 2)


def test_a_stream_takes_the_samples_in_their_order_and_begins_again():
    data = data_set(order="stream")
    data.add(numbers(0, 6))
    taken = [data.batch()[0][:, 0].int().tolist() for _ in range(3)]
    assert taken == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


def test_a_stream_goes_on_where_it_was_when_the_oldest_samples_go():
    data = data_set(order="stream", max_samples=8)
    data.add(numbers(0, 8))
    data.batch()
    data.add(numbers(8, 11))
    assert data.batch()[0][:, 0].int().tolist() == [4, 5, 6, 7]
    assert data.batch()[0][:, 0].int().tolist() == [8, 9, 10, 3]


@pytest.mark.parametrize("eviction", ["random", "reservoir"])
def test_one_seed_keeps_the_same_samples(eviction):
    first, second = (data_set(eviction=eviction) for _ in range(2))
    for data in (first, second):
        data.add(numbers(0, 8))
        data.add(numbers(8, 60))
    assert kept(first) == kept(second)


def test_synthetic_samples_fill_the_batches():
    data = data_set(batch_size=5)
    data.add_synthetic()
    assert len(data) == 10
    again = data_set(batch_size=5)
    again.add_synthetic()
    assert torch.equal(data.rows(), again.rows())
    other = DataSet(ModelConfig(features=1, outputs=1, max_samples=10, batch_size=5), 0, 1)
    other.add_synthetic()
    assert not torch.equal(data.rows(), other.rows())
    assert data.rows().abs().max() <= 1


def test_how_samples_are_cut():
    rows = torch.arange(24.0).reshape(2, 12)
    inputs, targets = split(rows, ModelConfig(name="unet", features=2, outputs=4, shape=[2], hidden=[4]))
    assert inputs.tolist() == [[[0, 1], [2, 3]], [[12, 13], [14, 15]]]
    assert targets.shape == (2, 4, 2)
    tokens, following = split(rows, ModelConfig(name="transformer", features=3, shape=[3], hidden=[4]))
    assert tokens[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert following[0].tolist() == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    inputs, targets = split(rows, ModelConfig(name="autoencoder", features=12))
    assert inputs is targets
    inputs, targets = split(rows, ModelConfig(name="graph", features=2, outputs=1, shape=[2, 2]))
    assert inputs[1].tolist() == [[12, 13], [14, 15], [16, 17], [18, 19]]
    assert targets[1].tolist() == [[20], [21], [22], [23]]
