"""Models of one's own, trained by several processes: as one process trains them."""

import itertools
import pickle
import types
from functools import partial

import numpy as np
import own_models
import pytest
import torch
import worlds
from own_models import Net

from sweepwise import Settings, build, fit, split
from sweepwise.data.digits import digits
from sweepwise.distributed.join import join_world
from sweepwise.errors import Failure
from sweepwise.learner import Watch
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.without_trace import without_trace
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.weight_decay import WeightDecay

NAMES = ["Joins", "Leaves", "Calls", "Freezes", "Routed", "Teacher", "Normed", "Clamped", "Grows", "Forces"]


def case(name):
    return {"model": lambda features, outputs: getattr(own_models, name)(features, outputs).double()}


DECAYS = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.3)


def penalties():
    return [L2(coefficient=1e-3), WeightDecay(coefficient=0.1)]


CASES = {name: case(name) for name in NAMES} | {
    "Joins in pieces": case("Joins") | {"settings": {"accumulate": 2}, "data": worlds.even},
    "Routed in pieces": case("Routed") | {"settings": {"accumulate": 2}, "data": worlds.even},
    "Leaves with an average": case("Leaves") | {"settings": {"ema": 0.9}},
    "Normed with an average": case("Normed") | {"settings": {"ema": 0.9}},
    "Joins with decay": case("Joins") | {"optimizer": DECAYS},
    "Freezes with decay": case("Freezes") | {"optimizer": DECAYS},
    "Routed with momentum": case("Routed") | {"optimizer": worlds.SGD},
    "Leaves with decay and a penalty": case("Leaves") | {"optimizer": worlds.SGD, "regularizers": penalties},
}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_train_as_one(size, tmp_path):
    """All cases in one test: xdist would have each of its workers train them."""
    (alone,) = worlds.outcomes(tmp_path / "alone", 1, CASES)
    for rank in worlds.outcomes(tmp_path / "together", size, CASES):
        for name in CASES:
            one, other = ({**found[name], "weights": dict(found[name]["weights"])} for found in (alone, rank))
            for key in ("weights", "kept"):
                one[key], other[key] = (
                    {n: v for n, v in o[key].items() if n != "table"} for o in (one, other)
                )
            worlds.close(one, other, name)


@pytest.mark.parametrize("name", NAMES)
def test_one_process_trains_as_a_plain_loop(name):
    data = worlds.classes()
    sgd, settings = partial(torch.optim.SGD, lr=0.5), Settings(device="cpu")
    parts = build(data=data, model=case(name)["model"], optimizer=sgd, settings=settings)
    plain = case(name)["model"](data.features, data.outputs)
    plain.load_state_dict(parts.model.state_dict())
    optimizer = sgd(plain.parameters())
    for step in range(5):
        x, y = data.train.x[24 * step :][:24], data.train.y[24 * step :][:24]
        parts.learner.step(x, y, np.full(1, 0.5), step, Watch.NOTHING)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(plain(x), y).backward()
        optimizer.step()
    parts.learner.evaluate([(x, y)])
    with torch.no_grad():
        plain.eval()(x)
    for key, value in parts.model.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], rtol=1e-9, atol=1e-12)


def learner(model, world):
    data = split(digits(), batch_size=60)
    parts = build(data=data, model=model, optimizer=worlds.ADAM, settings=Settings(device="cpu"))
    adam = partial(FlatOptimizer, worlds.ADAM)
    return ModuleLearner(parts.model, parts.task, adam, [], noise_seed=0, world=world), data


class Wide(own_models.Joins):
    def __init__(self, features, outputs):
        Net.__init__(self, features, outputs, width=700)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


def steps(own, data, world, first, last):
    for step in range(first, last):
        x, y = (tensor[60 * step : 60 * step + 60] for tensor in (data.train.x, data.train.y))
        own.step(world.padded_shard(x), y, np.full(1, 0.01), step, Watch.NOTHING)


@pytest.mark.parametrize("model", [Wide, own_models.Codebook])
def test_three_go_on_to_the_bit(tmp_path, model):
    """Though other parameters are used by then, and though each process changes codes by its share."""

    def everything():
        with join_world() as world:
            own, data = learner(model, world)
            steps(own, data, world, 0, 9)
            states = own.model_state_dict(0, best=False), {}, own.state_dict(0)
            states = world.on_rank_0("a checkpoint", lambda: states, to_others=list)
            steps(own, data, world, 9, 14)
            resumed, _ = learner(model, world)
            resumed.load_state_dict(0, *states)
            steps(resumed, data, world, 9, 14)
            for one in (own, resumed):
                one.evaluate([(data.train.x[:30], data.train.y[:30])])
            found = [str(one.model_state_dict(0, best=False)) for one in (own, resumed)]
            found += [one.flat.values.numpy().tolist() for one in (own, resumed)]
            (tmp_path / f"{world.rank}.pkl").write_bytes(pickle.dumps(found))
        return 0

    processes = worlds.started(tmp_path, 3, everything)
    codes = [process.wait() for process in processes]
    assert codes == [0] * 3, "\n".join(process.output.read_text() for process in processes)
    ranks = [pickle.loads((tmp_path / f"{rank}.pkl").read_bytes()) for rank in range(3)]
    for found in ranks:
        assert found[:1] + found[2:3] == found[1:2] + found[3:] == ranks[0][:1] + ranks[0][2:3]


def test_a_parameter_that_is_thawed_is_not_left_behind():
    parts = build(data=split(digits()), model=own_models.Thaws, optimizer=worlds.SGD)
    with pytest.raises(Failure, match=r"model: b.weight, b.bias must require a gradient from the beginning"):
        fit(parts)


def test_a_parameter_that_is_frozen_stays_whatever_the_optimizer_remembers():
    adam = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    parts = build(data=split(digits()), model=own_models.Freezes, optimizer=adam)
    x, y = (tensor[:64] for tensor in (parts.data.train.x, parts.data.train.y))
    found = []
    for step in range(10):
        parts.learner.step(x, y, np.full(1, 0.01), step, Watch.NOTHING)
        found.append(parts.model.b.weight.detach().clone())
    stays = [torch.equal(one, other) for one, other in itertools.pairwise(found)]
    assert stays == [4 <= seen < 9 for seen in range(2, 11)]


class Keeps(Net):
    """Changes everything in a pass."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.register_buffer("none", None)
        self.register_buffer("count", torch.zeros(()))
        self.calls, self.seen, self.by_size = 0, [], {}
        self.clock, hidden = types.SimpleNamespace(times=[0]), [0]
        self.head.register_forward_hook(lambda *given: hidden.append(1))
        self.hidden = lambda: hidden
        self.plain, self.generator, self.numbers = torch.zeros(2), torch.Generator(), np.zeros(2)

    def get_extra_state(self):
        return self.calls

    def set_extra_state(self, state):
        self.calls = state

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        self.clock.times[0] += 1
        self.clock.since = 3
        self.by_size[len(x)] = self.calls
        self.plain += 1
        self.numbers += 1
        self.count += 1
        self.none = torch.zeros(len(x))
        self.new = 1
        self.register_buffer("made", torch.ones(1))
        self.a.weight.data = self.a.weight.data * 2
        self.b.bias.data.add_(1)
        self.b.eval()
        self.head.requires_grad_(False)
        noise = torch.rand(1) + np.random.rand() + torch.rand(1, generator=self.generator)
        return super().forward(x) * noise


def test_a_pass_without_trace_leaves_none():
    model, x = Keeps((3,), 2), torch.ones(4, 3)
    flat = FlatParameters(model)

    def picture():
        attributes = [
            (name, key, str(value))
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if key != "generator"
        ]
        states = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), np.random.get_state()[2]]
        return (
            attributes,
            states,
            model.generator.get_state().tolist(),
            model.state_dict(),
            flat.values.tolist(),
        )

    before = str(picture())
    with pytest.raises(ZeroDivisionError), without_trace(model):
        model(x)
        assert str(picture()) != before
        raise ZeroDivisionError
    assert str(picture()) == before
    assert model.a.weight.data_ptr() == flat.values.data_ptr()
