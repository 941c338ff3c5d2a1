"""Models of which it is known what a pass changes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from sweepwise.diagnosis import measure
from sweepwise.diagnosis.measure import examine
from sweepwise.learner import without_trace as passes
from sweepwise.learner.known import changes_buffers_only
from sweepwise.learner.without_trace import trial_copy
from sweepwise.model.cnn import cnn
from sweepwise.model.mlp import mlp
from sweepwise.model.recurrent import recurrent
from sweepwise.model.resnet import resnet
from sweepwise.model.transformer import transformer


class Own(nn.Module):
    """A module whose code is nobody else's."""

    def forward(self, x):
        return x


def hooked(register: str) -> nn.Module:
    layer = nn.Linear(2, 3)
    getattr(layer, register)(lambda *values: None)
    return layer


def with_attribute(name: str, value: object) -> nn.Module:
    layer = nn.Linear(2, 3)
    setattr(layer, name, value)
    return layer


def hooked_parameter() -> nn.Module:
    layer = nn.Linear(2, 3)
    layer.weight.register_hook(lambda gradient: None)
    return layer


@pytest.mark.parametrize(
    "model",
    [
        mlp([2], 3, hidden=[4, 4], norm="batch", dropout=0.5),
        cnn([1, 8, 8], 3, dimensions=2, kernels=[3, 3], hidden=[4], channels=[2, 2]),
        resnet([1, 8, 8], 3, depth=8, width=4),
        recurrent([5], 3, cell="lstm", layers=2, bidirectional=True),
        recurrent([5], 3, cell="gru", pool="mean"),
        transformer([8], 3),
        nn.MultiheadAttention(4, 2),
        nn.Embedding(3, 2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_layers_of_torch_and_models_of_ours(model):
    assert changes_buffers_only(model)


@pytest.mark.parametrize(
    "model",
    [
        Own(),
        nn.Sequential(nn.Linear(2, 3), Own()),
        hooked("register_forward_hook"),
        hooked("register_forward_pre_hook"),
        hooked("register_full_backward_hook"),
        hooked("register_full_backward_pre_hook"),
        hooked_parameter(),
        with_attribute("forward", lambda x: x),
        with_attribute("seen", {}),
        with_attribute("generator", torch.Generator()),
        nn.TransformerEncoderLayer(4, 2, activation=lambda x: functional.relu(x)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3)),
        nn.Embedding(3, 2, max_norm=1.0),
        nn.LazyLinear(3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_may_keep_more(model):
    assert not changes_buffers_only(model)


def test_a_hook_of_all_modules_may_do_anything():
    handle = nn.modules.module.register_module_forward_hook(lambda *values: None)
    try:
        assert not changes_buffers_only(nn.Linear(2, 3))
    finally:
        handle.remove()


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: own.clone() for name, own in model.state_dict().items()}


def test_a_known_model_is_tried_itself_and_restored():
    model = mlp([2], 3, hidden=[4], norm="batch", dropout=0.5)
    next(model.children()).eval()
    before, modes = state(model), [module.training for module in model.modules()]
    buffers, drawn = dict(model.named_buffers()), torch.get_rng_state()
    with trial_copy(model) as own:
        assert own is model
        own.train()
        own(torch.randn(5, 2))
        own.eval()
        assert not torch.equal(model.norm0.running_mean, before["norm0.running_mean"])
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert all(own is buffers[name] for name, own in model.named_buffers())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    "model", [mlp([6], 3, hidden=[5, 5], norm="batch"), resnet([1, 8, 8], 3, depth=8, width=4)]
)
def test_a_known_model_is_examined_as_its_copy_would_be(model, monkeypatch):
    x, y = torch.randn(16, *([6] if hasattr(model, "linear0") else [1, 8, 8])), torch.arange(16) % 3
    for own in model.parameters():
        own.grad = torch.ones_like(own)
    before = state(model)
    with monkeypatch.context() as patch:
        patch.setattr(copy, "deepcopy", lambda *values: pytest.fail("copied"))
        found = examine(model, functional.cross_entropy, x, y)
    for module in (measure, passes):
        monkeypatch.setattr(module, "changes_buffers_only", lambda model: False)
    assert repr(found) == repr(examine(model, functional.cross_entropy, x, y)) and found.layers
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert all(torch.equal(own.grad, torch.ones_like(own)) for own in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
