"""Published and closed-form numbers of weight initialisation."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweepwise.init import initialize_
from sweepwise.init.delta_orthogonal import delta_orthogonal_
from sweepwise.init.identity import identity_

KAIMING = partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="relu")
LECUN = partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="linear")
XAVIER = partial(nn.init.xavier_normal_, gain=1.0)


@pytest.fixture(autouse=True)
def _own_global_stream():
    with torch.random.fork_rng(devices=()):
        yield


def chain(depth: int, width: int, activation: type[nn.Module], bias: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=bias), activation()]
    return nn.Sequential(*layers)


# --- the tutorial's own stream: torch's generator from seed 42, drawn from without a break


def test_torchs_own_linear_layer_after_seed_42():
    torch.manual_seed(42)
    layer = nn.Linear(2, 1)
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[0.5406, 0.5869]]), atol=5e-5, rtol=0)
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([-0.1657]), atol=5e-5, rtol=0)
    initialize_(layer, partial(nn.init.normal_, std=1.0), seed=42)
    assert layer.weight[0, 0].item() != pytest.approx(0.5406, abs=5e-5)  # while other options do change it


def test_ten_tanh_layers_of_the_tutorial():
    torch.manual_seed(42)
    nn.Linear(2, 1)
    outputs = []
    for scale in (0.01, 0.1, 1.0):
        layers: list[nn.Module] = []
        for _ in range(10):
            linear = nn.Linear(100, 100, bias=False)
            nn.init.normal_(linear.weight, mean=0, std=scale)
            layers += [linear, nn.Tanh()]
        outputs.append(nn.Sequential(*layers)(torch.randn(1, 100)).std().item())
    assert outputs[0] == pytest.approx(1.4663e-10, rel=1e-3)
    assert outputs[1] == pytest.approx(0.158675, abs=5e-6)
    assert outputs[2] == pytest.approx(0.9538, abs=5e-4)  # chaotic: rounding differs between CPUs


# --- signal through tanh: mean-field theory


def mean_field_rms(scale: float, depth: int = 10, width: int = 100) -> float:
    """Root mean square of the last layer's output, for an input of second moment 1.

    q_1 = width scale^2, q_{l+1} = width scale^2 E[tanh^2(sqrt(q_l) z)], z ~ N(0, 1).

    Source: Poole et al., Exponential expressivity in deep neural networks through transient chaos
    (arXiv:1606.05340), equation 3.
    """
    z = np.linspace(-10, 10, 4001)  # fine enough for tanh(10 z); Gauss-Hermite with 201 nodes is not
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()

    def after_tanh(q: float) -> float:
        return float(weights @ np.tanh(math.sqrt(q) * z) ** 2)

    q = width * scale**2
    for _ in range(depth - 1):
        q = width * scale**2 * after_tanh(q)
    return math.sqrt(after_tanh(q))


@pytest.mark.parametrize(
    ("scale", "theory", "tolerance"),
    [(0.01, 9.90e-11, 0.2 * 9.90e-11), (0.1, 0.2285, 0.02), (1.0, 0.9576, 0.003)],
)
def test_ten_tanh_layers_follow_the_mean_field(scale, theory, tolerance):
    assert mean_field_rms(scale) == pytest.approx(theory, rel=1e-3)
    generator = torch.Generator().manual_seed(0)
    spread = []
    for seed in range(50):
        net = chain(10, 100, nn.Tanh)
        initialize_(net, partial(nn.init.normal_, mean=0.0, std=scale), seed=seed, output_scale=1)
        with torch.no_grad():
            spread.append(net(torch.randn(1, 100, generator=generator)).square().mean().sqrt().item())
    assert np.mean(spread) == pytest.approx(theory, abs=tolerance)


# --- variance: closed forms


def test_kaiming_on_784_256_10():
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    initialize_(net, KAIMING, seed=42, output_scale=1)
    for layer, printed in ((net[0], 0.0504), (net[2], 0.0866)):
        expected = math.sqrt(2 / layer.in_features)  # .0505 and .0884
        error = 4 / math.sqrt(
            2 * layer.weight.numel()
        )  # of a standard deviation from that many normal values
        assert layer.weight.std().item() == pytest.approx(expected, rel=error)
        assert printed == pytest.approx(expected, rel=error)


def test_xavier_on_784_256():
    layer = nn.Linear(784, 256)
    initialize_(layer, XAVIER, seed=0, output_scale=1)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (784 + 256)), rel=0.01)


@pytest.mark.parametrize(("scheme", "per_layer"), [(KAIMING, 1.0), (XAVIER, 0.5)], ids=["kaiming", "xavier"])
def test_second_moment_through_thirty_relu_layers(scheme, per_layer):
    """Kaiming keeps E[x^2], Xavier halves it a layer: log10 of the ratio is 0 and -9.03.

    Given one layer's second moment q, the next has the n terms relu(h)^2 with h ~ N(0, 2 k q), so their mean
    is k q times 1 + e, with E[e] = 0 and Var[e] = (3 (2 k)^2 / 2 - k^2) / (k^2 n) = 5 / n. The natural log of
    the ratio therefore has the mean L (ln k - 5 / 2n) and the variance 5 L / n, to first order in 1 / n.
    """
    depth, width, nets = 30, 512, 10
    generator = torch.Generator().manual_seed(0)
    logs = []
    for seed in range(nets):
        net = chain(depth, width, nn.ReLU)
        initialize_(net, scheme, seed=seed, output_scale=1)
        x = torch.randn(1, width, generator=generator)
        with torch.no_grad():
            logs.append(math.log10(net(x).square().mean() / x.square().mean()))
    expected = depth * (math.log10(per_layer) - 5 / (2 * width) / math.log(10))
    error = math.sqrt(5 * depth / width / nets) / math.log(10)  # .074
    assert np.mean(logs) == pytest.approx(expected, abs=4 * error)
    assert depth * math.log10(per_layer) == pytest.approx({1.0: 0, 0.5: -9.03}[per_layer], abs=0.005)


# --- isometry: Saxe et al., arXiv:1312.6120; Xiao et al., arXiv:1806.05393


def singular_values_of_a_product(scheme, depth: int = 200, width: int = 64) -> Tensor:
    net = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth))).double()
    initialize_(net, scheme, seed=0, output_scale=1)
    with torch.no_grad():
        return torch.linalg.svdvals(net(torch.eye(width, dtype=torch.float64)))


@pytest.mark.parametrize("scheme", [nn.init.orthogonal_, delta_orthogonal_, identity_])
def test_two_hundred_orthogonal_layers_keep_every_length(scheme):
    values = singular_values_of_a_product(scheme)
    torch.testing.assert_close(values, torch.ones_like(values), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", [XAVIER, LECUN], ids=["xavier", "lecun"])
def test_two_hundred_gaussian_layers_keep_no_length(scheme):
    """The logs of the singular values drift apart in proportion to the depth (Saxe et al., section 3.2)."""
    values = singular_values_of_a_product(scheme)
    assert values[0] / values[-1] > 1e12


def lengths_through_convolutions(scheme, depth: int = 50) -> Tensor:
    """By how much fifty circular convolutions stretch noise, and a picture of one colour."""
    net = nn.Sequential(
        *(nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular", bias=False) for _ in range(depth))
    )
    initialize_(net, scheme, seed=0, output_scale=1)
    x = torch.randn(6, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    x[3:] = x[3:, :, :1, :1]
    with torch.no_grad():
        return net(x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)


def test_fifty_delta_orthogonal_convolutions_keep_every_length():
    ratios = lengths_through_convolutions(delta_orthogonal_)
    torch.testing.assert_close(ratios, torch.ones(6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", [nn.init.orthogonal_, LECUN], ids=["flattened", "lecun"])
def test_fifty_other_convolutions_do_not(scheme):
    assert lengths_through_convolutions(scheme).log().abs().max() > math.log(2)


# --- symmetry


def hidden_after_training(scheme, output_scale: float = 1.0) -> Tensor:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    initialize_(net, scheme, seed=0, output_scale=output_scale)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 4, generator=generator), torch.randint(3, (32,), generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net[1](net[0](x)).detach()


@pytest.mark.parametrize(
    "scheme", [nn.init.zeros_, partial(nn.init.constant_, val=0.01)], ids=["zeros", "constant"]
)
def test_equal_weights_leave_all_hidden_units_equal_however_long_they_train(scheme):
    hidden = hidden_after_training(scheme)
    torch.testing.assert_close(hidden, hidden[:, :1].expand_as(hidden), atol=1e-6, rtol=0)


def test_random_weights_break_the_symmetry():
    assert hidden_after_training(KAIMING).std(1).min() > 0.05
