"""Every model takes steps on the CPU, has as many weights as its formula says, and its parts do what they should."""

import sys
import types
from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from torch import nn

from simai_rules.components.ai import AI
from simai_rules.components.nets import mesh_edges
from simai_rules.components.network import build, parameters
from simai_rules.config.models import ModelConfig
from simai_rules.errors import ConfigError, UserError

torch.set_num_threads(1)
IMAGE = {"features": 2, "outputs": 3, "hidden": [4, 6], "batch_size": 4}
CONFIGS = {
    "mlp": {"features": 5, "outputs": 2, "hidden": [8, 6]},
    "mlp of no layer": {"features": 5, "hidden": []},
    "cnn": {**IMAGE, "shape": [8, 5]},
    "cnn of volumes": {**IMAGE, "shape": [4, 6, 5]},
    "unet": {**IMAGE, "hidden": [4, 6, 8], "shape": [8, 4]},
    "unet of lines": {**IMAGE, "shape": [16]},
    "autoencoder": {"features": 10, "hidden": [8, 3]},
    "transformer": {"features": 3, "hidden": [8, 8], "heads": 2, "shape": [7]},
    "graph": {"features": 2, "outputs": 3, "hidden": [6, 5], "shape": [4, 3]},
    "graph of two points": {"features": 2, "hidden": [6], "shape": [2]},
}


def config(case, **more):
    return ModelConfig(name=case.split()[0], **({"batch_size": 8} | CONFIGS[case] | more))


def weights_by_hand(model):
    """The number of weights, by the formulas of the classes' docstrings."""
    inputs, outputs, hidden = model.features, model.outputs, model.hidden
    points = 3 ** len(model.shape)
    match model.name:
        case "mlp":
            return sum((a + 1) * b for a, b in pairwise([inputs, *hidden, outputs]))
        case "cnn":
            return sum((a * points + 1) * b for a, b in pairwise([inputs, *hidden])) + (hidden[-1] + 1) * outputs
        case "unet":

            def block(a, b):
                return (a * points + 1) * b + (b * points + 1) * b

            down = sum(block(a, b) for a, b in pairwise([inputs, *hidden]))
            up = sum((a * 2 ** len(model.shape) + 1) * b + block(2 * b, b) for a, b in pairwise(hidden[::-1]))
            return down + up + (hidden[0] + 1) * outputs
        case "autoencoder":
            return sum((a + 1) * b + (b + 1) * a for a, b in pairwise([inputs, *hidden]))
        case "transformer":
            h = hidden[0]
            layers = len(hidden) * (12 * h * h + 13 * h)
            return (inputs + 1) * h + prod(model.shape) * h + layers + (h + 1) * inputs
        case "graph":
            widths = [hidden[0], *hidden]
            layers = sum((2 * a + 1) * b + (a + b + 1) * b for a, b in pairwise(widths))
            return (inputs + 1) * widths[0] + layers + (hidden[-1] + 1) * outputs


@pytest.mark.parametrize("case", CONFIGS)
def test_a_model_trains_and_infers_and_has_its_number_of_weights(case):
    model = config(case)
    with AI(model=model, seed=1) as ai:
        assert parameters(ai.net) == weights_by_hand(model)
        samples = np.random.default_rng(0).uniform(-1, 1, 11 * model.row + model.row // 2)
        assert ai.add_data(samples) == 11
        inputs, targets = ai.data.batch()
        assert inputs.shape == (model.batch_size, *model.input_shape)
        assert targets.shape == (model.batch_size, *model.target_shape)
        before = [weight.detach().clone() for weight in ai.net.parameters()]
        assert ai.net(inputs).shape == targets.shape
        assert ai.train()[1] == 1
        assert np.isfinite(ai.loss)
        assert all(not torch.equal(old, new) for old, new in zip(before, ai.net.parameters(), strict=True))
        assert ai.infer(run_count=2)[1] == 2


@pytest.mark.parametrize("case", CONFIGS)
def test_inference_gives_what_the_net_makes_and_training_goes_on_after_it(case):
    with AI(model=config(case)) as ai:
        ai.data.add_synthetic()
        inputs, _ = ai.data.batch()
        with torch.no_grad():
            expected = ai.net(inputs)
        torch.testing.assert_close(ai._learner.infer(inputs), expected, rtol=1e-4, atol=1e-5)
        assert not ai.net.training
        ai.train()
        assert ai.net.training


def test_one_seed_gives_one_net_and_leaves_the_random_numbers_of_others_alone():
    def flat(seed):
        return torch.cat([weight.flatten() for weight in build(config("unet"), seed).parameters()])

    state = torch.random.get_rng_state()
    assert torch.equal(flat(1), flat(1))
    assert not torch.equal(flat(1), flat(2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_transformer_does_not_look_at_the_tokens_to_come():
    net = build(config("transformer"), 0)
    tokens = torch.rand(1, 7, 3)
    changed = tokens.clone()
    changed[0, 5:] += 1
    assert torch.allclose(net(tokens)[0, :5], net(changed)[0, :5], atol=1e-6)
    assert not torch.allclose(net(tokens)[0, 5:], net(changed)[0, 5:], atol=1e-3)


def test_edges_of_a_mesh_join_neighbours_both_ways():
    edges = set(map(tuple, mesh_edges([2, 3]).T.tolist()))  # 0 1 2 over 3 4 5
    one_way = {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}
    assert edges == one_way | {(b, a) for a, b in one_way}
    assert mesh_edges([4]).shape == (2, 6)
    assert mesh_edges([1]).shape == (2, 0)


def test_a_message_goes_as_far_as_there_are_layers():
    net = build(config("graph", shape=[6], features=2, hidden=[6, 6]), 0)
    values = torch.rand(1, 6, 2)
    changed = values.clone()
    changed[0, 0] += 1
    moved = (net(values) - net(changed)).abs().amax(dim=2)[0] > 1e-7
    assert moved.tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_lowers_every_loss(loss, optimizer):
    with AI(model=config("mlp", loss=loss, optimizer=optimizer, learning_rate=0.01, order="stream")) as ai:
        ai.add_data(np.random.default_rng(1).uniform(-1, 1, 8 * 7))
        ai.train()
        first = ai.loss
        ai.train(run_count=40)
        assert ai.loss < first


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ["mlp", "cnn", "unet", "autoencoder", "transformer", "graph"])
def test_the_loss_of_what_can_be_learned_falls(case, precision):
    with AI(model=config(case, precision=precision, learning_rate=0.01, batch_size=32), seed=1) as ai:
        row = np.arange(ai.config.row) / ai.config.row
        phases = np.random.default_rng(0).uniform(-1, 1, (64, 1))
        ai.add_data(np.sin(3 * phases + 6 * row))  # one number tells all others of a sample
        ai.train()
        first = ai.loss
        ai.train(run_count=60)
        assert ai.loss < 0.6 * first


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", ["mlp", "cnn", "transformer", "graph"])
def test_mixed_precision_keeps_float32_weights(case, precision):
    with AI(model=config(case, precision=precision)) as ai:
        ai.data.add_synthetic()
        ai.train(run_count=3)
        assert np.isfinite(ai.loss)
        assert {weight.dtype for weight in ai.net.parameters()} == {torch.float32}
        assert ai._learner.infer(ai.data.batch()[0]).dtype == getattr(torch, precision)


def test_frozen_weights_stay_and_the_others_are_trained():
    with AI(model=config("mlp", frozen=["0.", "2.b"])) as ai:
        ai.data.add_synthetic()
        before = {name: weight.detach().clone() for name, weight in ai.net.named_parameters()}
        ai.train(run_count=3)
        same = {name for name, weight in ai.net.named_parameters() if torch.equal(weight, before[name])}
    assert same == {"0.weight", "0.bias", "2.bias"}


@pytest.mark.parametrize(
    ("frozen", "message"), [(["3."], "no weight's name begins with 3\\."), ([""], "no weights to train")]
)
def test_what_cannot_be_frozen(frozen, message):
    def train():
        with AI(model=config("mlp", frozen=frozen)) as ai:
            ai.data.add_synthetic()
            ai.train()

    with pytest.raises(UserError, match=message):
        train()


class Own(nn.Module):
    """A net of the user's own."""

    def __init__(self, width=4, fail=False, leave=False, several=False, train=True):
        super().__init__()
        if fail:
            raise ValueError("no such width")
        if leave:
            sys.exit("no licence")
        self.layer = nn.Linear(3, width)
        self.several, self.train_it = several, train

    def forward(self, inputs):
        result = self.layer(inputs).mean(dim=1)
        if self.several:
            return result, 0
        return result if self.train_it else result.detach()


class Empty(nn.Module):
    """A net without weights."""

    def forward(self, inputs):
        return inputs


@pytest.fixture
def own(monkeypatch):
    module = types.ModuleType("own_nets")
    module.Own, module.Empty, module.number = Own, Empty, 3
    monkeypatch.setitem(sys.modules, "own_nets", module)

    def make(**options):
        return ModelConfig.model_validate(
            {"name": "own_nets:Own", "inputs": [5, 3], "targets": [4], "batch_size": 4} | options
        )

    return make


def test_a_model_by_import_path(own):
    with AI(model=own(options={"width": 6}, targets=[6])) as ai:
        assert isinstance(ai.net, Own)
        assert ai.add_data(np.ones(5 * (15 + 6))) == 5
        ai.train()
        assert ai.data.batch()[0].shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "own_netz:Own"}, "own_netz:Own, but that cannot be imported.*No module named 'own_netz'"),
        ({"name": "own_nets:Other"}, "cannot be imported.*has no attribute 'Other'"),
        ({"name": "own_nets:number"}, "which is no class derived from torch.nn.Module"),
        ({"options": {"wide": 3}}, "cannot be made with model.options.*unexpected keyword argument 'wide'"),
        ({"options": {"fail": True}}, "cannot be made with .*ValueError: no such width"),
        ({"options": {"leave": True}}, "cannot be made with .*SystemExit: no licence"),
        ({"options": {"several": True}}, "returns a tuple; it has to return one array"),
        ({"inputs": [5, 4]}, r"does not take two samples .* of shape \[2, 5, 4\]"),
        ({"targets": [5]}, r"makes of two samples an array of shape \[2, 4\], but model.targets say \[2, 5\]"),
    ],
)
def test_a_model_by_import_path_that_cannot_be(own, options, message):
    with pytest.raises(UserError, match=message):
        AI(model=own(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"train": False}}, "A training step of own_nets:Own .*RuntimeError.*see the class"),
        ({"name": "own_nets:Empty", "targets": []}, "no weights to train"),
    ],
)
def test_a_model_that_cannot_be_trained_can_infer(own, options, message):
    with AI(model=own(**options)) as ai:
        ai.data.add_synthetic()
        ai.infer()
        with pytest.raises(UserError, match=message):
            ai.train()


@pytest.mark.parametrize(
    "model",
    [
        {"hidden": [10**8, 10**8]},
        {"name": "transformer", "shape": [10**4, 10**4], "hidden": [8]},
        {"features": 10**15, "hidden": [10]},
    ],
)
def test_a_model_that_is_larger_than_any_memory(model):
    with pytest.raises(UserError, match=r"cannot be made .* lower model\.features, model\.hidden"):
        AI(model=model)


@pytest.mark.parametrize("device", ["cuda", "xpu"])
def test_a_device_that_is_not_there(device):
    if getattr(torch, device).is_available():
        pytest.skip(f"there is a {device} device here")
    with pytest.raises(
        UserError, match=f"model.device is {device}, but torch .* sees no such device.*simai-rules doctor"
    ):
        AI(model=config("mlp", device=device))


@pytest.mark.parametrize("device", ["cuda", "xpu"])
def test_a_model_on_a_gpu(device):
    if not getattr(torch, device).is_available():
        pytest.skip(f"no {device} device here")
    for case in CONFIGS:
        with AI(model=config(case, device=device)) as ai:
            ai.data.add_synthetic()
            ai.train(run_count=2)
            ai.infer()
            assert np.isfinite(ai.loss)
            assert {weight.device.type for weight in ai.net.parameters()} == {device}


@pytest.mark.parametrize(
    ("model", "messages"),
    [
        ({"name": "unett"}, ["name: 'unett' is not known. Did you mean 'unet'?", "package.module:Class"]),
        ({"name": "unet", "shape": [6, 8], "hidden": [4, 4, 4]}, ["halves the image 2 times", "multiple of 4"]),
        ({"name": "transformer", "hidden": [8, 4]}, ["equally wide", "multiple of heads: 4"]),
        ({"name": "transformer", "hidden": [6]}, ["multiple of heads: 4"]),
        ({"name": "cnn", "hidden": []}, ["leaves the cnn without a layer"]),
        ({"name": "a.b:C"}, ["needs the shape of a sample's inputs"]),
        ({"options": {"width": 3}}, ["are for a model by import path"]),
        ({"loss": "l2"}, ["loss: 'l2' is not known", "mse"]),
        ({"shape": [2, 2, 2, 2]}, ["shape"]),
    ],
)
def test_a_model_that_cannot_be(model, messages):
    with pytest.raises(ConfigError) as raised:
        AI(model=model)
    for message in messages:
        assert message in str(raised.value)
