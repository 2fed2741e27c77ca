"""Weights in files and in the store: a trainer publishes them, an inference takes the newest."""

import json

import numpy as np
import pytest
import torch

from simai_rules.components.ai import AI
from simai_rules.config.models import ModelConfig
from simai_rules.errors import UserError
from simai_rules.staging.errors import StagingTimeout
from simai_rules.staging.info import ServerInfo

torch.set_num_threads(1)
MODEL = {"features": 3, "hidden": [8], "batch_size": 16}


@pytest.fixture
def server(tmp_path):
    (tmp_path / "data").mkdir()
    return ServerInfo(backend="filesystem", run_id="t", state="ready", address={"folder": str(tmp_path / "data")})


def same(first, second):
    pairs = zip(first.net.state_dict().values(), second.net.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def trained(steps=2, **options):
    ai = AI(model=MODEL | options, seed=3)
    ai.data.add_synthetic()
    ai.train(run_count=steps)
    return ai


def test_the_newest_weights_are_taken(server):
    with AI("trainer", server, model=MODEL, seed=1) as trainer, AI("inference", server, model=MODEL, seed=2) as reader:
        trainer.data.add_synthetic()
        with pytest.raises(StagingTimeout):
            reader.take_newest(timeout=0.01)
        trainer.publish()
        assert trainer.version == 1
        assert not same(trainer, reader)
        assert reader.take_newest()
        assert same(trainer, reader)
        assert not reader.take_newest()
        for _ in range(3):
            trainer.train()
            trainer.publish()
        assert reader.take_newest()
        assert reader.version == 4
        assert same(trainer, reader)
        staged = reader.stage_read("model")
        assert set(staged) == {"__version__", *trainer.net.state_dict()}


def test_weights_of_another_model_are_refused(server):
    with (
        AI("trainer", server, model=MODEL) as trainer,
        AI("inference", server, model=MODEL | {"hidden": [9]}) as reader,
    ):
        trainer.publish()
        message = r"weights of the key 'model' are not those of this model: 0.weight has the shape \[8, 3\] instead of"
        with pytest.raises(UserError, match=message):
            reader.take_newest()


@pytest.mark.parametrize("name", ["mlp", "graph", "transformer"])
def test_fine_tuning_begins_with_the_weights_of_a_file(tmp_path, name):
    options = {"name": name, "shape": [4]}
    first = trained(**options)
    first.save(tmp_path / "net.safetensors")
    second = AI(model=MODEL | options | {"weights": str(tmp_path / "net.safetensors")}, seed=9)
    assert same(first, second)
    second.data.add_synthetic()
    second.train()
    assert not same(first, second)


def test_the_file_is_one_that_others_can_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    first = trained()
    first.save(tmp_path / "net.safetensors")
    loaded = safetensors.load_file(tmp_path / "net.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in first.net.state_dict().items())
    safetensors.save_file(loaded, tmp_path / "theirs.safetensors")
    assert same(first, AI(model=MODEL | {"weights": str(tmp_path / "theirs.safetensors")}))


def test_weights_that_were_saved_with_ddp_around_the_net(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = {f"module.{name}": value.contiguous() for name, value in trained().net.state_dict().items()}
    safetensors.save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=r"0\.weight is missing.*saved with DDP around the net"):
        AI(model=MODEL | {"weights": str(tmp_path / "net.safetensors")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is no safetensors file of weights"),
        (b"\x10\0\0\0\0\0\0\0{} and nonsense!", "is no safetensors file of weights"),
        (json.dumps({}).encode() * 40, "is no safetensors file of weights"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, content, message):
    file = tmp_path / "net.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        AI(model=ModelConfig(**MODEL, weights=str(file)))


def test_infer_with_weights_of_a_file_gives_what_the_trainer_had(tmp_path):
    first = trained(steps=20)
    first.save(tmp_path / "net.safetensors")
    second = AI(model=MODEL | {"weights": str(tmp_path / "net.safetensors")})
    inputs = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32))
    assert torch.equal(first._learner.infer(inputs), second._learner.infer(inputs))
