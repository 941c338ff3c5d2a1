"""Clipping against torch.nn.utils, and what is logged of it."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from small import CONF
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from sweepwise.cli import composed
from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.clip_value import ClipValue
from sweepwise.regularizer.l2 import L2
from sweepwise.task import Classification

SGD, ADAM = partial(torch.optim.SGD, lr=1.0, momentum=0.9), partial(torch.optim.Adam, lr=1.0)
CLIPPING = {
    "clip_norm": (ClipNorm(max_norm=0.5), partial(clip_grad_norm_, max_norm=0.5)),
    "clip_value": (ClipValue(limit=0.05), partial(clip_grad_value_, clip_value=0.05)),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(3, (16,), generator=generator)


def gradient_norm(model: nn.Module) -> float:
    return math.hypot(*(p.grad.norm().item() for p in model.parameters()))


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", CLIPPING)
def test_twenty_steps_equal_plain_torch_with_its_own_clipping(name, optimizer):
    regularizer, clip_ = CLIPPING[name]
    model, plain = network(), network()
    learner = ModuleLearner(model, Classification(3), partial(FlatOptimizer, optimizer), [regularizer], 0)
    reference = optimizer(plain.parameters())
    reference.param_groups[0]["lr"] = 0.05
    clipped = 0
    for step in range(20):
        x, y = batch(step)
        learner.step(x, y, np.array([0.05]), step, Watch.SCALARS)
        reference.zero_grad()
        functional.cross_entropy(plain(x), y).backward()
        before = gradient_norm(plain)
        clip_(plain.parameters())
        after = gradient_norm(plain)
        reference.step()
        clipped += after < before
        assert learner.watched(0).gradient_norm == pytest.approx(before, rel=1e-9)
        assert learner.watched(0).clipping == {"clipped_norm": pytest.approx(after, rel=1e-9)}
    assert clipped >= 5
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_penalties_are_part_of_what_is_clipped():
    model, plain = network(), network()
    build = partial(FlatOptimizer, partial(torch.optim.SGD, lr=1.0))
    regularizers = [ClipNorm(max_norm=0.5), L2(coefficient=10.0)]  # whatever the order
    learner = ModuleLearner(model, Classification(3), build, regularizers, 0)
    x, y = batch(0)
    learner.step(x, y, np.array([0.1]), 0, Watch.NOTHING)
    penalty = 10 * sum(p.square().sum() for p in plain.parameters() if p.ndim == 2)
    (functional.cross_entropy(plain(x), y) + penalty).backward()
    clip_grad_norm_(plain.parameters(), 0.5)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach() - 0.1 * theirs.grad)


def test_each_run_is_clipped_by_its_own_norm():
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [30.0, -40.0]], dtype=torch.float64)
    clipped = rows.clone()
    ClipNorm(max_norm=1.0).clip_(clipped)
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0, 0], [0.6, -0.8]], dtype=torch.float64)
    torch.testing.assert_close(clipped, expected, rtol=1e-6, atol=0)
    assert torch.equal(clipped[1:3], rows[1:3])  # to the bit where the norm is below
    ClipValue(limit=0.35).clip_(rows)
    expected = torch.tensor([[0.35, 0.35], [0.3, 0.35], [0, 0], [0.35, -0.35]], dtype=torch.float64)
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stays_so(bad):
    row = torch.tensor([[1.0, bad]])
    ClipNorm().clip_(row)
    assert not row.isfinite().all()


@pytest.mark.parametrize("name", CLIPPING)
def test_a_run_logs_the_norm_before_and_after(name, tmp_path):
    from sweepwise import run

    value = {"clip_norm": "max_norm=0.5", "clip_value": "limit=0.05"}[name]
    given = ["data=wine", "model.hidden=[16]", "early_stop=none", "monitor=everything", "progress=false"]
    given += ["trainer.device=cpu", "trainer.max_steps=3", f"output_dir={tmp_path}"]
    asked = composed([*given, f"regularizer={name}", f"regularizer.{name}.{value}"], CONF)
    assert run.train(asked).exit_code == 0
    steps = [json.loads(line) for line in (asked.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in steps if "gradients/norm" in line]
    assert len(steps) == 3
    assert all(line["gradients/clipped_norm"] < line["gradients/norm"] for line in steps)
    if name == "clip_norm":
        assert all(line["gradients/clipped_norm"] == pytest.approx(0.5, rel=1e-5) for line in steps)
