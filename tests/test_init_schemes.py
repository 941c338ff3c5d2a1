"""Schemes that fill one tensor: truncated normal, sparse, identity, delta-orthogonal, and torch's uniform."""

import math
from functools import partial

import pytest
import torch
from scipy.stats import kstest, truncnorm
from torch import nn

from sweepwise.init import initialize_
from sweepwise.init.delta_orthogonal import delta_orthogonal_
from sweepwise.init.identity import identity_
from sweepwise.init.sparse import sparse_
from sweepwise.init.truncated_normal import truncated_normal_


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(scheme, *shape: int, seed: int = 0, **options) -> torch.Tensor:
    return scheme(torch.full(shape, torch.nan), generator=generator(seed), **options)


# --- truncated normal


@pytest.mark.parametrize("cut", [0.1, 1.0, 2.0, 3.0])
def test_truncated_normal_has_its_distribution(cut):
    values = filled(truncated_normal_, 200, 200, std=0.02, cut=cut).flatten()
    assert values.abs().max() <= 0.02 * cut * (1 + 1e-6)
    theory = truncnorm(-cut, cut, scale=0.02)
    assert kstest(values.numpy(), theory.cdf).pvalue > 1e-3
    # var(x^2) = E[x^4] - E[x^2]^2
    error = math.sqrt((theory.moment(4) - theory.var() ** 2) / len(values))
    assert values.square().mean().item() == pytest.approx(theory.var(), abs=4 * error)


def test_torchs_own_bounds_cut_nothing_where_ours_do():
    theirs = nn.init.trunc_normal_(torch.empty(300, 300), std=0.02, generator=generator())
    assert theirs.abs().max() > 0.06  # 3 standard deviations: its bounds are -2 and 2
    assert filled(truncated_normal_, 300, 300, std=0.02).abs().max() <= 0.04


def test_truncated_normal_of_std_zero_and_far_bounds():
    assert not filled(truncated_normal_, 3, 3, std=0.0).any()
    wide = filled(truncated_normal_, 200, 200, std=1.0, cut=1e6)
    assert wide.std().item() == pytest.approx(1, abs=4 / math.sqrt(2 * wide.numel()))


# --- sparse


@pytest.mark.parametrize("shape", [(40, 60), (40, 7, 3), (40, 5, 3, 3), (8, 3, 2, 2, 2)])
@pytest.mark.parametrize("connections", [1, 15, 20])
def test_each_unit_has_exactly_its_connections(shape, connections):
    weight = filled(sparse_, *shape, connections=connections, std=0.5)
    fan_in = math.prod(shape[1:])
    assert (weight.flatten(1) != 0).sum(1).tolist() == [min(connections, fan_in)] * shape[0]


@pytest.mark.parametrize("connections", [60, 61])
def test_with_as_many_connections_as_inputs_a_layer_is_dense(connections):
    assert (filled(sparse_, 40, 60, connections=connections) != 0).all()


def test_connections_are_normal_and_anywhere():
    weight = filled(sparse_, 4000, 40, connections=10, std=0.25)
    values = weight[weight != 0]
    assert values.square().mean().item() == pytest.approx(0.25**2, rel=4 * math.sqrt(2 / len(values)))
    # each place is taken with probability 1/4
    taken = (weight != 0).float().mean(0)
    assert (taken - 0.25).abs().max() < 4.5 * math.sqrt(0.25 * 0.75 / 4000)


def test_a_sparse_layer_is_as_loud_whatever_its_width():
    for width in (20, 200, 2000):
        x = torch.randn(500, width, generator=generator(1))
        out = x @ filled(sparse_, 300, width, connections=16, std=0.25).T
        assert out.square().mean().item() == pytest.approx(1, rel=0.1)  # 16 / 16


def test_sparse_needs_a_unit_dimension():
    with pytest.raises(ValueError, match="2 or more dimensions"):
        filled(sparse_, 5)


# --- identity


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 5), (2, 5)),
        (nn.Conv1d(4, 4, 3, padding=1), (2, 4, 9)),
        (nn.Conv2d(4, 4, 5, padding=2), (2, 4, 9, 9)),
        (nn.Conv3d(4, 4, 3, padding=1), (2, 4, 5, 5, 5)),
        (nn.Conv2d(6, 6, 3, padding=1, groups=3), (2, 6, 9, 9)),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), (2, 6, 9, 9)),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), (2, 4, 9, 9)),
        (nn.ConvTranspose2d(4, 4, 3, padding=1, groups=2), (2, 4, 9, 9)),
    ],
    ids=str,
)
def test_an_identity_passes_on_what_it_gets(layer, shape, bias):
    initialize_(layer, partial(identity_, gain=0.5), seed=0, output_scale=1)
    x = torch.randn(shape, generator=generator())
    assert torch.equal(layer(x), 0.5 * x)


def test_an_identity_between_other_widths_passes_on_what_fits():
    for n_in, n_out in ((5, 3), (3, 5)):
        layer = nn.Linear(n_in, n_out)
        initialize_(layer, identity_, seed=0, output_scale=1)
        expected = torch.zeros(n_out)
        expected[: min(n_in, n_out)] = torch.arange(1.0, 6.0)[: min(n_in, n_out)]
        assert torch.equal(layer(torch.arange(1.0, n_in + 1)), expected)


# --- delta-orthogonal


@pytest.mark.parametrize(
    ("shape", "centre"),
    [((8, 5, 3), (1,)), ((8, 8, 3, 5), (1, 2)), ((8, 2, 4, 4), (2, 2)), ((6, 6, 3, 3, 3), (1, 1, 1))],
)
def test_delta_orthogonal_is_orthogonal_at_the_centre_and_zero_elsewhere(shape, centre):
    weight = filled(delta_orthogonal_, *shape, gain=2.0)
    matrix = weight[(..., *centre)].clone()
    torch.testing.assert_close(matrix.T @ matrix, 4 * torch.eye(shape[1]), atol=1e-5, rtol=0)
    weight[(..., *centre)] = 0
    assert not weight.any()


def test_delta_orthogonal_of_a_matrix_is_torchs_orthogonal():
    ours = filled(delta_orthogonal_, 4, 7, gain=1.5)
    theirs = nn.init.orthogonal_(torch.empty(4, 7), 1.5, generator=generator())
    assert torch.equal(ours, theirs)


def test_delta_orthogonal_needs_room_in_every_group():
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3))
    rule = r"init delta_orthogonal_ cannot fill 1\.weight \(4, 8, 3, 3\): .* as many output .*not 4 and 8\."
    with pytest.raises(ValueError, match=rule):
        initialize_(model, delta_orthogonal_, seed=0)
    initialize_(nn.Conv2d(8, 8, 3, groups=2), delta_orthogonal_, seed=0)


# --- all of them


@pytest.mark.parametrize("scheme", [truncated_normal_, sparse_, delta_orthogonal_])
def test_same_seed_same_bits_and_another_seed_others(scheme):
    first, again, other = (filled(scheme, 30, 20, 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_uniform_says_so_when_its_bounds_are_the_wrong_way_round():
    with pytest.raises(ValueError, match=r"init uniform_ cannot fill weight \(2, 3\)"):
        initialize_(nn.Linear(3, 2), partial(nn.init.uniform_, a=1.0, b=-1.0), seed=0)
