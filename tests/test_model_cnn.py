import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from sweepwise.model.cnn import cnn

PUBLISHED = {"dimensions": 1, "channels": [25, 25, 25], "kernels": [5, 3, 3], "stride": 2, "hidden": []}
IMAGE = {"dimensions": 2, "channels": [4, 6], "kernels": [3, 3], "pool": "max", "hidden": [9]}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class MnistOneD(nn.Module):
    """The convolutional network of arXiv 2011.14439 (class ConvBase of its code), for 40 points."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 25, 5, stride=2, padding=1)
        self.conv2 = nn.Conv1d(25, 25, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(25, 25, 3, stride=2, padding=1)
        self.linear = nn.Linear(125, 10)

    def forward(self, x):
        h = self.conv1(x.view(-1, 1, x.shape[-1])).relu()
        h = self.conv3(self.conv2(h).relu()).relu()
        return self.linear(h.view(len(h), -1))


def test_the_published_network_of_mnist1d():
    ours, published = cnn((40,), 10, **PUBLISHED), MnistOneD()
    assert parameters(ours) == parameters(published) == 5210
    published.load_state_dict(dict(zip(published.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(6, 40)
    assert torch.equal(ours(x), published(x))


@pytest.mark.parametrize(("features", "channels"), [((30,), 1), ((1, 30), 1), ((3, 30), 3)])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("bias", [True, False])
def test_number_of_parameters_of_a_signal(features, channels, norm, bias):
    options = {"dimensions": 1, "channels": [4, 6], "kernels": [5, 3], "stride": 2, "padding": 0}
    model = cnn(features, 7, **options, hidden=[8], norm=norm, bias=bias)
    length = ((30 - 5) // 2 + 1 - 3) // 2 + 1
    expected = channels * 4 * 5 + 4 * 6 * 3 + bias * (4 + 6) + (norm != "none") * 2 * (4 + 6)
    assert parameters(model) == expected + (6 * length + 1) * 8 + (8 + 1) * 7
    assert model(torch.randn(5, *features)).shape == (5, 7)


@pytest.mark.parametrize(("features", "channels"), [((12, 9), 1), ((1, 12, 9), 1), ((3, 12, 9), 3)])
@pytest.mark.parametrize(("head", "places"), [("flatten", 3 * 2), ("max", 1), ("mean", 1)])
def test_number_of_parameters_of_an_image(features, channels, head, places):
    model = cnn(features, 5, **IMAGE, head=head)
    expected = channels * 4 * 9 + 4 + 4 * 6 * 9 + 6 + (6 * places + 1) * 9 + (9 + 1) * 5
    assert parameters(model) == expected
    assert model(torch.randn(4, *features)).shape == (4, 5)


def test_layers_stand_in_their_order():
    model = cnn((8, 8), 3, **IMAGE, norm="batch", head="mean", activation="tanh")
    assert [name for name, _ in model.named_children()] == [
        "channel",
        *(f"{layer}{number}" for number in (0, 1) for layer in ("conv", "norm", "tanh", "pool", "dropout")),
        *("head", "flatten", "linear2", "tanh2", "dropout2", "output"),
    ]
    kinds = [type(module).__name__ for module in model.children()]
    assert kinds[1:6] == ["Conv2d", "BatchNorm2d", "Tanh", "MaxPool2d", "Dropout"]


def test_an_image_by_hand():
    model = cnn((2, 6, 6), 3, dimensions=2, channels=[2], kernels=[3], pool="mean", hidden=[]).double()
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    weight, bias = (p.detach().numpy() for p in model.conv0.parameters())
    maps = [correlate(padded, kernel, "valid")[0] + b for kernel, b in zip(weight, bias, strict=True)]
    pooled = np.maximum(maps, 0).reshape(2, 3, 2, 3, 2).mean((2, 4))
    expected = model.output.weight.detach().numpy() @ pooled.ravel() + model.output.bias.detach().numpy()
    np.testing.assert_allclose(model(x)[0].detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("head", ["max", "mean"])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_with_a_head_over_all_places_a_shift_changes_nothing(head, dimensions):
    features = (24,) * dimensions
    options = {"dimensions": dimensions, "channels": [3, 4], "kernels": [3, 5], "padding": 0, "hidden": []}
    model = cnn(features, 3, **options, head=head).double()
    x = torch.zeros(2, *features, dtype=torch.float64)
    middle = (slice(None), *[slice(9, 14)] * dimensions)
    x[middle] = torch.randn(2, *(5,) * dimensions, dtype=torch.float64)
    for shift in (-2, 1, 3):
        moved = x.roll((shift,) * dimensions, tuple(range(1, dimensions + 1)))
        torch.testing.assert_close(model(moved), model(x), rtol=1e-12, atol=1e-14)
    flat = cnn(features, 3, **options).double()
    assert not torch.isclose(flat(x.roll(3, 1)), flat(x)).all()


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ((3, 8, 8), PUBLISHED, r"model=cnn1d: needs signals .*the data has \(3, 8, 8\); .*model=cnn2d"),
        (
            (13,),
            IMAGE,
            r"model=cnn2d: needs images .*\(13,\); use data=digits data.image=true, or model=cnn1d or mlp",
        ),
        ((1, 2, 8, 8), IMAGE, r"model=cnn2d: needs images"),
        ((2,), PUBLISHED, r"convolution 0 with kernel 5, stride 2, padding 1 and pool none .* of size 2;"),
        (
            (1, 3, 8),
            IMAGE,
            r"convolution 1 with kernel 3, stride 1, padding 1 and pool max .* of size 1 x 4;",
        ),
        ((40,), PUBLISHED | {"kernels": [5, 3]}, r"model.kernels=\[5, 3\]: must be one kernel for each"),
        ((40,), PUBLISHED | {"kernels": [], "channels": []}, r"at least one"),
    ],
)
def test_what_does_not_fit_is_refused(features, options, message):
    with pytest.raises(ValueError, match=message):
        cnn(features, 3, **options)


@pytest.mark.parametrize("length", [3, 4, 7])
def test_the_least_length_is_what_torch_takes(length):
    options = {"dimensions": 1, "channels": [2, 2], "kernels": [3, 2], "padding": 0, "hidden": []}
    wanted = math.floor(length - 3 + 1) - 2 + 1
    if wanted >= 1:
        assert cnn((length,), 2, **options)(torch.randn(1, length)).shape == (1, 2)
    else:
        with pytest.raises(ValueError, match="leaves nothing of an input of size 1;"):
            cnn((length,), 2, **options)
