"""The moving average of the weights, against its closed form and torch.optim.swa_utils."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sweepwise.learner import Watch
from sweepwise.learner.ema import Average, NoAverage, average_of
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.task import Classification

SGD = partial(torch.optim.SGD, lr=1.0, momentum=0.5)


def network(dtype=torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)


def batch(number: int, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randint(3, (9,), generator=generator)


def made(model, ema, regularizers=()) -> ModuleLearner:
    task = Classification(3)
    return ModuleLearner(model, task, partial(FlatOptimizer, SGD), list(regularizers), 0, ema=ema)


def steps(learner, numbers, rate=0.3):
    for number in numbers:
        x, y = batch(number, next(learner.model.parameters()).dtype)
        learner.step(x, y, np.array([rate]), number, Watch.NOTHING)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def averages(learner) -> dict[str, Tensor]:
    state = learner.model_state_dict(0, best=False)
    return {name.removeprefix("ema/"): t for name, t in state.items() if name.startswith("ema/")}


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("decay", [1e-9, 0.5, 0.9, 0.999])
def test_closed_form(decay, count):
    model = network()
    learner = made(model, decay, [WeightDecay(coefficient=0.1)])
    weights = [parameters(model)]
    for number in range(count):
        steps(learner, [number])
        weights.append(parameters(model))
    found = averages(learner)
    assert found.keys() == weights[0].keys()
    for name, average in found.items():
        rest = sum((1 - decay) * decay ** (count - s) * weights[s][name] for s in range(1, count + 1))
        torch.testing.assert_close(average, decay**count * weights[0][name] + rest, rtol=1e-12, atol=1e-14)
        assert torch.equal(learner.model_state_dict(0, best=False)[name], weights[-1][name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_torch_with_live_buffers(dtype):
    model = network(dtype)
    learner = made(model, 0.8)
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    reference.update_parameters(model)  # the first call copies
    for number in range(5):
        steps(learner, [number])
        reference.update_parameters(model)
    wanted = reference.module.eval()
    for name, average in averages(learner).items():
        assert average.dtype == dtype
        torch.testing.assert_close(average, wanted.get_parameter(name).detach())
    x, y = batch(20, dtype)
    with torch.no_grad():
        outputs = wanted(x)
    loss, means = learner.evaluate([(x, y)])
    assert loss == pytest.approx([functional.cross_entropy(outputs, y).item()], rel=1e-5)
    assert means == pytest.approx(np.array([[(outputs.argmax(1) == y).double().mean().item()]]))


def test_it_changes_no_bit_of_the_training_and_evaluation_none_of_the_weights():
    models = [network(torch.float32), network(torch.float32)]
    learners = [made(models[0], 0.0), made(models[1], 0.9)]
    for number in range(4):
        for learner in learners:
            steps(learner, [number])
            before = copy.deepcopy(learner.model_state_dict(0, best=False))
            learner.evaluate([batch(9, torch.float32)])
            after = learner.model_state_dict(0, best=False)
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name])


def test_the_live_weights_come_back_when_an_evaluation_fails():
    learner = made(network(), 0.9)
    steps(learner, range(3))
    before = parameters(learner.model)
    with pytest.raises(RuntimeError):
        learner.evaluate([(torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))])
    assert all(torch.equal(p, before[name]) for name, p in parameters(learner.model).items())


def test_the_best_is_the_average_and_restoring_it_begins_anew():
    model = network()
    learner = made(model, 0.9)
    steps(learner, range(3))
    first = learner.model_state_dict(0, best=True)  # nothing is kept yet: what would be evaluated now
    assert all(torch.equal(first[name], average) for name, average in averages(learner).items())
    learner.load_best(0)
    assert not torch.equal(model[0].weight, first["0.weight"])
    learner.save_best(0)
    kept, loss = averages(learner), learner.evaluate([batch(9)])[0]
    tracked = model[1].running_mean.clone()
    steps(learner, range(3, 8))
    best = learner.model_state_dict(0, best=True)
    assert best.keys() == dict(model.state_dict()).keys()
    assert all(torch.equal(best[name], kept[name]) for name in kept)
    assert torch.equal(best["1.running_mean"], tracked) and best["1.num_batches_tracked"] == 3
    assert learner.evaluate([batch(9)])[0] != loss
    learner.load_best(0)
    assert all(torch.equal(p, kept[name]) for name, p in parameters(model).items())
    assert all(torch.equal(average, kept[name]) for name, average in averages(learner).items())
    assert learner.evaluate([batch(9)])[0] == pytest.approx(loss, rel=1e-12)
    before = parameters(model)
    steps(learner, [8])
    for name, average in averages(learner).items():
        wanted = 0.9 * before[name] + 0.1 * model.get_parameter(name).detach()
        torch.testing.assert_close(average, wanted, rtol=1e-12, atol=1e-14)


def test_no_decay_is_no_average(monkeypatch):
    row = torch.ones(1, 3)
    live = average_of(row, 0.0)
    assert isinstance(live, NoAverage) and live.row is row and isinstance(average_of(row, 0.5), Average)

    def refuse(*arguments, **options):
        raise AssertionError("computed")

    monkeypatch.setattr(Tensor, "lerp_", refuse)
    learner = made(network(), 0.0)
    steps(learner, [0])
    learner.evaluate([batch(1)])
    assert learner.model_state_dict(0, best=False).keys() == dict(learner.model.state_dict()).keys()
    with pytest.raises(AssertionError, match="computed"):
        steps(made(network(), 0.5), [0])
