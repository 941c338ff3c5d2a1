"""A run whose gradient or optimizer state overflows ends as diverged, although its parameters stay finite."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sweepwise import Arrays, Settings, build, fit, split
from sweepwise.data import Data
from sweepwise.init import initialize_
from sweepwise.optimizer import FlatOptimizer
from sweepwise.optimizer.muon import Muon, orthogonalised
from sweepwise.regularizer import row_norms
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.clip_value import ClipValue
from sweepwise.regularizer.max_norm import MaxNorm

HUGE = 1e20  # its square overflows in float32


def two_classes() -> Data:
    x = np.random.default_rng(0).normal(size=(60, 5))
    return split(Arrays("normal", x, (x[:, 0] > 0).astype(np.int64), classes=2), batch_size=12)


def network(features: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(*features, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, outputs)
    )


def ended(optimizer, *regularizers, std):
    init = partial(initialize_, scheme=partial(nn.init.normal_, std=std), output_scale=1)
    parts = build(
        data=two_classes(),
        model=network,
        init=init,
        optimizer=optimizer,
        regularizers=regularizers,
        settings=Settings(max_epochs=3, device="cpu"),
    )
    return fit(parts).status


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=1e-3),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
    "nadam": partial(torch.optim.NAdam, lr=1e-3),
    "radam": partial(torch.optim.RAdam, lr=1e-3),
    "rmsprop": partial(torch.optim.RMSprop, lr=1e-3),
    "adagrad": partial(torch.optim.Adagrad, lr=1e-3),
    "adadelta": partial(torch.optim.Adadelta, lr=1e-3),
    "muon": partial(Muon, lr=1e-3),
}


@pytest.mark.parametrize("rule", [None, ClipNorm, ClipValue])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_overflowing_gradient_ends_the_run_as_diverged_whatever_would_hide_it(optimizer, rule):
    rules = [rule()] if rule else []
    assert ended(OPTIMIZERS[optimizer], *rules, std=1e12) == "diverged"
    assert ended(OPTIMIZERS[optimizer], *rules, std=0.5) == "finished"


@pytest.mark.parametrize("rule", [ClipNorm(max_norm=1.0), ClipValue(limit=1.0)])
def test_clipping_keeps_an_overflow_visible_where_torch_would_refuse_it(rule):
    gradient = torch.tensor([[HUGE, 1.0], [3.0, -4.0], [torch.inf, 0.0], [torch.nan, 0.0]])
    for row in gradient:
        reference = nn.Parameter(torch.zeros(2))
        reference.grad = row.clone()
        try:
            nn.utils.clip_grad_norm_([reference], 1.0, error_if_nonfinite=True)
            finite = True
        except RuntimeError:
            finite = False
        clipped = row[None].clone()
        rule.clip_(clipped)
        assert clipped.isfinite().all() == finite
    assert row_norms(gradient)[0] == torch.inf


def test_max_norm_does_not_set_weights_to_zero_whose_norm_overflows():
    rule, weights = MaxNorm(limit=5.0), torch.tensor([[HUGE, 1.0, 6.0, 8.0]])
    rule.shapes = [torch.Size([2, 2])]
    rule.after_step_(weights, rate=0.1)
    assert weights[0, :2].isnan().all() and weights[0, 2:].tolist() == [3.0, 4.0]


def test_muon_does_not_stand_still_where_the_norm_of_its_matrix_overflows():
    assert orthogonalised(torch.full((2, 2), HUGE), 5).isnan().all()
    assert orthogonalised(torch.zeros(2, 2), 5).eq(0).all()


def test_an_optimizer_state_that_has_overflowed_is_seen_after_the_gradient_is_finite_again():
    values, gradient = torch.ones(2), torch.tensor([1e25, 1.0])
    shapes = [torch.Size([2])]
    adam = partial(torch.optim.Adam, lr=0.1)
    optimizer = FlatOptimizer(adam, values=values, gradient=gradient, weights=2, shapes=shapes)
    assert optimizer.largest().tolist() == [0.0]
    optimizer.step_(0.1)
    gradient.fill_(1.0)
    for _ in range(3):
        optimizer.step_(0.1)
    assert values[0] == 1.0 and values[1] < 1.0  # torch's Adam divides by infinity for ever
    assert not optimizer.largest().isfinite()


def test_a_state_of_whole_numbers_cannot_overflow():
    values, gradient = torch.ones(2), torch.ones(2)
    sgd = partial(torch.optim.SGD, lr=0.1)
    optimizer = FlatOptimizer(sgd, values=values, gradient=gradient, weights=2, shapes=[torch.Size([2])])
    (tensor,) = optimizer.optimizer.param_groups[0]["params"]
    optimizer.optimizer.state[tensor] = {
        "quantized": torch.ones(2, dtype=torch.uint8),
        "scale": torch.ones(2),
    }
    assert optimizer.largest().tolist() == [1.0]
