"""The loop over a run axis: a group in turns, each run alone, and a plain torch loop beside both."""

import copy
import math
import re
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.utils._pytree import tree_map

from sweepwise.data import Data, Part
from sweepwise.early_stop.never import Never
from sweepwise.early_stop.patience import Patience
from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import Schedule
from sweepwise.system.progress import Silent
from sweepwise.task import Classification, task_of
from sweepwise.trainer import Run, Settings, fit, loop, meter

BATCH, PER_EPOCH = 8, 3  # 22 examples: batches of 8, 8 and 6


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def part(generator: torch.Generator, size: int, classes: int) -> Part:
    x = torch.randn(size, 4, generator=generator)
    if not classes:
        return Part(x, torch.randn(size, generator=generator))
    return Part(x, torch.randint(classes, (size,), generator=generator))


def dataset(classes: int = 3, train: int = 22) -> Data:
    """Targets that have nothing to do with the features, so that the best validation comes early."""
    generator = torch.Generator().manual_seed(1)
    parts = [part(generator, size, classes) for size in (train, 9, 7)]
    return Data("noise", *parts, BATCH, classes, 0.0, 2.0 if not classes else 1.0, "")


def network(data: Data, seed: int, *, noisy: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    extra = [nn.BatchNorm1d(8), nn.Dropout(0.3)] if noisy else []
    return nn.Sequential(nn.Linear(4, 8), *extra, nn.ReLU(), nn.Linear(8, data.outputs))


def learner(data: Data, seed: int, *, noisy: bool = False, momentum: float = 0.0) -> ModuleLearner:
    sgd = partial(torch.optim.SGD, lr=1.0, momentum=momentum)
    model, task = network(data, seed, noisy=noisy), task_of(data.classes, data.target_std)
    return ModuleLearner(model, task, partial(FlatOptimizer, sgd), [Regularizer()], seed)


class Turns:
    """The contract for many runs, kept by as many learners of one run that take their steps in turn."""

    def __init__(self, learners):
        self.runs = len(learners)
        self._learners = learners
        self._dropped = set()

    def step(self, x, y, rates, step, watch):
        active = [k for k in range(self.runs) if k not in self._dropped]
        batches = zip(active, x.chunk(len(active)), y.chunk(len(active)), strict=True)
        found = [self._learners[k].step(x_k, y_k, rates[k : k + 1], step, watch) for k, x_k, y_k in batches]
        losses, outputs = zip(*found, strict=True)
        return torch.stack([loss.detach() for loss in losses]), torch.cat(outputs)

    def watched(self, run):
        return self._learners[run].watched(0)

    def evaluate(self, batches):
        losses, means = zip(*(one.evaluate(batches) for one in self._learners), strict=True)
        return np.concatenate(losses), np.concatenate(means)

    def predict(self, run, batches):
        return self._learners[run].predict(0, batches)

    def checksums(self):
        return np.concatenate([one.checksums() for one in self._learners])

    def gradient_norm(self, run):
        return self._learners[run].gradient_norm(0)

    def save_best(self, run):
        self._learners[run].save_best(0)

    def load_best(self, run):
        self._learners[run].load_best(0)

    def model_state_dict(self, run, *, best):
        return self._learners[run].model_state_dict(0, best=best)

    def state_dict(self, run):
        return self._learners[run].state_dict(0)

    def load_state_dict(self, run, weights, best, memory):
        self._learners[run].load_state_dict(0, weights, best, memory)

    def drop(self, run):
        self._dropped.add(run)


@dataclass
class Log:
    """A monitor that keeps all it is told, and a copy of the weights after each epoch."""

    level: Watch = Watch.SCALARS
    every: int = 1
    steps: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    weights: list = field(default_factory=list)
    finals: dict = field(default_factory=dict)
    look: object = None

    def watch(self, step):
        return self.level if step % self.every == 0 else Watch.NOTHING

    def step(self, step, epoch, rate, watched):
        if self.watch(step):
            ratios = dict(watched.update_ratio)
            self.steps.append(
                (step, epoch, float(rate), watched.loss, watched.penalty, watched.gradient_norm, ratios)
            )

    def epoch(self, step, epoch, values):
        self.epochs.append((step, epoch, dict(values)))
        if self.look:
            self.weights.append(copy.deepcopy(self.look()))

    def mark(self):
        return {}

    def final(self, step, part, values, outputs, targets):
        self.finals[part] = (step, values, outputs.tolist(), targets.tolist())

    def column(self, tag):
        return [values[tag] for _, _, values in self.epochs if tag in values]


class Memory:
    """Checkpoints in memory.

    Args:
        every: steps between two that are due; 0: none is.
    """

    def __init__(self, every=0):
        self.saved = {}
        self.writes = []
        self._every = every

    def due(self, step, epochs=0):
        return self._every != 0 and step % self._every == 0

    def save(self, step, weights, best, state):
        self.saved["last"], self.saved["state"] = weights, state
        self.saved |= {"best": best[1]} if best else {}
        self.writes.append((step, best and best[0]))

    finish = save


def exploding(optimizer, at=2, factor=1e30):
    """Multiplies the rate from epoch `at` on."""
    return lr_scheduler.LambdaLR(optimizer, lambda epoch: factor if epoch >= at else 1.0)


CONSTANT = partial(lr_scheduler.ConstantLR, factor=1.0, total_iters=0)
PLATEAU = partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0)


def run_of(data, epochs, *, lr=0.1, scheduler=CONSTANT, stop=None, seed=0, log=None, per="epoch", every=0):
    per_epoch = -(-len(data.train.y) // data.batch_size)
    schedule = Schedule(scheduler, lr=lr, steps=epochs * per_epoch, steps_per_epoch=per_epoch, per=per)
    return Run(schedule, stop or Never(), seed, log or Log(), Memory(every))


def train(data, runs, group, *, epochs=6, progress=None, interrupted=lambda: False, **settings):
    chosen = Settings(max_epochs=epochs, device="cpu", **settings)
    fit(group, data, task_of(data.classes, data.target_std), runs, chosen, progress or Silent(), interrupted)
    return runs


def alone(data, seed=0, *, epochs=6, noisy=False, momentum=0.0, settings=None, interrupted=None, **options):
    """One run, its learner with it."""
    one = learner(data, seed, noisy=noisy, momentum=momentum)
    run = run_of(data, epochs, seed=seed, **options)
    run.monitor.look = lambda: one.model_state_dict(0, best=False)
    more = dict(settings or {})
    if interrupted:
        more["interrupted"] = interrupted
    train(data, [run], one, epochs=epochs, **more)
    return run, one


def everything(run: Run) -> dict:
    """All that became of a run, to be compared to the bit; repr, so that NaN equals NaN."""
    log = run.monitor
    numbers = repr(
        (
            log.steps,
            log.epochs,
            log.finals,
            run.status,
            run.reason,
            run.outcome(),
            run.schedule.rates.tolist(),
        )
    )
    weights = {
        f"{name}/{tensor}": value.numpy().tobytes()
        for name, state in run.checkpoints.saved.items()
        if name != "state"
        for tensor, value in state.items()
    }
    state = {key: value for key, value in run.checkpoints.saved["state"].items() if key != "generators"}
    return {"numbers": numbers, "writes": run.checkpoints.writes, "state": listed(state), **weights}


def listed(value):
    """State with its tensors as lists; as text, so that NaN equals NaN."""
    return repr(
        tree_map(lambda leaf: [leaf.dtype, leaf.tolist()] if isinstance(leaf, Tensor) else leaf, value)
    )


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def plain(data: Data, seed: int, rates, steps: int):
    """A training loop as a textbook writes it: per-step losses and sizes, and the weights after each step."""
    model = network(data, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    seen = []
    for step in range(steps):
        epoch, place = divmod(step, PER_EPOCH)
        index = data.order(seed, epoch)[place * BATCH : (place + 1) * BATCH]
        x, y = data.train.x[index], data.train.y[index]
        optimizer.param_groups[0]["lr"] = rates[step]
        optimizer.zero_grad()
        outputs = model(x)
        loss = functional.cross_entropy(outputs, y)
        loss.backward()
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))
        optimizer.step()
        right = (outputs.argmax(1) == y).sum().item()
        seen.append((len(y), loss.item(), right, norm, copy.deepcopy(model)))
    return seen


def scores(model: nn.Module, examples: Part) -> tuple[float, float]:
    with torch.no_grad():
        outputs = model(examples.x).double()
    right = (outputs.argmax(1) == examples.y).double().mean().item()
    return functional.cross_entropy(outputs, examples.y).item(), right


# --- a group and each of its runs alone

KINDS = {
    "cosine": {
        "scheduler": partial(lr_scheduler.CosineAnnealingLR, T_max=18),
        "per": "step",
        "lr": 0.3,
        "every": 2,
    },
    "plateau": {"scheduler": PLATEAU, "lr": 0.3},
    "stops early": {"stop": partial(Patience, patience=2, min_delta=100.0), "lr": 0.05},
    "diverges": {"scheduler": exploding, "lr": 0.7},
}
ENDS = {"cosine": "finished", "plateau": "finished", "stops early": "stopped early", "diverges": "diverged"}


def options(kind):
    chosen = dict(KINDS[kind])
    if "stop" in chosen:
        chosen["stop"] = chosen["stop"]()
    return chosen


@pytest.mark.parametrize("classes", [3, 0], ids=["classes", "regression"])
@pytest.mark.parametrize("flush", [1, 2, 64])
@pytest.mark.parametrize(
    "kinds",
    [
        ["plateau", "stops early", "diverges"],
        ["diverges", "cosine", "plateau", "stops early"],
        ["stops early", "diverges"],
    ],
    ids=lambda kinds: ", ".join(kinds),
)
def test_a_run_of_a_group_is_to_the_bit_what_it_is_alone(kinds, flush, classes, monkeypatch):
    monkeypatch.setattr(meter, "FLUSH_STEPS", flush)
    data = dataset(classes)
    seeds = [10 + list(KINDS).index(kind) for kind in kinds]
    group = Turns([learner(data, seed, noisy=True, momentum=0.5) for seed in seeds])
    runs = [run_of(data, 6, seed=seed, **options(kind)) for kind, seed in zip(kinds, seeds, strict=True)]
    train(data, runs, group)
    for place, (kind, seed) in enumerate(zip(kinds, seeds, strict=True)):
        single, one = alone(data, seed, noisy=True, momentum=0.5, **options(kind))
        assert runs[place].status == ENDS[kind]
        assert everything(runs[place]) == everything(single)
        assert same(group.model_state_dict(place, best=False), one.model_state_dict(0, best=False))
    ends = {kind: run.epoch for kind, run in zip(kinds, runs, strict=True)}
    assert ends["stops early"] == 2 and ends["diverges"] == 2
    assert all(ends[kind] == 5 for kind in kinds if ENDS[kind] == "finished")


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_mean_loss_of_a_long_epoch_does_not_depend_on_the_group(size):
    data = dataset(train=8 * 80 + 5)  # more steps than are looked at together
    runs = [run_of(data, 2, seed=seed) for seed in range(size)]
    train(data, runs, Turns([learner(data, seed) for seed in range(size)]), epochs=2)
    for seed, run in enumerate(runs):
        single, _ = alone(data, seed, epochs=2)
        assert run.monitor.column("train/loss") == single.monitor.column("train/loss")


def test_a_group_that_has_ended_takes_no_more_steps():
    data = dataset()
    group = Turns([learner(data, seed) for seed in (0, 1)])
    taken = []
    step = group.step
    group.step = lambda *arguments: taken.append(arguments[3]) or step(*arguments)
    runs = [run_of(data, 6, seed=s, stop=Patience(patience=s + 1, min_delta=100.0)) for s in (0, 1)]
    train(data, runs, group)
    assert taken == list(range(3 * PER_EPOCH))  # the second stops after epoch 2
    assert [(run.epoch, run.step) for run in runs] == [(1, 5), (2, 8)]


def test_progress_is_told_of_the_first_run_that_still_trains():
    class Told(Silent):
        rates: list[float] = []  # noqa: RUF012

        def epoch(self, step, epoch, rate, values):
            self.rates.append(rate)

    data = dataset()
    runs = [
        run_of(data, 3, lr=0.5, stop=Patience(patience=1, min_delta=100.0)),
        run_of(data, 3, lr=0.25, seed=1),
    ]
    train(data, runs, Turns([learner(data, 0), learner(data, 1)]), epochs=3, progress=Told())
    assert runs[0].epoch == 1
    assert Told.rates == [0.5, 0.5, 0.25]


# --- against a plain loop


@pytest.mark.parametrize("flush", [1, 2, 64])
@pytest.mark.parametrize("max_steps", [None, 1, 3, 5, 11])
def test_metrics_are_means_over_examples_wherever_the_training_ends(max_steps, flush, monkeypatch):
    monkeypatch.setattr(meter, "FLUSH_STEPS", flush)
    data = dataset()
    steps = max_steps or 4 * PER_EPOCH
    run, _ = alone(data, epochs=4, settings={"max_steps": max_steps})
    seen = plain(data, 0, run.schedule.rates, steps)
    assert [entry[0] for entry in seen[:PER_EPOCH]] == [8, 8, 6][:steps]
    assert len(run.monitor.epochs) == -(-steps // PER_EPOCH)
    for step, epoch, values in run.monitor.epochs:
        assert step == min((epoch + 1) * PER_EPOCH, steps) - 1
        batches = seen[epoch * PER_EPOCH : step + 1]
        examples = sum(size for size, *_ in batches)
        loss = sum(size * loss for size, loss, *_ in batches) / examples
        assert values["train/loss"] == pytest.approx(loss, rel=1e-6)
        assert values["train/accuracy"] == sum(right for _, _, right, *_ in batches) / examples
        loss, accuracy = scores(seen[step][-1], data.validation)
        assert values["val/loss"] == pytest.approx(loss, rel=1e-6)
        assert values["val/accuracy"] == pytest.approx(accuracy)
    assert (run.status, run.step, run.epoch) == ("finished", steps - 1, (steps - 1) // PER_EPOCH)
    for name, parameter in seen[-1][-1].named_parameters():
        torch.testing.assert_close(run.checkpoints.saved["last"][name], parameter.detach())
    best = run.best.epoch
    wanted = scores(seen[min((best + 1) * PER_EPOCH, steps) - 1][-1], data.test)
    assert [run.metrics["test/loss"], run.metrics["test/accuracy"]] == pytest.approx(wanted, rel=1e-6)


def test_every_step_is_logged_with_the_rate_it_used_and_its_loss():
    data = dataset()
    run, _ = alone(data, epochs=3, lr=0.5, scheduler=partial(lr_scheduler.ExponentialLR, gamma=0.5))
    rates = [0.5 * 0.5 ** (step // PER_EPOCH) for step in range(3 * PER_EPOCH)]
    seen = plain(data, 0, rates, len(rates))
    assert [step for step, *_ in run.monitor.steps] == list(range(len(rates)))
    assert [epoch for _, epoch, *_ in run.monitor.steps] == [step // PER_EPOCH for step in range(len(rates))]
    assert [rate for _, _, rate, *_ in run.monitor.steps] == pytest.approx(rates)
    assert [loss for _, _, _, loss, *_ in run.monitor.steps] == pytest.approx([s[1] for s in seen], rel=1e-6)


def test_a_plateau_lowers_the_rate_of_the_steps_that_follow():
    data = dataset()
    scheduler = partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=1, eps=0.0)
    run, _ = alone(data, epochs=8, lr=1e-30, scheduler=scheduler)  # so small that the loss never moves
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-30)
    reference = scheduler(optimizer)
    wanted = []
    for _ in range(8):
        wanted += [optimizer.param_groups[0]["lr"]] * PER_EPOCH
        reference.step(1.0)
    assert len(set(wanted)) > 2
    assert [rate for _, _, rate, *_ in run.monitor.steps] == pytest.approx(wanted, rel=1e-12)


def test_targets_in_their_own_units_for_regression():
    data = dataset(classes=0)
    run, one = alone(data, epochs=2)
    one.load_best(0)
    with torch.no_grad():
        errors = one.model.eval()(data.validation.x).squeeze(1).double() - data.validation.y
    best = run.best_metrics
    assert best["val/mse"] == pytest.approx((2.0 * errors).square().mean().item(), rel=1e-5)
    assert best["val/mae"] == pytest.approx((2.0 * errors).abs().mean().item(), rel=1e-5)
    total = (data.validation.y.double() - data.validation.y.double().mean()).square().mean()
    assert best["val/r2"] == pytest.approx(1 - (errors.square().mean() / total).item(), rel=1e-4)


# --- the best weights


def test_best_weights_are_a_copy_that_later_training_does_not_change():
    data = dataset()
    run, one = alone(data, epochs=40, lr=1.0, noisy=True)
    losses = run.monitor.column("val/loss")
    best = losses.index(min(losses))
    assert 0 <= best < len(losses) - 1, "the data must be overfitted"
    weights = run.monitor.weights
    assert (run.best.epoch, run.best.value) == (best, losses[best])
    assert run.best.step == (best + 1) * PER_EPOCH - 1
    assert same(run.checkpoints.saved["best"], weights[best])
    assert same(run.checkpoints.saved["last"], weights[-1])
    assert same(one.model_state_dict(0, best=False), weights[best])
    assert not same(weights[best], weights[-1])
    assert run.best_metrics["val/loss"] == losses[best]
    assert run.best_metrics.keys() == {"val/loss", "val/accuracy"}
    assert {"0.weight", "1.running_mean", "1.num_batches_tracked"} <= run.checkpoints.saved["best"].keys()


def test_of_equal_values_the_first_is_the_best():
    run, _ = alone(dataset(), epochs=4, lr=1e-30)
    assert len(set(run.monitor.column("val/loss"))) == 1
    assert run.best.epoch == 0


def test_the_best_can_be_the_highest_value_of_another_metric():
    stop = Never(metric="val/accuracy")
    run, _ = alone(dataset(), 3, epochs=30, lr=1.0, stop=stop)
    values = run.monitor.column("val/accuracy")
    assert run.best.epoch == values.index(max(values))


def test_a_training_metric_chooses_at_every_epoch_although_validation_is_rare():
    run, _ = alone(dataset(), epochs=5, stop=Never(metric="train/loss"), settings={"validate_every": 4})
    losses = run.monitor.column("train/loss")
    assert len(losses) == 5 and losses.index(min(losses)) == run.best.epoch


def test_checkpoints_are_made_when_due_and_at_the_end():
    data = dataset()
    seldom, _ = alone(data, epochs=3, lr=1e-30)
    often, _ = alone(data, epochs=3, lr=1e-30, every=2)
    first = PER_EPOCH  # the first epoch is the best, since the loss stands still
    assert seldom.checkpoints.writes == [(9, first)]
    assert often.checkpoints.writes == [(2, None), (4, first), (6, first), (8, first), (9, first)]


def test_a_run_that_diverged_leaves_its_weights_but_nothing_to_go_on_from():
    run, _ = alone(dataset(), lr=0.5, scheduler=exploding, every=2)
    *before, last = run.checkpoints.writes
    assert last == (run.step + 1, run.best.step + 1) and run.checkpoints.saved["state"] == {}
    assert [step for step, _ in before] == [2, 4, 6, 8][: len(before)] and len(before) >= 3


# --- when a run ends


@pytest.mark.parametrize("every, epochs", [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (5, [4]), (9, [4])])
def test_validation_every_so_many_epochs_and_always_at_the_end(every, epochs):
    run, _ = alone(dataset(), epochs=5, settings={"validate_every": every})
    assert [epoch for _, epoch, values in run.monitor.epochs if "val/loss" in values] == epochs
    assert len(run.monitor.column("train/loss")) == 5
    assert run.best.epoch in epochs


@pytest.mark.parametrize("patience, last", [(0, 1), (1, 1), (2, 2), (4, 4), (5, 5)])
def test_patience_ends_a_run_whose_metric_stands_still(patience, last):
    run, _ = alone(dataset(), epochs=6, lr=1e-30, stop=Patience(patience=patience))
    assert run.epoch == last
    # in the last epoch there is nothing left to stop
    assert run.status == ("stopped early" if last < 5 else "finished")
    assert run.outcome()["stopped"]["epoch"] == last


def test_a_diverged_run_keeps_its_best_and_says_where_it_went_wrong():
    data = dataset()
    run, one = alone(data, epochs=6, lr=0.5, scheduler=exploding)
    rates = [0.5 if step < 2 * PER_EPOCH else 0.5e30 for step in range(3 * PER_EPOCH)]
    seen = plain(data, 0, rates, len(rates))
    first = next(step for step, (_, loss, *_) in enumerate(seen) if not math.isfinite(loss))
    assert run.status == "diverged"
    assert f"step {first}," in run.reason
    assert "learning rate 5e+29" in run.reason
    told = re.search(r"gradient norm (\S+) at step (\d+)", run.reason)
    assert int(told[2]) == len(rates) - 1
    assert float(told[1]) == pytest.approx(seen[-1][3], rel=1e-3, nan_ok=True)
    assert (run.epoch, run.step) == (2, first)
    losses = run.monitor.column("val/loss")
    assert len(losses) == 2 and run.best.value == min(losses)
    kept = run.monitor.weights[run.best.epoch]
    assert same(run.checkpoints.saved["best"], kept) and same(one.model_state_dict(0, best=False), kept)
    assert not all(tensor.isfinite().all() for tensor in run.checkpoints.saved["last"].values())
    assert math.isfinite(run.metrics["test/loss"])


def test_a_finite_loss_before_parameters_overflow_is_divergence_too():
    data = dataset()
    data = replace(data, train=Part(data.train.x * 1000, data.train.y))
    run, _ = alone(data, epochs=2, lr=3e38, settings={"max_steps": 1})
    assert (run.status, run.step, run.epoch) == ("diverged", 0, 0)
    told = re.search(r"loss (\S+) at step 0, learning rate 3e\+38, gradient norm (\S+) at step 0", run.reason)
    _, loss, _, norm, _ = plain(data, 0, [3e38], 1)[0]
    assert [float(told[1]), float(told[2])] == pytest.approx([loss, norm], rel=1e-3)
    assert run.best.epoch == -1 and "best" not in run.checkpoints.saved


def test_a_validation_loss_that_is_not_finite_is_divergence():
    data = dataset()
    data = replace(data, validation=Part(data.validation.x * math.nan, data.validation.y))
    run, _ = alone(data)
    assert (run.status, run.epoch, run.step) == ("diverged", 0, PER_EPOCH - 1)
    assert "val/loss is nan after step 2" in run.reason
    assert math.isnan(run.best.value) and run.best.epoch == -1


@pytest.mark.parametrize("calls", [1, 2, 4, 6, 8])
def test_an_interruption_ends_the_training_after_the_running_step(calls):
    data, log = dataset(), Log()
    run, one = alone(data, log=log, interrupted=lambda: len(log.steps) >= calls)
    assert run.status == "interrupted" and f"step {calls - 1}" in run.reason
    assert [step for step, *_ in run.monitor.steps] == list(range(calls))
    whole = (calls - 1) // PER_EPOCH
    assert len(run.monitor.epochs) == whole  # the epoch it came in is not measured
    last = plain(data, 0, run.schedule.rates, calls)[-1][-1]
    for name, parameter in last.named_parameters():
        torch.testing.assert_close(run.checkpoints.saved["last"][name], parameter.detach())
    assert same(one.model_state_dict(0, best=False), run.checkpoints.saved["last"])
    if whole:
        assert same(run.checkpoints.saved["best"], run.monitor.weights[run.best.epoch])
    else:
        assert "best" not in run.checkpoints.saved


def test_an_interrupted_run_knows_the_step_it_got_to():
    log = Log()
    run, _ = alone(dataset(), log=log, interrupted=lambda: len(log.steps) >= 5)
    assert (run.epoch, run.step) == (1, 4)


def test_an_interruption_ends_every_run_of_a_group_but_those_that_have_ended():
    data = dataset()
    runs = [run_of(data, 6, stop=Patience(patience=1, min_delta=100.0)), run_of(data, 6, seed=1)]
    log = runs[1].monitor
    train(
        data,
        runs,
        Turns([learner(data, 0), learner(data, 1)]),
        interrupted=lambda: len(log.steps) >= 3 * PER_EPOCH,
    )
    assert [run.status for run in runs] == ["stopped early", "interrupted"]


# --- what must not matter


def test_the_test_part_steers_nothing():
    data = dataset()
    garbage = replace(data, test=Part(torch.full((5, 4), math.nan), torch.zeros(5, dtype=torch.int64)))

    def result(chosen):
        run, _ = alone(chosen, epochs=20, lr=1.0, noisy=True, scheduler=PLATEAU, stop=Patience(patience=3))
        tests = {tag: run.metrics.pop(tag) for tag in list(run.metrics) if tag.startswith("test/")}
        del run.final["test"], run.monitor.finals["test"]
        assert not any(tag.startswith("test/") for *_, values in run.monitor.epochs for tag in values)
        return tests, everything(run)

    (clean_tests, clean), (garbage_tests, spoilt) = result(data), result(garbage)
    assert clean == spoilt
    assert math.isfinite(clean_tests["test/loss"]) and math.isnan(garbage_tests["test/loss"])


def test_watching_and_validating_change_no_bit_of_the_weights(tmp_path):
    data = dataset()
    settings = {
        "nothing": {"scalars_every": 0, "histograms_every": 0, "tensorboard": False},
        "scalars": {"scalars_every": 2, "histograms_every": 0},
        "everything": {"scalars_every": 1, "histograms_every": 1},
    }
    results = {}
    for name, chosen in settings.items():
        for every in (1, 3):
            torch.manual_seed(len(results))  # the state of the global generator must not matter either
            folder = tmp_path / f"{name}{every}"
            folder.mkdir()
            one, run = learner(data, 0, noisy=True, momentum=0.9), run_of(data, 6)
            run.monitor = Monitor(folder, **chosen)
            train(data, [run], one, validate_every=every)
            run.monitor.close(run.status)
            results[name, every] = run.checkpoints.saved["last"]
    assert len(results) == 6 and all(same(results["nothing", 1], state) for state in results.values())


def test_workers_give_the_same_bits():
    data = dataset()
    kinds = ["plateau", "stops early"]
    found = []
    for workers in (0, 2):
        runs = [run_of(data, 6, seed=seed, **options(kind)) for seed, kind in enumerate(kinds)]
        group = Turns([learner(data, seed, noisy=True) for seed in range(2)])
        train(data, runs, group, workers=workers)
        found.append([everything(run) for run in runs])
    assert found[0] == found[1]


def test_an_end_counts_once_the_last_work_is_done():
    run = run_of(dataset(), 1)
    run.end("finished")
    run.end("failed", "the disk is full")
    assert (run.status, run.reason) == ("failed", "the disk is full")
    run = run_of(dataset(), 1)
    train(dataset(), [run], learner(dataset(), 0), epochs=1)
    run.end("failed", "the disk is full")
    assert (run.status, run.reason) == ("finished", "")


@pytest.mark.parametrize("epochs, limit, steps", [(4, None, 12), (4, 5, 5), (4, 12, 12), (4, 100, 12)])
def test_length_of_a_training(epochs, limit, steps):
    assert Settings(max_epochs=epochs, max_steps=limit).steps(PER_EPOCH) == steps


@pytest.mark.parametrize(("most", "calls"), [(2**22, 2), (2 * 9 * 3, 3 + 3), (1, 5 + 5)])
def test_runs_that_end_together_are_measured_together_as_each_alone(most, calls, monkeypatch):
    data, asked = dataset(), []
    plain = Classification.measure
    monkeypatch.setattr(Classification, "measure", lambda *values: asked.append(1) or plain(*values))
    each = [alone(data, seed, epochs=2)[0] for seed in range(5)]
    asked.clear()
    monkeypatch.setattr(loop, "OUTPUTS", most)
    group = Turns([learner(data, seed) for seed in range(5)])
    together = train(data, [run_of(data, 2, seed=seed) for seed in range(5)], group, epochs=2)
    assert len(asked) == calls
    for one, other in zip(together, each, strict=True):
        assert everything(one)["numbers"] == everything(other)["numbers"] and one.final.keys() == {
            "val",
            "test",
        }
