"""Models of one's own: what is trained together is what would be trained alone, or it is refused."""

import copy
import itertools
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from small_learners import CLASSES, RATE, at_once, in_turn, learners
from torch import nn

from sweepwise.learner import Watch
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.module_state import ModuleState
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.learner.fused.ways import StackedProgram
from sweepwise.seed import same_generators_after


class Foreign(nn.Module):
    """A model of a user's, with a forward pass that is not torch's."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(7, 8), nn.Linear(8, CLASSES)
        self.register_buffer("mean", torch.zeros(8))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.calls = 0

    def forward(self, x):
        return self.last(torch.relu(self.first(x)) * self.scale)


class Plain(nn.Module):
    """A pass of its own over known layers, so that these could be those of all runs."""

    mean = torch.zeros(8)

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(7, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Decides(Foreign):
    def forward(self, x):
        h = self.first(x)
        return self.last(h.tanh() if h.mean() > 9 else h.relu())


class Remembers(Foreign):
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + 0.1 * self.calls)


class Box:
    def __init__(self):
        self.count = 0


class Counter(nn.Module):
    count = 0

    def forward(self, x):
        self.count += 1
        return x


def annealer():
    count = 0

    def anneal():
        nonlocal count
        count += 1

    return anneal


MEMORIES = {
    "list": (list, lambda kept: kept.append(1)),
    "dict": (dict, lambda kept: kept.update(last=1)),
    "array": (lambda: np.zeros(2), lambda kept: kept.__setitem__(0, 1)),
    "object": (Box, lambda kept: setattr(kept, "count", 1)),
    "object in a tuple": (lambda: (Box(), 0), lambda kept: setattr(kept[0], "count", 1)),
    "counter": (itertools.count, next),
    "generator": (lambda: random.Random(0), lambda kept: kept.random()),
    "tensor": (lambda: torch.zeros(2), lambda kept: kept.add_(1)),
    "variable of a function": (annealer, lambda kept: kept()),
    "attribute of a function": (lambda: lambda: 0, lambda kept: setattr(kept, "count", 1)),
    "module beside": (lambda: [Counter()], lambda kept: kept[0](0)),
    "large tensor": (lambda: torch.zeros(100_000), lambda kept: kept.add_(1)),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_what_a_pass_changes_outside_of_parameters_and_buffers_is_found(name):
    make, change = MEMORIES[name]

    class Remembers(Foreign):
        def __init__(self):
            super().__init__()
            self.kept, self.scheme, self.rate = make(), lambda: 0, math.nan

        def forward(self, x):
            if self.training:
                change(self.kept)
            return super().forward(x)

    own = learners(Remembers, 2)
    model = own[0].model.eval()
    before = ModuleState(model)
    model(torch.zeros(1, 7))
    assert before.changed(model) == ""
    with pytest.raises(Unfusable, match=r"its forward pass changes Remembers\.kept"):
        FusedLearner(own, torch.randn(64, 7))


def test_a_model_that_holds_an_iterator_that_cannot_be_copied_is_not_fused():
    """Such as a generator, and from Python 3.14 on those of itertools, which cannot be pickled any more."""

    class Remembers(Foreign):
        def __init__(self):
            super().__init__()
            self.kept = (number for number in range(99))

        def forward(self, x):
            return super().forward(x) + 0 * next(self.kept)

    with pytest.raises(Unfusable, match="cannot pickle 'generator' object"):
        FusedLearner(learners(Remembers, 2), torch.randn(64, 7))


class Hook:
    count = 0

    def __call__(self, layer, inputs, output):
        self.count += 1


class Hooked(Foreign):
    def __init__(self):
        super().__init__()
        self.first.register_forward_hook(Hook())


class Late(Foreign):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", None)

    def forward(self, x):
        self.count = torch.zeros(()) if self.count is None else self.count + 1
        return super().forward(x)


class Replaces(Foreign):
    def forward(self, x):
        h = self.first(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.mean(0).detach()
        return self.last(h - self.mean)


class Centres(Foreign):
    def forward(self, x):
        return super().forward(x - x.mean(0) if self.training else x)


class CentresAlways(Foreign):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Adds(Foreign):
    def forward(self, x):
        h = self.first(x)
        if self.training:
            self.mean.mul_(0.9).add_(h.mean(0).detach(), alpha=0.1)
        return self.last((h - self.mean) * self.scale)


class Draws(Foreign):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x) if self.training else x)


class DrawsElsewhere(Foreign):
    """By a generator that torch.func does not know, and here without consequence."""

    def forward(self, x):
        return super().forward(x if random.random() < 2 else x.relu())


class Reads(Plain):
    """By ways that are no operations of torch's."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def forward(self, x):
        return super().forward(x.tanh() if self.read(x.detach()) > 1e6 else x)


class Counts(Plain):
    count = 0

    def forward(self, x):
        type(self).count += 1
        return super().forward(x)


class Normalised(torch.autograd.Function):
    """What comes back is as large as that of the whole batch allows."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / gradient.norm()


class Normalises(Plain):
    def forward(self, x):
        return self.last(Normalised.apply(self.first(x)))


class Listens(Plain):
    def forward(self, x):
        h = self.first(x)
        if h.requires_grad:
            h.register_hook(lambda gradient: gradient / gradient.norm())
        return self.last(h)


class Own(Plain):
    """A tensor of its own that is no buffer, behind weights of zeros."""

    def __init__(self):
        super().__init__()
        self.own = torch.randn(8)
        nn.init.zeros_(self.last.weight)

    def forward(self, x):
        return self.last(self.first(x) * self.own)


class Teaches(Plain):
    """A copy that follows, and is not trained."""

    def __init__(self, move):
        super().__init__()
        self.teacher, self.move = nn.Linear(7, 8).requires_grad_(False), move
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.move(self.teacher.weight, self.first.weight)
        return super().forward(x) + self.scale * self.last(self.teacher(x))


class Bounds(Plain):
    """The norm of a weight, which is not reached at first."""

    def forward(self, x):
        with torch.no_grad():
            self.first.weight.mul_((60 / self.first.weight.norm()).clamp(max=1))
        return super().forward(x)


class PassesOfItsOwn(Plain):
    def __init__(self):
        super().__init__()
        forward = self.last.forward
        self.last.forward = lambda x: forward(x.clamp(max=1.5))


class CountsModes(Plain):
    epochs = 0

    def train(self, mode=True):
        if mode and not self.training:
            self.epochs += 1
        return super().train(mode)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Teaches(lambda to, by: to.lerp_(by, 0.1)), "changes its parameter teacher.weight"),
        (lambda: Teaches(lambda to, by: to.data.lerp_(by, 0.1)), "accessing `data`"),
        (PassesOfItsOwn, "Linear has hooks, or a forward pass of its own"),
        (Bounds, "changes its parameter first.weight"),
        (CountsModes, r"train\(\) or eval\(\) changes CountsModes.epochs"),
        (lambda: Reads(lambda x: x.numpy().max()), "reads values of tensors"),
        (lambda: Reads(lambda x: np.asarray(x).max()), "reads values of tensors"),
        (lambda: Reads(lambda x: max(x.flatten().tolist())), "reads values of tensors"),
        (Counts, "changes Counts.count"),
        (Normalises, "gives other gradients than the model alone"),
        (Listens, "gives other gradients than the model alone"),
        (Own, "gives other gradients than the model alone"),
        (Decides, "data-dependent control flow"),
        (Remembers, "changes Remembers.calls"),
        (Hooked, "changes Linear._forward_hooks"),
        (Late, "changes Late._buffers"),
        (Replaces, "its buffers change in another way than those of the model alone"),
        (CentresAlways, "evaluation of an example depends on the other examples"),
        (Draws, "called random operation"),
        (DrawsElsewhere, "draws random numbers"),
    ],
)
def test_what_a_program_would_do_otherwise_is_found(make, why):
    own = learners(make, 3)
    kept = [copy.deepcopy(learner.model.state_dict()) for learner in own]
    buffers = [learner.model.mean for learner in own]
    with pytest.raises(Unfusable, match=why):
        FusedLearner(own, torch.randn(64, 7))
    for learner, before, buffer in zip(own, kept, buffers, strict=True):
        after = learner.model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert learner.model.mean.shape == buffer.shape and learner.model.training


def test_rounding_is_not_taken_for_more():
    """Batch norm makes much of it."""

    def make():
        return nn.Sequential(
            nn.Linear(7, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 40), nn.BatchNorm1d(40), nn.Tanh()
        )

    assert FusedLearner(learners(make, 64, 40), torch.randn(64, 7)).way is StackedProgram


def test_nobody_who_joins_or_leaves_moves_the_global_generators():
    """A checkpoint holds them, so what shares a group must not show in them."""
    own = learners(partial(nn.Linear, 7, CLASSES), 3)
    x, y = torch.randn(2 * 16, 7), torch.randint(CLASSES, (32,))
    with same_generators_after(x.device) as drawn:
        together = FusedLearner(own, x)
        together.drop(1)
        together.step(x, y, np.full(3, RATE), 1, Watch.NOTHING)
        assert not drawn()
        random.random()
        assert drawn()


def test_a_pass_that_decides_by_values_is_found_where_layers_are_stacked(in_double):
    """Of torch's layers alone, so that each would be one of all runs."""

    class Decides(nn.Sequential):
        def forward(self, x):
            h = self[0](x)
            return self[1](h.tanh() if h.mean() > 9 else h)

    own = learners(lambda: Decides(nn.Linear(7, 8), nn.Linear(8, CLASSES)), 2)
    with pytest.raises(Unfusable, match="reads values of tensors"):
        FusedLearner(own, torch.randn(64, 7))


class Closed(Plain):
    """Nothing of the rest is seen in what it puts out at first."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.last.weight)


class CentresBehindZeros(Closed):
    def forward(self, x):
        return super().forward(x - x.mean(0) if self.training else x)


class CentresBehindTwoGates(Closed):
    """Of which neither has a gradient that would show it."""

    def __init__(self):
        super().__init__()
        self.gate = nn.LayerNorm(7)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x):
        return super().forward(x + self.gate(x - x.mean(0)) if self.training else x)


class Chooses(Closed):
    """By the class of a layer, which is another where layers are stacked."""

    def forward(self, x):
        for layer in (self.first, self.last):
            x = layer(x).relu() if isinstance(layer, nn.Linear) else layer(x)
        return x


def heard_behind_zeros():
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    model[0].register_forward_hook(lambda layer, inputs, output: output * 2)
    nn.init.zeros_(model[2].weight)
    return model


class CentresToLearn(Plain):
    def forward(self, x):
        return super().forward(x - x.mean(0) if torch.is_grad_enabled() else x)


class Clips(Plain):
    """By the norm of a whole batch, beyond what the first ones have together."""

    def forward(self, x):
        return super().forward(x * (40 / x.norm()).clamp(max=1) if self.training else x)


class HalvesTheRest(Plain):
    """All that comes after more examples than a batch has."""

    def forward(self, x):
        return super().forward(torch.cat([x[:40], x[40:] / 2]) if self.training else x)


class ReadsItsWeight(Plain):
    """Of all runs it would be another, which shows when a training has made it smaller."""

    def forward(self, x):
        return super().forward(x) * (self.first.weight.norm() / 1.4).clamp(max=1)


class CentresByParts(Plain):
    """Of as many examples as batches are multiples of."""

    def forward(self, x):
        return super().forward(
            torch.cat([part - part.mean(0) for part in x.split(16)]) if self.training else x
        )


class CountsUp(Plain):
    def forward(self, x):
        return super().forward(x * (torch.arange(len(x)) % 4 + 1.0)[:, None] if self.training else x)


def clamped_before():
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    model[2].register_forward_pre_hook(lambda layer, inputs: (inputs[0].clamp(max=1.5),))
    return model


class Embeds(Plain):
    """What larger numbers would be no places of."""

    def __init__(self):
        super().__init__()
        self.places = nn.Embedding(400, 7)

    def forward(self, x):
        return super().forward(self.places((x[:, 0] * 3).long() + 200))


@pytest.mark.parametrize(
    "make",
    [
        Foreign,
        CentresByParts,
        ReadsItsWeight,
        CountsUp,
        clamped_before,
        Embeds,
        Centres,
        Adds,
        CentresBehindZeros,
        CentresBehindTwoGates,
        Chooses,
        heard_behind_zeros,
        CentresToLearn,
        Clips,
        HalvesTheRest,
    ],
)
def test_forward_passes_of_ones_own_are_those_of_the_runs_alone(make, in_double):
    runs, steps = 3, 20
    sizes = [21 if step % 5 == 4 else 32 for step in range(steps)]
    batches = [  # which grow, and of which the last of an epoch is smaller
        ((1 + step / 4) * torch.randn(runs, size, 7), torch.randint(CLASSES, (runs, size)))
        for step, size in enumerate(sizes)
    ]
    alone, together = learners(make, runs), learners(make, runs)
    in_turn(alone, batches)
    at_once(together, batches)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(other.model.state_dict()[name], value, rtol=1e-9, atol=1e-12)
