"""Trainings that are interrupted again and again, and end with the same bits as one that never was.

In one process, so that many fit into seconds: a run ends at a step as a signal ends it, or breaks off as a
killed one does, and is built anew from what lies in its folder.
"""

import functools
import itertools
import math
import os
import pydoc
import random
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from small import CONF, option_of
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from torch import nn
from torch.optim import lr_scheduler

from sweepwise import build
from sweepwise.checkpoint import Checkpoints, manifest
from sweepwise.checkpoint import checkpoints as checkpoints_module
from sweepwise.checkpoint.contents import STATE
from sweepwise.data import split
from sweepwise.data.digits import digits
from sweepwise.data.sklearn_sets import diabetes
from sweepwise.early_stop.patience import Patience
from sweepwise.model.mlp import mlp
from sweepwise.model.recurrent import recurrent
from sweepwise.model.resnet import resnet
from sweepwise.monitor import START, Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.dropout import Dropout
from sweepwise.regularizer.label_smoothing import LabelSmoothing
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.spectral_norm import SpectralNorm
from sweepwise.scheduler import Schedule
from sweepwise.store.folders import CHECKPOINTS
from sweepwise.store.shape import ENDED
from sweepwise.system import atomic
from sweepwise.system.progress import Silent
from sweepwise.trainer import Run, Settings, fit
from sweepwise.verify.compare import compare

ADAM = partial(torch.optim.Adam, lr=0.01)
STEPS = 15  # three epochs of five


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """A run sets threads and generators of the process; and no thread writes while a run breaks off."""
    monkeypatch.setattr(checkpoints_module, "AFFORDABLE", math.inf)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # most of the time, and no power fails here
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Killed(Exception):
    """In the place of a signal that nothing outlives."""


@functools.cache
def data():
    return split(digits(), examples=200, batch_size=24)


class Late(Checkpoints):
    """Looks at the end whether what it was given is still the same, as a thread would find it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._given = []

    def save(self, step, weights, best, state):
        self._given.append((self._bytes(weights, best, state), weights, best, state))
        super().save(step, weights, best, state)

    def finish(self, *given):
        super().finish(*given)
        assert self._given
        for before, *then in self._given:
            assert self._bytes(*then) == before

    def _bytes(self, weights, best, state):
        return manifest.serialize({"weights": weights, "best": best, "state": state})


def train(
    folder, *, stop=None, kill=None, settings=None, save=4, disturbed=False, kind=Checkpoints, **chosen
):
    """Trains a run, from where it was left if it was; returns it.

    Args:
        folder: the run's.
        stop: steps after which it ends as by a signal.
        kill: steps after which it breaks off.
        settings: of the trainer.
        save: steps between two checkpoints.
        disturbed: whether something draws from the global generators before the first step, as an import may.
        kind: of checkpoints.
        chosen: parts for `build`; those with a memory as functions that make them.
    """
    folder.mkdir(exist_ok=True)
    parts = {"data": data, "model": partial(mlp, hidden=[12]), "optimizer": ADAM, "seed": 3} | chosen
    parts |= {name: parts[name]() for name in ("regularizers", "early_stop") if name in parts}
    parts = build(settings=Settings(**{"max_epochs": 3} | (settings or {})), **parts)
    checkpoints = kind(folder, minutes=0, steps=save)
    saved = checkpoints.load()
    for log in [] if saved else folder.glob("[em]*"):
        log.unlink()
    monitor = Monitor(
        folder, saved.state if saved else START, scalars_every=2, histograms_every=3, graph=False
    )
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
    if saved:
        parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
        run.load_state_dict(saved.state)
    taken = itertools.count(1)

    def interrupted():
        step = next(taken)
        if step == kill:
            raise Killed
        return step == stop

    if disturbed:
        random.random(), np.random.rand(), torch.rand(())
    try:
        fit(parts.learner, parts.data, parts.task, [run], parts.settings, Silent(), interrupted)
    except Killed:
        return run
    monitor.close(run.status)
    atomic.alone(checkpoints.ending(for_good=run.status in ENDED))
    return run


def resumed(folder, **options):
    """Starts a run again until it has ended; returns it and how many starts that took."""
    for starts in range(1, 100):
        run = train(folder, **options)
        if run.status in ("finished", "stopped early"):
            return run, starts
        assert run.status == ("interrupted" if "stop" in options else "running")
    raise AssertionError("it does not come to an end")


def survives(tmp_path, *, stops=(1, 4), **options):
    """That a run ends alike: whenever it is interrupted, or killed."""
    whole = train(tmp_path / "whole", **options)
    for stop in stops:
        run, starts = resumed(tmp_path / f"stop{stop}", stop=stop, **options)
        assert starts >= math.ceil(run.step / (stop + 1))
        assert_same(whole, run, tmp_path / "whole", tmp_path / f"stop{stop}")
    run, starts = resumed(tmp_path / "kill", kill=7, **options)
    assert starts > 1
    assert_same(whole, run, tmp_path / "whole", tmp_path / "kill")
    return whole


def assert_same(one, other, *folders):
    assert [str(found) for found in compare(*folders)] == []
    assert one.status == other.status
    assert one.reason == other.reason
    assert repr(one.outcome()) == repr(other.outcome())


def optimizer(name):
    """As a config has it."""
    options = option_of(CONF / f"optimizer/{name}.yaml")
    decay, kind = options.pop("decay"), pydoc.locate(options.pop("_target_"))
    return partial(FlatOptimizer, partial(kind, **options), decay=decay)


OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml") if path.stem != "other")
OTHERS = ("Adadelta", "Adafactor", "Adamax", "ASGD", "Rprop")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(tmp_path, name):
    model = partial(mlp, hidden=[12, 10]) if name == "muon" else partial(mlp, hidden=[12])
    survives(tmp_path, optimizer=optimizer(name), model=model, stops=(2,))


@pytest.mark.parametrize("name", OTHERS)
def test_other_optimizers(tmp_path, name):
    survives(tmp_path, optimizer=partial(getattr(torch.optim, name), lr=0.01), stops=(4,))


@pytest.mark.parametrize(
    "chosen",
    [
        partial(torch.optim.Adam, lr=0.01, amsgrad=True),
        partial(torch.optim.Adam, lr=0.01, fused=False),
        partial(torch.optim.SGD, lr=0.01),
        partial(torch.optim.RMSprop, lr=0.01, centered=True, momentum=0.5),
    ],
)
def test_options_of_optimizers(tmp_path, chosen):
    survives(tmp_path, optimizer=chosen, stops=(4,))


SCHEDULERS = {
    "plateau": partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.5),
    "warmup": partial(Schedule, partial(lr_scheduler.CosineAnnealingLR, T_max=12), per="step", warmup=0.6),
    "onecycle": partial(
        Schedule,
        partial(lr_scheduler.OneCycleLR, max_lr=0.01, total_steps=STEPS, cycle_momentum=False),
        per="step",
    ),
    "plateau after a warmup": partial(
        Schedule,
        partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.5),
        warmup=1,
        metric="train/loss",
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedules(tmp_path, name):
    run = survives(tmp_path, scheduler=SCHEDULERS[name])
    assert len(set(run.schedule.rates)) > 1


def test_without_a_validation_part(tmp_path):
    everything = split(digits(), examples=120, batch_size=24, validation=0, test=0)
    run = survives(tmp_path, data=everything, settings={"ema": 0.9}, stops=(2, 5))
    assert (run.best.metric, run.best.step, run.final) == (None, STEPS - 1, {})


def test_early_stopping(tmp_path):
    rule = partial(Patience, patience=1, min_delta=1.0)
    run = survives(tmp_path, early_stop=rule, settings={"max_epochs": 6}, stops=(1, 5, 6))
    assert run.status == "stopped early"


class Remembering(Regularizer):
    """Scales the gradient by a running mean of its norms: a user's, with a memory."""

    def __init__(self):
        self.mean, self.seen = torch.zeros(()), []

    def before_step_(self, weights, gradient, rate):
        self.mean = 0.9 * self.mean + gradient.norm()
        self.seen.append(float(self.mean))
        gradient.mul_(1 / (1 + self.mean))

    def state_dict(self):
        return {"mean": self.mean, "seen": self.seen}

    def load_state_dict(self, memory):
        self.mean, self.seen = memory["mean"], list(memory["seen"])


REGULARIZERS = {
    "dropout": lambda: [Dropout(p=0.3)],
    "mixup and label smoothing": lambda: [Mixup(alpha=0.5), LabelSmoothing(smoothing=0.1)],
    "spectral norm": lambda: [SpectralNorm()],
    "clipping": lambda: [ClipNorm(max_norm=0.1)],
    "a user's": lambda: [Remembering()],
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizers(tmp_path, name):
    survives(tmp_path, regularizers=REGULARIZERS[name])


SETTINGS = {
    "an average": {"ema": 0.9},
    "pieces": {"accumulate": 3},
    "validated every other epoch": {"validate_every": 2, "max_epochs": 5},
    "ending in an epoch": {"max_steps": 13},
    "ending with the first step of an epoch": {"max_steps": 11},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "fp16 and an average": {"precision": "fp16", "ema": 0.5, "accumulate": 2},
    "two threads": {"threads": 2},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "two threads" else n for n in SETTINGS]
)
def test_settings(tmp_path, name):
    survives(tmp_path, settings=SETTINGS[name])


class Loud(nn.Module):
    """Has gradients that are too large for the first scales."""

    def __init__(self, features, outputs):
        super().__init__()
        self.layer = nn.Linear(math.prod(features), outputs)

    def forward(self, x):
        return 100 * self.layer(x.flatten(1))


def test_fp16_that_overflows(tmp_path):
    """The scale falls, and steps are left out."""
    run = survives(tmp_path, settings={"precision": "fp16"}, model=Loud)
    train(tmp_path / "part", settings={"precision": "fp16"}, model=Loud, stop=4)
    state = torch.load(tmp_path / "part" / CHECKPOINTS / "last" / STATE, weights_only=True)
    assert state["learner"]["scaling"]["skipped"] > 0
    assert run.status == "finished"


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_workers(tmp_path, workers):
    whole = train(tmp_path / "whole")
    run, _ = resumed(tmp_path / "workers", stop=4, settings={"workers": workers})
    assert_same(whole, run, tmp_path / "whole", tmp_path / "workers")
    run, _ = resumed(tmp_path / "killed", kill=7, settings={"workers": workers})
    assert_same(whole, run, tmp_path / "whole", tmp_path / "killed")


MODELS = {
    "batch norm": partial(mlp, hidden=[12], norm="batch", dropout=0.2),
    "linear": partial(mlp, hidden=[]),
    "gru": partial(recurrent, cell="gru", width=8, layers=2, dropout=0.2),
    "lstm": partial(recurrent, cell="lstm", width=8, bidirectional=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(tmp_path, name):
    survives(tmp_path, model=MODELS[name], stops=(4,))


def test_images(tmp_path):
    survives(
        tmp_path,
        data=lambda: split(digits(image=True), examples=120, batch_size=24),
        model=partial(resnet, depth=8, width=4),
        stops=(4,),
    )


def test_regression(tmp_path):
    survives(tmp_path, data=lambda: split(diabetes(), batch_size=60), settings={"metrics": ["mae", "r2"]})


class Drawing(nn.Module):
    """Draws from every global generator whenever it is passed, in evaluation too."""

    def __init__(self, features, outputs):
        super().__init__()
        self.layer = nn.Linear(math.prod(features), outputs)

    def forward(self, x):
        scale = 1 + 0.1 * (random.random() + np.random.rand() + torch.rand(()))
        return self.layer(x.flatten(1) * scale)


def test_a_model_that_draws_from_the_global_generators(tmp_path):
    survives(tmp_path, model=Drawing)


def test_what_is_drawn_before_the_first_step_changes_nothing(tmp_path):
    whole = train(tmp_path / "whole", model=Drawing)
    run, _ = resumed(tmp_path / "kill", model=Drawing, kill=7, disturbed=True)
    assert_same(whole, run, tmp_path / "whole", tmp_path / "kill")


def test_seed_0_and_separate_streams(tmp_path):
    survives(tmp_path, seed=0, stops=(3,))


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "precision": "fp16"}, {"validate_every": 2}])
def test_what_was_given_to_be_saved_changes_no_more(tmp_path, settings):
    """So that a thread can write it while the training goes on."""
    both = {"save": 2, "kind": Late, "model": MODELS["batch norm"], "regularizers": REGULARIZERS["a user's"]}
    train(tmp_path, settings=settings | {"max_epochs": 4}, scheduler=SCHEDULERS["plateau"], **both)


@pytest.mark.parametrize("save", [1, 3, 5, 100])
def test_whatever_the_interval(tmp_path, save):
    """Which leaves no other trace than the checkpoints."""
    whole = train(tmp_path / "whole")
    run, _ = resumed(tmp_path / "kill", kill=max(save, 5) + 1, save=save)
    assert_same(whole, run, tmp_path / "whole", tmp_path / "kill")


@pytest.mark.parametrize("step", range(1, STEPS))
def test_killed_once_at_every_step(tmp_path, step):
    whole = train(tmp_path / "whole")
    assert train(tmp_path / "kill", kill=step).status == "running"
    run = train(tmp_path / "kill")
    assert_same(whole, run, tmp_path / "whole", tmp_path / "kill")


def test_a_damaged_checkpoint_costs_only_time(tmp_path):
    whole = train(tmp_path / "whole")
    folder = tmp_path / "run"
    train(folder, kill=14)
    newest = (folder / CHECKPOINTS / "last").resolve()
    assert newest.name == "step-00000012"
    (newest / STATE).write_bytes((newest / STATE).read_bytes()[:-1])
    run = train(folder)
    assert_same(whole, run, tmp_path / "whole", folder)
    assert (folder / CHECKPOINTS / "damaged-step-00000012").is_dir()


def test_best_weights_are_those_of_the_run_that_goes_on(tmp_path):
    """A killed run had found better ones after its last checkpoint."""
    folder = tmp_path / "run"
    train(folder, kill=14, save=6)
    shutil.rmtree(folder / CHECKPOINTS / "step-00000012")
    whole = train(tmp_path / "whole")
    run = train(folder)
    assert_same(whole, run, tmp_path / "whole", folder)


def test_a_run_that_has_ended_is_measured_again(tmp_path):
    """Killed after its last checkpoint, before its record said so."""
    whole = train(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "again", symlinks=True)
    run = train(tmp_path / "again")
    assert run.step == STEPS - 1
    assert_same(whole, run, tmp_path / "whole", tmp_path / "again")


READERS = {"plain": event_accumulator, "data provider": plugin_event_accumulator}


def accumulator(module, folder):
    everything = dict.fromkeys(module.DEFAULT_SIZE_GUIDANCE, 0)
    return module.EventAccumulator(str(folder), size_guidance=everything)


def shown(reader):
    """The steps of each tag, as TensorBoard shows them, with what it shows there."""
    found = {}
    tags = reader.Tags()
    for tag in tags["scalars"] if tags.get("scalars") else []:
        found[tag] = [(event.step, event.value) for event in reader.Scalars(tag)]
    for tag in tags.get("distributions") or []:
        found[tag] = [(event.step, tuple(event.histogram_value.bucket)) for event in reader.Histograms(tag)]
    for tag in tags.get("tensors") or []:
        if not tag.startswith("_hparams_"):
            found[tag] = [(e.step, e.tensor_proto.SerializeToString()) for e in reader.Tensors(tag)]
    return found


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("how", [{"stop": 4}, {"kill": 7}, {"kill": 6}])
def test_tensorboard_shows_each_step_once(tmp_path, name, live, how):
    """Also one that reads the folder all the time, while the run is interrupted and goes on."""
    module = READERS[name]
    train(tmp_path / "whole")
    folder = tmp_path / "run"
    reader = accumulator(module, folder)
    for _ in range(100):
        run = train(folder, **how)
        if live:
            reader.Reload()
        if run.status == "finished":
            break
    expected, found = shown(accumulator(module, tmp_path / "whole").Reload()), shown(reader.Reload())
    assert len(expected) > 20
    for tag, points in expected.items():
        steps = [step for step, _ in points]
        assert len(steps) == len(set(steps)), tag
    assert found == expected
