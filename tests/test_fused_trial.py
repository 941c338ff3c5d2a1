"""What is compared of a group before it trains, and how much work that is."""

import math

import pytest
import torch
from small_learners import CLASSES, learners
from torch import nn

from sweepwise.learner.fused import FusedLearner, trial
from sweepwise.learner.fused.purity import Unfusable

NAN, INF = math.nan, math.inf


def known() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


class Own(nn.Module):
    """A layer that is neither torch's nor ours."""

    def forward(self, x):
        return x * 2


class Worse(nn.Linear):
    """A layer that adds a little to its outputs in training if its weights are those of the last run."""

    marked = 0.0

    def forward(self, x):
        return super().forward(x) + self.marked


@pytest.mark.parametrize(("make", "each"), [(known, 0), (lambda: nn.Sequential(*known(), Own()), 1)])
def test_the_code_of_known_layers_is_looked_at_in_one_run(make, each, monkeypatch):
    looked_at = []
    plain = trial.checked_outputs
    monkeypatch.setattr(trial, "checked_outputs", lambda *values: looked_at.append(1) or plain(*values))
    counts = []
    for runs in (2, 6):
        looked_at.clear()
        FusedLearner(learners(make, runs), torch.randn(16, 4))
        counts.append(len(looked_at))
    assert counts[1] - counts[0] == each * 4 * counts[0] / 2 and counts[0] > 0


def test_the_comparison_grows_with_the_runs_and_not_with_their_square(monkeypatch):
    asked = []
    plain = nn.Module.get_buffer
    monkeypatch.setattr(nn.Module, "get_buffer", lambda *values: asked.append(1) or plain(*values))
    counts = []
    for runs in (4, 8, 16):
        asked.clear()
        FusedLearner(learners(known, runs), torch.randn(16, 4))
        counts.append(len(asked))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]) > 0


@pytest.mark.parametrize("different", [0, 1, 16, 17])  # in the first piece that is compared, and the second
def test_a_run_that_computes_something_else_is_found_wherever_it_stands(different, monkeypatch):
    own = learners(lambda: nn.Sequential(Worse(4, CLASSES)), 18)
    FusedLearner(learners(lambda: nn.Sequential(Worse(4, CLASSES)), 18), torch.randn(16, 4))
    own[different].model[0].marked = 0.1
    with pytest.raises(Unfusable, match=r"gives other outputs than the model alone"):
        FusedLearner(own, torch.randn(16, 4))


NUMBERS = [0.0, 1.0, -1.0, 1 + 1e-5, 1 + 1e-3, 1e30, -1e-30, NAN, INF, -INF]


@pytest.mark.parametrize("least", [0.0, 1.0, 1e4, INF])
def test_runs_are_near_if_each_is(least):
    pairs = [([one, 0.5], [other, 0.5]) for one in NUMBERS for other in NUMBERS]
    outputs, alone = (torch.tensor(values) for values in zip(*pairs, strict=True))
    each = [trial._near(one, other, 2e-4, least) for one, other in zip(outputs, alone, strict=True)]
    for k, near in enumerate(each):
        assert trial._near_each(outputs[k : k + 1], alone[k : k + 1], torch.tensor([least])) is near, pairs[k]
    of_finite = [k for k, near in enumerate(each) if near]
    assert trial._near_each(outputs[of_finite], alone[of_finite], torch.full((len(of_finite),), least))
    assert not all(each) and any(each)


def test_outputs_of_another_shape_are_not_near():
    outputs = torch.zeros(2, 3, 1)
    assert not trial._near_each(outputs, [torch.zeros(3, 1), torch.zeros(3)])
    assert trial._near_each(outputs[:, :0], [torch.zeros(0, 1)] * 2)
