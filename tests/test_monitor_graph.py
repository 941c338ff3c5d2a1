"""The graph of a model: what is on it, and that drawing it changes nothing."""

import copy

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from torch import nn
from torch.nn import functional

from sweepwise.model.mlp import mlp
from sweepwise.monitor.events import EventFile
from sweepwise.monitor.graph import graph_definition


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(x + self.act(self.norm(self.conv(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2, 1, 1))
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        x = functional.relu(x + self.shift, inplace=True)
        return self.head(self.blocks(x).mean((2, 3)).T.T)


class Noisy(nn.Module):
    """Draws and counts its calls, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.dropout(self.norm(self.linear(x))) + torch.randn(4)


def nodes(model, x):
    return {node.name: node for node in GraphDef.FromString(graph_definition(model, x)).node}


def edges(model, x):
    return {name: (node.op, list(node.input)) for name, node in nodes(model, x).items()}


def test_layers_are_nodes_in_the_order_of_the_forward_pass():
    model = mlp((1, 4, 4), 3, hidden=[5], norm="batch", dropout=0.1)
    assert list(edges(model, torch.randn(2, 1, 4, 4)).items()) == [
        ("input", ("Input", [])),
        ("flatten", ("Flatten", ["input"])),
        ("linear0", ("Linear", ["flatten"])),
        ("norm0", ("BatchNorm1d", ["linear0"])),
        ("relu0", ("ReLU", ["norm0"])),
        ("dropout0", ("Dropout", ["relu0"])),
        ("output", ("Linear", ["dropout0"])),
    ]


def test_a_node_knows_its_module_parameters_and_shape():
    node = nodes(nn.Sequential(nn.Linear(4, 3, bias=False)), torch.randn(2, 4))["0"]
    assert node.attr["module"].s == b"Linear(in_features=4, out_features=3, bias=False)"
    assert node.attr["parameters"].i == 12
    (shape,) = node.attr["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [-1, 3]  # whatever the batch


def test_functions_between_layers_and_modules_used_twice():
    found = edges(Net(), torch.randn(2, 2, 4, 4))
    assert found == {
        "input": ("Input", []),
        "shift": ("Parameter", []),
        "add": ("add", ["input", "shift"]),
        "relu": ("relu", ["add"]),
        **{
            f"blocks/{i}/{name}": node
            for i, before in enumerate(("relu", "blocks/0/act_1"))
            for name, node in {
                "conv": ("Conv2d", [before]),
                "norm": ("BatchNorm2d", [f"blocks/{i}/conv"]),
                "act": ("ReLU", [f"blocks/{i}/norm"]),
                "add": ("add", [before, f"blocks/{i}/act"]),
                "act_1": ("ReLU", [f"blocks/{i}/add"]),
            }.items()
        },
        "mean": ("mean", ["blocks/1/act_1"]),
        "T": ("T", ["mean"]),
        "T_1": ("T", ["T"]),
        "head": ("Linear", ["T_1"]),
    }


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Linear(3, 2), torch.randn(2, 3)),
        (nn.LSTM(3, 5), torch.randn(4, 2, 3)),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), torch.randn(2, 5, 4)),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), torch.randn(2, 3)),
        (nn.Sequential(), torch.randn(2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_model_is_one_graph_without_loose_ends(model, x):
    found = edges(model, x)
    names = set(found)
    assert all(set(inputs) <= names for _, inputs in found.values())
    seen, *waiting = [set(), "input"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting += [other for other, (_, inputs) in found.items() if name in inputs and other not in seen]
    assert list(found)[-1] in seen  # the input leads to the output


def test_drawing_a_graph_changes_nothing():
    model = nn.Sequential(Noisy(), nn.Linear(4, 2))
    model[0].norm.eval()  # frozen by its owner
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    state = torch.get_rng_state()
    graph_definition(model, torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_model_that_fails_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        graph_definition(model, torch.randn(2, 4))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_tensorboard_reads_the_graph(tmp_path):
    definition = graph_definition(Net(), torch.randn(2, 2, 4, 4))
    with EventFile(tmp_path) as file:
        file.graph(definition)
    assert EventAccumulator(str(tmp_path)).Reload().Graph() == GraphDef.FromString(definition)
