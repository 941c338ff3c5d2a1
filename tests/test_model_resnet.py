import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from sweepwise.init import initialize_
from sweepwise.model.resnet import resnet


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def closed_form(depth: int, width: int = 16, channels: int = 3, outputs: int = 10) -> int:
    """Convolutions 3 x 3 without bias, two numbers per norm channel, the linear layer."""
    blocks = (depth - 2) // 6
    total, before = 9 * channels * width + 2 * width, width
    for stage in range(3):
        after = width * 2**stage
        total += 9 * after * (before + after * (2 * blocks - 1)) + 2 * after * 2 * blocks
        before = after
    return total + (before + 1) * outputs


# Table 6 of arXiv:1512.03385, in millions, for CIFAR-10.
@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_number_of_parameters_is_the_published_one(depth, millions):
    count = parameters(resnet((3, 32, 32), 10, depth=depth))
    assert count == closed_form(depth)
    assert round(count / 1e6, 1 if millions > 1 else 2) == millions


def test_projections_add_their_kernels_and_norms():
    pad, projection = (resnet((3, 32, 32), 10, depth=20, shortcut=kind) for kind in ("pad", "projection"))
    assert (parameters(pad), parameters(projection)) == (269_722, 272_474)
    assert parameters(projection) - parameters(pad) == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize("features", [(8, 8), (1, 8, 8), (1, 28, 28), (3, 7, 5), (1, 1, 1)])
@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_images_of_any_size(features, shortcut):
    model = resnet(features, 4, depth=8, width=4, shortcut=shortcut)
    assert model(torch.randn(3, *features)).shape == (3, 4)


def test_the_depth_counts_the_layers_with_weights():
    for depth in (8, 14, 20):
        model = resnet((1, 8, 8), 10, depth=depth)
        assert sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in model.modules()) == depth


def test_each_stage_halves_the_places_and_doubles_the_channels():
    model = resnet((3, 28, 28), 10, depth=8, width=5)
    shapes = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, i, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    model(torch.randn(2, 3, 28, 28))
    assert shapes["stage0_block0"] == (5, 28, 28)
    assert shapes["stage1_block0"] == (10, 14, 14)
    assert shapes["stage2_block0"] == (20, 7, 7)
    assert shapes["head"] == (20, 1, 1)


@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_a_block_is_activation_of_branch_plus_shortcut(shortcut):
    block = resnet((1, 8, 8), 3, depth=8, width=4, shortcut=shortcut).double().eval().stage1_block0
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)

    def normed(h, norm):
        return functional.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    branch = block.branch
    h = normed(functional.conv2d(x, branch.conv0.weight, stride=2, padding=1), branch.norm0).relu()
    h = normed(functional.conv2d(h, branch.conv1.weight, padding=1), branch.norm1)
    if shortcut == "pad":
        h[:, :4] += x[:, :, ::2, ::2]
    else:
        h += normed(functional.conv2d(x, block.shortcut.conv.weight, stride=2), block.shortcut.norm)
    torch.testing.assert_close(block(x), h.relu(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scheme", [nn.init.kaiming_normal_, nn.init.xavier_uniform_])
def test_with_zero_start_every_block_starts_as_its_shortcut(scheme):
    model = resnet((1, 8, 8), 3, depth=14, width=4, zero_start=True)
    initialize_(model, scheme, seed=0)
    x = torch.randn(4, 4, 8, 8)
    for mode in (True, False):
        block = model.train(mode).stage0_block1
        assert torch.equal(block(x), x.relu())
    usual = resnet((1, 8, 8), 3, depth=14, width=4)
    initialize_(usual, scheme, seed=0)
    assert not torch.equal(usual.stage0_block1(x), x.relu())


def test_a_zero_start_learns_as_a_norm_of_gain_zero_does():
    start = resnet((1, 8, 8), 3, depth=8, width=4, zero_start=True).double()
    usual = copy.deepcopy(resnet((1, 8, 8), 3, depth=8, width=4)).double()
    usual.load_state_dict(start.state_dict())
    for name, parameter in usual.named_parameters():
        if name.endswith("norm1.weight"):
            nn.init.zeros_(parameter)
    x, y = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8) % 3
    for model in (start, usual):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            sgd.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            sgd.step()
        model.eval()
    torch.testing.assert_close(start(x), usual(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("depth", "advice"), [(9, "8 or 14"), (18, "14 or 20"), (50, "50"), (19, "14 or 20")]
)
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth, advice):
    if depth % 6 == 2:
        assert resnet((1, 8, 8), 3, depth=depth, width=1)
        return
    with pytest.raises(ValueError, match=rf"model.depth={depth}: must be 6n \+ 2, such as {advice}$"):
        resnet((1, 8, 8), 3, depth=depth)


@pytest.mark.parametrize("features", [(13,), (1, 1, 8, 8)])
def test_what_is_no_image_is_refused(features):
    with pytest.raises(ValueError, match=r"model=resnet: needs images .*use data=digits data.image=true"):
        resnet(features, 3, depth=8)
