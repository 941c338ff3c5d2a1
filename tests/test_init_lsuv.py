import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sweepwise.init import initialize_
from sweepwise.init.lsuv import LSUV

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1
VECTORS = torch.randn(256, 20, generator=torch.Generator().manual_seed(0)) * 5
LAYERS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def chain(activation: type[nn.Module], depth: int = 6) -> nn.Sequential:
    layers = [nn.Linear(20, 64), activation()]
    for _ in range(depth):
        layers += [nn.Linear(64, 64), activation()]
    return nn.Sequential(*layers, nn.Linear(64, 5))


def convolutions(norm: bool = True, dropout: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out, groups in ((3, 16, 1), (16, 16, 4), (16, 32, 1)):
        layers.append(nn.Conv2d(n_in, n_out, 3, padding=1, groups=groups))
        layers += [nn.BatchNorm2d(n_out)] if norm else []
        layers += [nn.ReLU(), nn.Dropout(dropout)]
    up = nn.ConvTranspose2d(32, 8, 2)
    return nn.Sequential(*layers, up, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))


NETWORKS = {
    "relu": (lambda: chain(nn.ReLU), VECTORS),
    "tanh": (lambda: chain(nn.Tanh), VECTORS),
    "sigmoid": (lambda: chain(nn.Sigmoid), VECTORS),
    "convolutions with batch norm": (convolutions, IMAGES),
    "convolutions": (lambda: convolutions(norm=False), IMAGES),
    "residual": (
        lambda: nn.Sequential(nn.Linear(20, 32), *(Residual(32) for _ in range(5)), nn.Linear(32, 3)),
        VECTORS,
    ),
    "linear": (lambda: nn.Linear(20, 3), VECTORS),
}


def spreads(model: nn.Module, x: Tensor) -> dict[str, float]:
    """The standard deviation of the output of each layer, in training mode."""
    found: dict[str, float] = {}

    def listen(name: str, output: Tensor) -> None:
        found.setdefault(name, output.float().std(correction=0).item())

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: listen(name, output))
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def state(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("output_scale", [0.1, 1.0])
def test_every_layer_has_unit_output_and_the_last_its_scale(name, output_scale):
    build, x = NETWORKS[name]
    model = build()
    record = initialize_(model, LSUV, x, seed=0, output_scale=output_scale)
    *hidden, output = spreads(model, x).values()
    assert hidden == pytest.approx([1.0] * len(hidden), rel=0.01)
    assert output == pytest.approx(output_scale, rel=0.01)
    scaled = [how for how in record.values() if "output std" in how]
    assert len(scaled) == len(hidden) + 1
    assert "(output layer)" in scaled[-1] or output_scale == 1


def test_without_it_they_have_not():
    model = convolutions(norm=False)
    initialize_(model, nn.init.orthogonal_, seed=0, output_scale=1)
    assert abs(math.log(list(spreads(model, IMAGES).values())[2])) > 0.2


@pytest.mark.parametrize("name", ["relu", "convolutions with batch norm"])
def test_each_weight_stays_a_multiple_of_an_orthogonal_one_and_the_record_says_which(name):
    build, x = NETWORKS[name]
    model, plain = build(), build()
    record = initialize_(model, LSUV, x, seed=3)
    initialize_(plain, nn.init.orthogonal_, seed=3, output_scale=1)
    for (key, weight), (_, other) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        if "orthogonal_" in record[key]:
            factor = float(record[key].split()[2].rstrip(","))
            torch.testing.assert_close(weight, other * factor, rtol=1e-3, atol=1e-6)
        else:
            assert torch.equal(weight, other) and record[key] in ("zeros", "ones")


def test_same_seed_same_bits_whatever_the_global_state():
    first, second, other = convolutions(dropout=0.5), convolutions(dropout=0.5), convolutions(dropout=0.5)
    initialize_(first, LSUV, IMAGES, seed=0)
    torch.manual_seed(99)
    initialize_(second, LSUV, IMAGES, seed=0)
    initialize_(other, LSUV, IMAGES, seed=1)
    assert same(state(first), state(second)) and not same(state(first), state(other))


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_is_disturbed(training):
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * torch.randn_like(x)

    model = nn.Sequential(Noisy(), convolutions(dropout=0.5)).train(training)
    model[1][1].eval()  # a frozen norm stays frozen
    modes = [module.training for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    before = torch.get_rng_state()
    first = initialize_(model, LSUV, IMAGES, seed=0)
    weight = model[1][0].weight.clone()
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert buffers and all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    torch.manual_seed(5)
    assert initialize_(model, LSUV, IMAGES, seed=0) == first and torch.equal(model[1][0].weight, weight)


def test_a_layer_that_adds_something_takes_more_than_one_pass():
    class Shifted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0.5 * x

    model = nn.Sequential(Shifted(20, 20), nn.Tanh(), nn.Linear(20, 3))
    x = VECTORS / 5
    initialize_(model, LSUV, x, seed=0)
    assert next(iter(spreads(model, x).values())) == pytest.approx(1, rel=0.01)
    with pytest.raises(ValueError, match=r"after 1 passes the output of 0 .*max_passes"):
        initialize_(model, partial(LSUV, max_passes=1), x, seed=0)
    initialize_(chain(nn.ReLU), partial(LSUV, max_passes=1), VECTORS, seed=0)


def test_a_layer_used_twice_is_scaled_by_its_first_use():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(20, 20), nn.Linear(20, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.layer(torch.relu(self.layer(x)))))

    model = Twice()
    initialize_(model, LSUV, VECTORS, seed=0, output_scale=1)
    assert list(spreads(model, VECTORS).values()) == pytest.approx([1, 1], rel=0.01)


def test_what_is_tied_not_called_or_no_linear_layer_stays_orthogonal_and_the_record_says_so():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(20, 2, batch_first=True)
            self.a, self.b, self.unused = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 20)
            self.b.weight = self.a.weight
            self.head = nn.Linear(20, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x[:, None]
            return self.head(self.b(self.a(self.attention(x, x, x)[0])))[:, 0]

    model = Mixed()
    record = initialize_(model, LSUV, VECTORS, seed=0)
    kept = [name for name, how in record.items() if how.startswith("orthogonal_") and "std" not in how]
    assert kept == ["attention.in_proj_weight", "attention.out_proj.weight", "a.weight", "unused.weight"]
    for name in ("a", "unused"):
        weight = model.get_submodule(name).weight.detach()
        torch.testing.assert_close(weight @ weight.T, torch.eye(20), atol=1e-5, rtol=0)
    assert record["head.weight"].endswith("output std 0.1 (output layer)")


def test_an_output_scale_of_zero_is_zero():
    model = chain(nn.ReLU)
    record = initialize_(model, LSUV, VECTORS, seed=0, output_scale=0.0)
    assert not model[-1].weight.any() and record["14.weight"] == "orthogonal_ x 0 (output layer)"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    model = chain(nn.ReLU, depth=2).to(dtype)
    initialize_(model, partial(LSUV, tol=0.03), VECTORS, seed=0, output_scale=1)
    assert list(spreads(model, VECTORS.to(dtype)).values()) == pytest.approx([1] * 4, rel=0.03)


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (torch.empty(0), "needs examples"),
        (torch.zeros(8, 20), r"output of 0 is the same for all 8 .*choose another seed\.init"),
        (VECTORS * torch.nan, "output of 0 is not finite"),
    ],
)
def test_what_cannot_be_scaled_is_refused(x, rule):
    model = chain(nn.ReLU)
    with pytest.raises(ValueError, match=rf"^init lsuv: .*{rule}"):
        initialize_(model, LSUV, x, seed=0)
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_a_dead_layer_is_named():
    class Dead(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    model = nn.Sequential(nn.Linear(20, 4), Dead(), nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="the output of 2 is the same for all 256"):
        initialize_(model, LSUV, VECTORS, seed=0)
