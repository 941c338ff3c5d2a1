"""Runs in one process share nothing: neither what they are given, nor generators, nor settings of torch."""

import functools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from small import CONF, SMALL
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from sweepwise import Regularizer, Seeds, Settings, UsageError, build, fit, run, split, trainer
from sweepwise.data.sklearn_sets import wine
from sweepwise.early_stop.patience import Patience
from sweepwise.learner.fused import alone
from sweepwise.model.mlp import mlp
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.max_norm import MaxNorm
from sweepwise.regularizer.orthogonal import Orthogonal
from sweepwise.store.request import Request
from sweepwise.system.progress import progress
from sweepwise.trainer import Run
from sweepwise.trainer.protocols import NoCheckpoints, NoMonitor


@functools.cache
def wines():
    return split(wine(), batch_size=16)


def built(lr=0.1, hidden=(8,), epochs=3, **changes):
    given = {
        "data": wines(),
        "model": partial(mlp, hidden=list(hidden)),
        "optimizer": partial(SGD, lr=lr),
        "settings": Settings(max_epochs=epochs, device="cpu"),
    }
    return build(**given | changes)


def result(parts):
    fitted = fit(parts)
    weights = {name: tensor.clone() for name, tensor in parts.model.state_dict().items()}
    return fitted.status, fitted.best.epoch, fitted.history, fitted.metrics, weights


def assert_same(one, other):
    assert one[:4] == other[:4]
    assert one[4].keys() == other[4].keys()
    assert all(torch.equal(one[4][name], other[4][name]) for name in one[4])


class Falling(Regularizer):
    """A penalty's gradient that falls with each step: it carries state, in a tensor."""

    def __init__(self):
        self.left = torch.tensor([1.0])

    def before_step_(self, weights, gradient, rate):
        self.left *= 0.5
        gradient.add_(weights, alpha=self.left.item())


class Third:
    """Stops after three epochs: it counts them in a list."""

    metric, mode, least_epochs = "val/loss", "min", 3

    def __init__(self):
        self.seen = []

    def update(self, epoch, value):
        self.seen.append(value)
        return "three epochs" if len(self.seen) == 3 else ""


class Halved:
    """A factor of the rate that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, epoch):
        self.asked += 1
        return 0.5 ** (self.asked - 1)


class Drawn:
    """An init that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, tensor):
        self.calls += 1
        with torch.no_grad():
            return tensor.fill_(0.01 * self.calls)


SHARED = {
    "patience": lambda: {"early_stop": Patience(patience=3)},
    "a rule of one's own": lambda: {"early_stop": Third()},
    "max norm": lambda: {"regularizers": [MaxNorm(limit=0.5)]},
    "orthogonal": lambda: {"regularizers": [Orthogonal(coefficient=0.1)]},
    "clipping": lambda: {"regularizers": [ClipNorm(max_norm=0.1)]},
    "a regularizer of one's own": lambda: {"regularizers": [Falling()]},
    "plateau": lambda: {"scheduler": partial(ReduceLROnPlateau, patience=0, factor=0.5)},
    "a factor": lambda: {"scheduler": partial(LambdaLR, lr_lambda=Halved())},
    "init": lambda: {"init": Drawn()},
    "optimizer": lambda: {"optimizer": partial(Adam, lr=0.05, betas=[0.9, 0.99])},
}


@pytest.mark.parametrize("order", ["one after the other", "both built first"])
@pytest.mark.parametrize("case", SHARED)
def test_one_part_for_two_runs_is_a_part_each(case, order):
    """The runs differ in widths and rates, so that nothing of the first fits the second."""
    runs = [{"hidden": (8,), "epochs": 4}, {"hidden": (16, 4), "epochs": 10, "lr": 1e-3}]
    alone = [result(built(**run, **SHARED[case]())) for run in runs]
    shared = SHARED[case]()
    if order == "both built first":
        together = [result(parts) for parts in [built(**run, **shared) for run in runs]]
    else:
        together = [result(built(**run, **shared)) for run in runs]
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


def test_the_schedule_of_a_factor_with_state_is_its_closed_form():
    rates = built(scheduler=partial(LambdaLR, lr_lambda=Halved()), epochs=4).schedule.rates
    assert rates[::7].tolist() == [0.1, 0.05, 0.025, 0.0125]


@pytest.mark.parametrize("kind", [tuple, iter])
def test_regularizers_may_be_any_that_can_be_iterated_over(kind):
    rules = [Falling(), MaxNorm(limit=0.5)]
    assert_same(result(built(regularizers=kind(rules))), result(built(regularizers=rules)))


def test_what_is_given_stays_as_it_was():
    rule, falling, drawn = Third(), Falling(), Drawn()
    parts = built(early_stop=rule, regularizers=[falling], init=drawn)
    fit(parts)
    assert (rule.seen, falling.left.item(), drawn.calls) == ([], 1.0, 0)
    assert falling.shapes == ()
    assert len(parts.early_stop.seen) == 3 and parts.regularizers[0].left.item() < 1


def test_a_regularizer_that_holds_the_network_keeps_it():
    network = nn.Sequential(nn.Linear(13, 3))

    class Seen(Regularizer):
        def __init__(self, layer):
            self.layer, self.weight = layer, layer.weight

    parts = built(model=network, regularizers=[Seen(network[0])])
    assert parts.regularizers[0].layer is network[0] and parts.regularizers[0].weight is network[0].weight
    fit(parts)
    assert torch.equal(parts.regularizers[0].layer.weight, parts.model[0].weight)


def test_parts_that_know_each_other_still_do():
    class Watching(Third):
        def __init__(self, regularizer):
            super().__init__()
            self.regularizer = regularizer

    falling = Falling()
    parts = built(regularizers=[falling], early_stop=Watching(falling))
    assert parts.early_stop.regularizer is parts.regularizers[0] is not falling


def test_what_cannot_be_copied_is_refused():
    rule = Third()
    rule.lock = threading.Lock()
    with pytest.raises(UsageError, match=r"early_stop: must be something that copy\.deepcopy can copy"):
        built(early_stop=rule)


# --- one network, one set of parts, for two runs


def given_to_another_build(parts):
    built(model=parts.model)


def moved(parts):
    parts.model.double()


def replaced(parts):
    parts.model.output = nn.Linear(8, 3)


def frozen(parts):
    parts.model.output.requires_grad_(False)


def added(parts):
    parts.model.more = nn.Linear(2, 2)


@pytest.mark.parametrize("change", [given_to_another_build, moved, replaced, frozen, added])
def test_a_network_whose_tensors_are_others_now_is_refused(change, tmp_path):
    parts = built()
    change(parts)
    with pytest.raises(UsageError, match=r"^model: .* would not be trained: since build, the model was"):
        fit(parts, tmp_path / "none")
    assert not (tmp_path / "none").exists()


# --- generators and settings of the process


class Noisy(nn.Module):
    """Draws from torch's generator in training and in evaluation."""

    def __init__(self, features, outputs):
        super().__init__()
        self.layer = nn.Linear(*features, outputs)

    def forward(self, x):
        return self.layer(nn.functional.dropout(x, 0.3, training=True))


def dropped(seed=0, **changes):
    return built(seed=seed, hidden=(32,), model=partial(mlp, hidden=[32], dropout=0.5), **changes)


@pytest.fixture
def changing_often():
    """Python changes threads a thousand times as often as it does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_draw_what_each_run_would_draw_alone(changing_often):
    makers = [partial(dropped, seed=seed, epochs=6) for seed in range(6)]
    makers += [partial(built, model=Noisy, seed=seed, epochs=6) for seed in range(2)]
    alone = [result(make()) for make in makers]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(lambda make: result(make()), makers), strict=True):
            assert_same(one, other)
        built_here = [make() for make in makers]
        for one, other in zip(alone, pool.map(result, built_here), strict=True):
            assert_same(one, other)


def test_threads_of_the_command_line_s_way_draw_what_each_would_alone(tmp_path, changing_often):
    def trained(where, seed):
        overrides = [*SMALL, f"seed.value={seed}", "regularizer=dropout"]
        overrides += ["trainer.max_epochs=20", f"output_dir={tmp_path / where}"]
        with lock, initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_container(compose("train", overrides), resolve=True)
        return run.train(Request(config, overrides)).run.history

    lock = threading.Lock()
    alone = [trained("alone", seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(partial(trained, "threads"), range(4))) == alone


@pytest.mark.parametrize("first", [partial(built, model=Noisy), dropped], ids=["evaluation", "training"])
def test_runs_that_are_built_first_are_as_they_would_be_alone(first):
    alone = result(first())
    parts = first()
    built(
        seed=Seeds(5, 5, 5, 5, deterministic=True),
        settings=Settings(max_epochs=1, device="cpu", threads=2),
        model=partial(mlp, hidden=[8], dropout=0.2),
    )
    assert torch.get_num_threads() == 2 and torch.are_deterministic_algorithms_enabled()
    torch.randn(3)
    assert_same(result(parts), alone)
    assert torch.get_num_threads() == 1 and not torch.are_deterministic_algorithms_enabled()


class Shaken(Regularizer):
    """Draws from torch's global generator, beside a model that does not."""

    def before_step_(self, weights, gradient, rate):
        gradient.add_(torch.randn_like(gradient), alpha=0.1)


@pytest.mark.parametrize("changes", [{"regularizers": [Shaken()]}, {"model": Noisy}], ids=["rule", "model"])
def test_draws_are_those_of_a_training_that_begins_at_once(changes):
    parts = built(**changes)
    at_once = Run(parts.schedule, parts.early_stop, parts.seeds.data, NoMonitor(), NoCheckpoints())
    learner, _ = alone(parts.learner, parts.batch())
    with progress(parts.steps, False) as bar:
        trainer.fit(learner, parts.data, parts.task, [at_once], parts.settings, bar)
    later = built(**changes)
    torch.manual_seed(17)
    assert fit(later).history == at_once.history
