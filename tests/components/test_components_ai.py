"""The class AI on one rank: it learns what was staged, by count and by time; messages for what cannot be."""

import numpy as np
import pytest
import torch

from simai_rules.components.ai import AI
from simai_rules.components.payload import Payload
from simai_rules.config.models import ModelConfig
from simai_rules.errors import ConfigError, UserError
from simai_rules.staging.info import ServerInfo

torch.set_num_threads(1)  # several threads on a busy machine spend their time waiting for each other
SMALL = ModelConfig(features=3, hidden=[8], batch_size=16)


def rows(count, features=3, dtype=np.float32):
    return np.random.default_rng(0).uniform(-1, 1, count * (features + 1)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_payload_is_learned(dtype):
    ai = AI(model=ModelConfig(learning_rate=0.003))
    ai.add_data(Payload(elements=80_000, dtype=dtype, features=7, seed=0, repeat=0, rank=0).data(0))
    other = Payload(elements=8_000, dtype=dtype, features=7, seed=0, repeat=0, rank=1).data(1).astype(np.float32)
    inputs, targets = np.split(other.reshape(-1, 8), [7], axis=1)

    def error():
        with torch.no_grad():
            return float(((ai.net(torch.from_numpy(inputs)).numpy() - targets) ** 2).mean())

    before = error()
    ai.train(run_count=300)
    assert error() < before / 10  # on another rank's data: learned, not learned by heart
    assert ai.loss is not None
    assert ai.loss < before / 10


def test_train_by_count_and_by_time():
    ai = AI(model=SMALL)
    ai.add_data(rows(64))
    assert ai.loss is None
    seconds, count = ai.train(run_count=5)
    assert seconds > 0
    assert count == 5
    assert ai.train()[1] == 1
    seconds, count = ai.train(run_time=0.05)
    assert seconds >= 0.05
    assert count > 1


def test_infer_does_not_change_the_net():
    ai = AI(model=SMALL)
    ai.add_data(rows(64))
    before = [weight.clone() for weight in ai.net.parameters()]
    assert ai.infer(run_count=3)[1] == 3
    seconds, count = ai.infer(run_time=0.02)
    assert seconds >= 0.02
    assert count > 1
    assert all(torch.equal(old, new) for old, new in zip(before, ai.net.parameters(), strict=True))
    assert ai.loss is None


def test_one_seed_gives_one_result():
    def trained(seed):
        ai = AI(model=SMALL, seed=seed)
        ai.add_data(rows(64))
        ai.train(run_count=10)
        return torch.cat([weight.detach().flatten() for weight in ai.net.parameters()])

    state = torch.random.get_rng_state()
    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_newest_rows_are_kept():
    ai = AI(model=SMALL.model_copy(update={"max_samples": 10}))
    numbers = np.arange(4 * 14 + 3, dtype=np.float64)  # 14 rows and 3 values that are no row
    assert ai.add_data(numbers[: 4 * 6]) == 6
    assert ai.add_data(numbers[4 * 6 :].reshape(1, -1)) == 8
    assert len(ai.data) == 10
    np.testing.assert_array_equal(ai.data.rows().numpy(), numbers[16:56].reshape(10, 4))
    assert ai.add_data(numbers) == 10
    np.testing.assert_array_equal(ai.data.rows().numpy(), numbers[16:56].reshape(10, 4))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_are_scaled(dtype):
    limits = np.iinfo(dtype)
    ai = AI(model=SMALL)
    ai.add_data(np.array([limits.min, 0, limits.max // 2, limits.max], dtype))
    np.testing.assert_allclose(ai.data.rows().numpy(), [[-1, 0, 0.5, 1]], rtol=1e-6)


def test_batches_hold_rows_of_the_data():
    ai = AI(model=SMALL)
    ai.add_data(np.repeat(np.arange(100, dtype=np.float32), 4))
    inputs, targets = ai.data.batch()
    assert inputs.shape == (16, 3)
    assert targets.shape == (16, 1)
    assert torch.equal(inputs, targets.expand(16, 3))
    few = AI(model=SMALL)
    few.add_data(rows(5))
    assert few.data.batch()[0].shape == (5, 3)


@pytest.mark.parametrize("data", [np.zeros(3), np.zeros(0), np.zeros(8, complex), np.array(["a"] * 8)])
def test_data_that_holds_no_row(data):
    with pytest.raises(UserError, match="cannot be learned from: a row is 4 floats or integers"):
        AI(model=SMALL).add_data(data)


def test_no_data_yet():
    for work in (AI(name="ai").train, AI(name="ai").infer, AI(name="ai").prepare):
        with pytest.raises(UserError, match="ai has no data yet"):
            work()


def test_a_step_longer_than_its_run_time():
    ai = AI(name="ai", model=SMALL)
    ai.add_data(rows(64))
    with pytest.raises(UserError, match=r"a training step of ai with batch_size 16 and hidden layers \[8\] takes"):
        ai.train(run_time=1e-6)
    with pytest.raises(UserError, match="an inference of ai"):
        ai.infer(run_time=1e-7)


def test_a_model_that_is_not_valid():
    with pytest.raises(
        ConfigError, match=r"model of AI has 1 problem:\n  featurs: unknown key. Did you mean 'features'"
    ):
        AI(model={"featurs": 3})


def test_what_was_staged_is_learned(tmp_path):
    server = ServerInfo(backend="filesystem", run_id="t", state="ready", address={"folder": str(tmp_path)})
    with AI(name="ai", server_info=server, model=SMALL) as ai:
        ai.stage_write("data", rows(32))
        assert ai.add_data(ai.stage_read("data")) == 32
        ai.train(run_count=2)
        assert ai.poll_staged_data("data")
        assert ai.clean_staged_data("data")
