"""All that a model is: kept as the best, checkpointed and resumed, however it changes in its passes."""

import copy
import json
import random
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_learners import learners
from torch import nn
from torch.nn.utils import prune

from sweepwise import Settings, UsageError, build, fit, initialize_, split
from sweepwise.checkpoint import Checkpoints
from sweepwise.data.digits import digits
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import Failure
from sweepwise.init.checkpoint import Checkpoint
from sweepwise.learner import Watch
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.generators import own_generators

ADAM = partial(torch.optim.Adam, lr=3e-2)
CPU = Settings(max_epochs=12, device="cpu")


class Net(nn.Module):
    """Two layers; others add what they keep."""

    def __init__(self, features, outputs):
        super().__init__()
        self.a, self.head = nn.Linear(64, 16), nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.a(x)) + self.kept(x))


class Teacher(Net):
    """Parameters without gradient that follow others in place."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.slow = nn.Linear(64, 16).requires_grad_(False)

    def kept(self, x):
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.slow.parameters(), self.a.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
        return torch.tanh(self.slow(x))


class Assigned(Net):
    """As the code of MoCo has it: the parameter's data are replaced."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.slow = nn.Parameter(torch.zeros(16), requires_grad=False)

    def kept(self, x):
        if self.training:
            self.slow.data = 0.9 * self.slow.data + 0.1 * self.a(x).detach().mean(0)
        return self.slow


class Counts(Net):
    """A number in `get_extra_state`."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.count = 0

    def get_extra_state(self):
        return {"count": self.count, "recent": [torch.tensor(1.5 * self.count)]}

    def set_extra_state(self, state):
        assert state["recent"][0] == 1.5 * state["count"]
        self.count = state["count"]

    def kept(self, x):
        self.count += self.training
        return 0.02 * self.count


class Hooked(Net):
    """A number that only `_save_to_state_dict` knows, as torch's own quantisation observers do it."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.count = 0

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "count"] = torch.tensor(self.count)

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        self.count = int(state_dict.pop(prefix + "count"))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def kept(self, x):
        self.count += self.training
        return 0.02 * self.count


class Queue(Net):
    """A buffer that is None at first, and becomes longer; another is made in the first pass."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.register_buffer("memory", None)

    def kept(self, x):
        if self.training:
            own = self.a(x).detach().mean(0, keepdim=True)
            self.memory = own if self.memory is None else torch.cat([self.memory, own])[-40:]
            if not hasattr(self, "passes"):
                self.register_buffer("passes", torch.zeros(()))
            self.passes += 1
        return self.memory.mean(0) * self.passes.sqrt()


class Expanded(Net):
    """Buffers whose elements share memory, are not contiguous, or of types no safetensors file holds."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.register_buffer("same", torch.ones(1).expand(16))
        self.register_buffer("turned", torch.rand(16, 2).t())
        self.register_buffer("wide", torch.ones(16, dtype=torch.complex128))
        self.register_buffer("sparse", torch.eye(16).to_sparse())

    def kept(self, x):
        if self.training:
            self.wide *= 1.01
            self.same = (self.same + 0.01)[:1].expand(16)
        return (
            self.same
            + self.turned[0]
            + self.wide.real.float()
            + torch.sparse.mm(self.sparse, self.turned.t())[:, 0]
        )


MODELS = [Teacher, Assigned, Counts, Hooked, Queue, Expanded]


def parts(model, **options):
    return build(data=split(digits()), model=model, optimizer=ADAM, settings=CPU, **options)


def state_of(model):
    return copy.deepcopy({**dict(model.named_buffers()), **model.state_dict()})


def same(one, other):
    if isinstance(one, torch.Tensor):
        one, other = (t.to_dense() if t.layout is not torch.strided else t for t in (one, other))
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("make", MODELS)
def test_the_model_that_fit_returns_is_the_one_that_was_measured_as_the_best(make):
    fitted = fit(parts(make, early_stop=Patience(patience=3)))
    assert fitted.best.epoch < fitted.history[-1]["epoch"]
    assert fitted.final["val"]["loss"] == pytest.approx(fitted.best.value, rel=1e-6)


class Changing(nn.Module):
    """Changes itself in a pass of the second epoch."""

    def __init__(self, features, outputs, change):
        super().__init__()
        self.a, self.head = nn.Linear(64, 64), nn.Linear(64, outputs)
        self.change, self.passes = change, 0

    def forward(self, x):
        self.passes += self.training
        if self.passes == 20:
            self.change(self)
        return self.head(torch.tanh(self.a(x)))


def _assigned(model):
    model.a.load_state_dict({name: own / 2 for name, own in model.a.state_dict().items()}, assign=True)


REPLACED = {
    "head.weight": lambda m: setattr(m.head, "weight", nn.Parameter(torch.zeros(10, 64))),
    "head.weight, head.bias": lambda m: setattr(m, "head", nn.Linear(64, 10)),
    "a.weight, a.bias": _assigned,
    "a.weight, a.bias ": lambda m: setattr(m, "a", nn.Identity()),
    "a.weight": lambda m: prune.l1_unstructured(m.a, "weight", 0.5),
    "more.weight, more.bias": lambda m: setattr(m, "more", nn.Linear(3, 3)),
}


@pytest.mark.parametrize("named", REPLACED)
def test_parameters_that_are_replaced_end_the_training_and_are_named(named, tmp_path):
    short = Settings(max_epochs=3, device="cpu")
    made = build(
        data=split(digits()), model=partial(Changing, change=REPLACED[named]), optimizer=ADAM, settings=short
    )
    with pytest.raises(Failure) as caught:
        fit(made, folder=tmp_path)
    names = set(
        str(caught.value).removeprefix("model: ").partition(" replaced while training: change")[0].split(", ")
    )
    assert names == set(named.strip().split(", "))
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert not any(event.get("epoch", 0) > 1 for event in events)


class Tied(Net):
    """Ties a layer to another one in each pass, as some code does."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.b = nn.Linear(64, 16)

    def kept(self, x):
        self.b.weight = self.a.weight
        return torch.tanh(self.b(x))


def test_parameters_that_are_tied_in_the_pass_are_right():
    fitted = fit(parts(Tied, early_stop=Patience(patience=3)))
    assert fitted.final["val"]["loss"] == pytest.approx(fitted.best.value, rel=1e-6)


def steps(learner, data, first, last):
    for step in range(first, last):
        x, y = (tensor[64 * step : 64 * step + 64] for tensor in (data.train.x, data.train.y))
        learner.step(x, y, np.full(1, 3e-2), step, Watch.NOTHING)


@pytest.mark.parametrize("make", MODELS)
def test_checkpoints_hold_all_of_it_and_it_is_resumed_to_the_bit(make, tmp_path):
    whole = parts(make)
    learner, model, data = whole.learner, whole.model, whole.data
    steps(learner, data, 0, 2)
    learner.save_best(0)
    best = state_of(model)
    steps(learner, data, 2, 4)
    states = learner.model_state_dict(0, best=False), (2, learner.model_state_dict(0, best=True))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(4, *states, {"learner": learner.state_dict(0)})
    checkpoints.close()
    at_four = state_of(model)
    saved = checkpoints.load()
    steps(learner, data, 4, 6)

    resumed = parts(make)
    resumed.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
    assert same(state_of(resumed.model), at_four)
    steps(resumed.learner, data, 4, 6)
    assert same(state_of(resumed.model), state_of(model))
    for one in (whole, resumed):
        one.learner.load_best(0)
        assert same(state_of(one.model), best)


@pytest.mark.parametrize("make", [Teacher, Counts, Hooked])
def test_plain_torch_and_init_read_the_best_weights(make, tmp_path):
    fitted = fit(parts(make), folder=tmp_path)
    file = tmp_path / "checkpoints/best/weights.safetensors"
    rest = file.with_suffix(".extra.pt")
    state = load_file(file) | (torch.load(rest, weights_only=True) if rest.exists() else {})
    assert rest.exists() == (make is Counts)  # of a tensor the other file has room
    model = make((64,), 10)
    model.load_state_dict(state)
    assert same(state_of(model), state_of(fitted.model))

    model = make((64,), 10)
    initialize_(model, partial(Checkpoint, path=str(file)), seed=0)
    assert same(state_of(model), state_of(fitted.model))


def test_init_names_extra_state_that_is_not_there(tmp_path):
    fit(parts(Counts), folder=tmp_path)
    file = tmp_path / "checkpoints/best/weights.safetensors"
    file.with_suffix(".extra.pt").unlink()
    with pytest.raises(ValueError, match=r"init\.strict=false copies what fits\): _extra_state is missing"):
        initialize_(Counts((64,), 10), partial(Checkpoint, path=str(file)), seed=0)
    model = Counts((64,), 10)
    how = initialize_(model, partial(Checkpoint, path=str(file), strict=False), seed=0)
    assert model.count == 0 and how["_extra_state"].startswith("as built: not in checkpoint")


class Odd(Counts):
    def get_extra_state(self):
        return {"count": np.arange(3)}


class Deaf(Net):
    def get_extra_state(self):
        return 1

    def kept(self, x):
        return 0


@pytest.mark.parametrize(
    "make, why",
    [
        (Odd, "_extra_state in its state_dict is of a kind that a checkpoint cannot hold, dict"),
        (Deaf, "its set_extra_state must take what its get_extra_state has returned"),
    ],
)
def test_what_would_not_come_back_is_refused_before_the_training(make, why):
    with pytest.raises(UsageError, match=f"model: {why}"):
        parts(make)


def _number(rng):
    """A number of a generator, or of a function that draws."""
    if isinstance(rng, torch.Generator):
        return torch.rand((), generator=rng).item()
    return rng() if callable(rng) else rng.random()


class Drawn(Net):
    """Draws a number in each pass from what it keeps."""

    def __init__(self, features, outputs, kept):
        super().__init__(features, outputs)
        self.rng = kept()

    def kept(self, x):
        rng = self.rng["deep"][0] if isinstance(self.rng, dict) else self.rng
        return _number(rng)


def _closed_over():
    rng = random.Random(3)
    return lambda: rng.random()


OWN = {
    "torch": lambda: torch.Generator().manual_seed(1),
    "python": lambda: random.Random(1),
    "state": lambda: np.random.RandomState(1),
    "pcg64": lambda: np.random.default_rng(1),
    "mt19937": lambda: np.random.Generator(np.random.MT19937(1)),
    "philox": lambda: np.random.Generator(np.random.Philox(1)),
    "sfc64": lambda: np.random.Generator(np.random.SFC64(1)),
    "in a list": lambda: {"deep": [random.Random(2)]},
    "in a method": lambda: np.random.default_rng(4).random,
    "in a method of python": lambda: random.Random(5).random,
    "in a closure": _closed_over,
}


@pytest.mark.parametrize("kind", OWN)
def test_generators_that_a_model_keeps_go_on_where_they_were(kind, tmp_path):
    make = partial(Drawn, kept=OWN[kind])
    whole, resumed, other = parts(make), parts(make), parts(make)
    steps(whole.learner, whole.data, 0, 3)
    weights = whole.learner.model_state_dict(0, best=False)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, weights, None, {"learner": whole.learner.state_dict(0)})
    checkpoints.close()
    saved = checkpoints.load()
    steps(whole.learner, whole.data, 3, 5)

    resumed.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
    steps(resumed.learner, resumed.data, 3, 5)
    assert same(state_of(resumed.model), state_of(whole.model))
    without = saved.state["learner"] | {"generators": {}}  # the test would see it
    other.learner.load_state_dict(0, saved.weights, saved.best, without)
    steps(other.learner, other.data, 3, 5)
    assert not same(state_of(other.model), state_of(whole.model))


def test_generators_of_the_process_and_of_the_system_are_not_the_model_s(tmp_path):
    model = nn.ModuleList([nn.Identity(), nn.Identity()])
    model[0].draw, model[1].draw = random.random, np.random.rand
    model.system, model.default = random.SystemRandom(), torch.default_generator
    assert own_generators(model) == {}
    model[1].rng = np.random.RandomState(2)
    assert list(own_generators(model)) == ["_modules.1.rng"]


def test_a_checkpoint_of_another_model_is_still_refused():
    one, other = parts(Teacher), parts(Assigned)
    states = [own.learner.model_state_dict(0, best=False) for own in (one, other)]
    with pytest.raises(ValueError, match=r"is of another model: slow, slow\.bias, slow\.weight"):
        other.learner.load_state_dict(0, states[0], {}, one.learner.state_dict(0))
    states[1]["slow"] = torch.zeros(3)
    with pytest.raises(ValueError, match="is of another model: slow"):
        other.learner.load_state_dict(0, states[1], {}, other.learner.state_dict(0))


class Tagged(nn.Sequential):
    """Layers that can be stacked, with a text in `get_extra_state`."""

    def __init__(self):
        super().__init__(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 5))
        self.tag = "2"

    def get_extra_state(self):
        return {"tag": self.tag}

    def set_extra_state(self, state):
        self.tag = state["tag"]


def test_runs_of_a_group_keep_it_too():
    x, y = torch.randn(8, 6), torch.arange(8) % 5
    own = learners(Tagged, 2)
    together = FusedLearner(own, x)
    together.save_best(0)
    kept = state_of(own[0].model)
    for step in range(2):
        together.step(x.repeat(2, 1), y.repeat(2), np.full(2, 0.1), step, Watch.NOTHING)
    assert together.model_state_dict(0, best=True)["_extra_state"] == {"tag": "2"}
    assert not same(state_of(own[0].model), kept)
    together.load_best(0)
    assert same(state_of(own[0].model), kept)
    before = together.checksums()
    assert before[0] == pytest.approx(sum(own.sum().item() for own in own[0].model.parameters()), rel=1e-5)
