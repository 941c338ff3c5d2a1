"""Of any two settings of which one can never act, that is said before the training."""

import inspect
import itertools
import math
import re
from functools import partial

import pytest
import torch
from small import CONF
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sweepwise import Arrays, Settings, build, cli, run, split
from sweepwise.early_stop.never import Never
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.run.from_config import bind_all
from sweepwise.scheduler import Schedule
from sweepwise.trainer.never_acts import never_acting

STEPS = 2  # an epoch


def plateau(patience: int, warmup: float, epochs: int) -> Schedule:
    scheduler = partial(ReduceLROnPlateau, patience=patience)
    return Schedule(scheduler, lr=0.1, steps=STEPS * epochs, steps_per_epoch=STEPS, warmup=warmup)


def improving_until(epoch: int, epochs: int) -> list[float]:
    return [1.0 - 0.01 * min(now, epoch) for now in range(epochs)]


def a_drop_is_used(patience, warmup, epochs, every, rule) -> bool:
    """Whether some metric that stops improving makes a plateau lower a rate that is then used."""
    for until in range(epochs):
        schedule, stop = plateau(patience, warmup, epochs), rule()
        for epoch, value in enumerate(improving_until(until, epochs)):
            if epoch * STEPS >= schedule.warmup_steps and schedule.rates[epoch * STEPS + 1] < 0.1:
                return True
            if (epoch + 1) % every == 0 or epoch + 1 == epochs:
                schedule.observe((epoch + 1) * STEPS, value)
                if stop.update(epoch, value):
                    break
    return False


def notes(patience, warmup, epochs, every, stop) -> list[str]:
    settings = Settings(max_epochs=epochs, validate_every=every)
    return never_acting(settings, plateau(patience, warmup, epochs), [], stop, STEPS * epochs, STEPS)


CASES = [
    case
    for number, case in enumerate(
        itertools.product((0, 1, 4, 9), (0, 1.5, 4), (3, 8, 20), (1, 2, 3, 5), (None, 1, 3, 6, 11), (0, 7))
    )
    if case[1] < case[2] and number % 3 == 0
]


@pytest.mark.parametrize(("patience", "warmup", "epochs", "every", "wait", "least"), CASES)
def test_a_plateau_is_noted_where_no_metric_makes_it_act(patience, warmup, epochs, every, wait, least):
    rule = Never if wait is None else partial(Patience, patience=wait, min_epochs=least)
    noted = [note for note in notes(patience, warmup, epochs, every, rule()) if "plateau" in note]
    assert bool(noted) != a_drop_is_used(patience, warmup, epochs, every, rule)
    for note in noted:  # what it names works, and is the limit
        if way := re.search(r"scheduler\.patience=(\d+) or less", note):
            most = int(way[1])
            assert a_drop_is_used(most, warmup, epochs, every, rule)
            assert not a_drop_is_used(most + 1, warmup, epochs, every, rule)
        if way := re.search(r"early_stop\.patience=(\d+) or more", note):
            longer = partial(Patience, patience=int(way[1]), min_epochs=least)
            assert a_drop_is_used(patience, warmup, epochs, every, longer)
        if "early_stop=none" in note and "scheduler.patience" not in note and "early_stop.patience" in note:
            assert a_drop_is_used(patience, warmup, epochs, every, Never)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8, 30])
@pytest.mark.parametrize("wait", [0, 1, 3, 8, 18, 19])
@pytest.mark.parametrize("least", [0, 4, 9, 20])
def test_early_stopping_is_noted_where_it_ends_nothing(every, wait, least):
    epochs, rule = 20, partial(Patience, patience=wait, min_epochs=least)
    measured = [epoch for epoch in range(epochs) if (epoch + 1) % every == 0 or epoch + 1 == epochs]
    stop = rule()
    stopped = next((epoch for epoch in measured if stop.update(epoch, 1.0)), math.inf)
    noted = [note for note in notes(0, 0, epochs, every, rule()) if note.startswith("early_stop.patience")]
    assert bool(noted) == (stopped >= epochs - 1)


def test_a_plateau_on_another_metric_than_early_stopping_is_not_held_back_by_it():
    assert not notes(10, 0, 100, 1, Patience(patience=10, metric="val/accuracy"))
    assert notes(10, 0, 100, 1, Patience(patience=10))


CONFIGS = {
    "max_steps beyond the epochs": (
        "trainer.max_steps=10000",
        "trainer.max_steps=10000 never acts: trainer.max_epochs=100 ends the training after 700 steps; "
        "use trainer.max_epochs=1429",
    ),
    "less than half a step of warm-up": (
        "scheduler=cosine scheduler.warmup=0.01",
        "scheduler.warmup=0.01 never acts: it is less than half of the 7 steps of an epoch; "
        "use scheduler.warmup=0.1429 or more",
    ),
    "min_epochs below the patience": (
        "early_stop.min_epochs=5",
        "early_stop.min_epochs=5 never acts: early_stop.patience=10 ends no training before 11 epochs; "
        "use early_stop.min_epochs=12 or more",
    ),
    "per cent for a share": (
        "early_stop.metric=val/accuracy early_stop.stopping_threshold=95",
        "early_stop.stopping_threshold=95 never acts: val/accuracy is always in [0, 1]",
    ),
    "a loss below zero": (
        "early_stop.stopping_threshold=-1",
        "early_stop.stopping_threshold=-1 never acts: val/loss is always in [0, inf]",
    ),
    "an accuracy below zero": (
        "early_stop.metric=val/accuracy early_stop.divergence_threshold=0",
        "early_stop.divergence_threshold=0 never acts: val/accuracy is always in [0, 1]",
    ),
    "a step as large as the range": (
        "early_stop.metric=val/accuracy early_stop.min_delta=1",
        "early_stop.min_delta=1: no value of val/accuracy, which is always in [0, 1], improves on another",
    ),
    "a rate that cannot fall": (
        "scheduler=plateau scheduler.min_lr=0.01",
        "the plateau schedule never acts: scheduler.min_lr and eps allow no rate below 0.001",
    ),
    "rates that are not read": (
        "scheduler=cosine optimizer=other optimizer._target_=torch.optim.Rprop optimizer.lr=0.01",
        "scheduler never acts after the first step: Rprop takes its step sizes from the first rate",
    ),
    "a warm-up that is not read": (
        "scheduler.warmup=2 optimizer=other optimizer._target_=torch.optim.Rprop optimizer.lr=0.01",
        "scheduler never acts after the first step: Rprop",
    ),
    "no rate at all": ("optimizer.lr=0", "the rate is 0 at every step: nothing is learned"),
    "order of what is not shuffled": (
        "seed.data=3 data.shuffle=false",
        "seed.data=3 never acts with data.shuffle=false",
    ),
    "noise of nothing": (
        "seed.noise=3",
        "seed.noise=3 never acts: neither the model nor a regularizer draws",
    ),
    "validations far apart": (
        "trainer.validate_every=95",
        "early_stop.patience=10 never acts: val/loss is measured from epoch 94 on, and epoch 99 is the last",
    ),
    "components of a scaled gradient": (
        "regularizer=[clip_norm,clip_value]",
        "regularizer.clip_value.limit=1 never acts: no component exceeds the norm of 1",
    ),
    "a penalty of nothing": (
        "regularizer=[l1,dropout] regularizer.l1.coefficient=0 regularizer.dropout.p=0.1",
        "regularizer.l1.coefficient=0 never acts: use a larger one, or leave the regularizer out",
    ),
    "dropout of nothing": ("regularizer=dropout regularizer.dropout.p=0", "regularizer.dropout.p=0 never"),
    "a limit of no limit": (
        "regularizer=clip_norm regularizer.clip_norm.max_norm=1e40",
        "regularizer.clip_norm.max_norm=1e+40 never acts: no float32 exceeds it; use a smaller one",
    ),
    "early stopping within the warm-up": (
        "scheduler=cosine scheduler.warmup=20 early_stop.patience=10",
        "early_stop.patience=10: may end the training within the 20 epochs of warm-up; "
        "use early_stop.min_epochs=21",
    ),
    "one validation": (
        "early_stop=none trainer.validate_every=200",
        "trainer.validate_every=200 never acts: only the last of 100 epochs is validated",
    ),
    "checkpoints beyond the end": (
        "checkpoint.steps=10000",
        "checkpoint.steps=10000 never acts: the training has 700; the last checkpoint is written in any case",
    ),
}


def notes_of(*overrides: str) -> list[str]:
    return list(run.build(cli.composed(["data=wine", *overrides], CONF)).notes)


@pytest.mark.parametrize("case", CONFIGS)
def test_a_setting_that_never_acts_is_noted(case):
    overrides, note = CONFIGS[case]
    assert [text for text in notes_of(*overrides.split()) if text.startswith(note)]


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "regularizer").glob("*.yaml")))
def test_every_regularizer_says_with_which_value_it_does_nothing(name):
    bound = bind_all(cli.composed([f"regularizer={name}"], CONF).config)
    for rule in [own.target() for group, own in bound.items() if group.startswith("regularizer.")]:
        options = [name.lstrip("_") for name in (rule.strength, rule.limit_of) if name]
        assert len(options) == (name not in ("none", "spectral_norm"))
        assert all(option in inspect.signature(type(rule)).parameters for option in options)
        assert all(getattr(rule, option) for option in (rule.strength, rule.limit_of) if option)


@pytest.mark.parametrize(
    "case", [case for case, (_, note) in CONFIGS.items() if re.search("; use \\S+=", note)]
)
def test_with_what_the_note_names_there_is_none(case):
    overrides, note = CONFIGS[case]
    remedy = re.search(r"; use (\S+)", note)[1]
    assert notes_of(*overrides.split(), remedy) == []


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "scheduler=plateau",
        "scheduler=plateau trainer.validate_every=2",
        "seed.noise=3 regularizer=dropout",
        "seed.noise=3 regularizer=input_noise",
        "seed.data=3",
        "early_stop.min_epochs=12",
        "early_stop.min_epochs=5 early_stop.stopping_threshold=0.01",
        "early_stop.metric=val/accuracy early_stop.stopping_threshold=0.95",
        "trainer.max_steps=300",
        "checkpoint.steps=100",
        "regularizer=[clip_value,clip_norm]",
        "regularizer=[clip_norm,clip_value] regularizer.clip_value.limit=0.1",
        "scheduler=cosine scheduler.warmup=5",
        "optimizer=other optimizer._target_=torch.optim.Rprop optimizer.lr=0.01",
        "scheduler=cosine optimizer=other optimizer._target_=torch.optim.ASGD optimizer.lr=0.01",
    ],
)
def test_settings_that_can_act_have_no_note(overrides):
    assert notes_of(*overrides.split()) == []


def test_thresholds_that_end_every_training_at_once_are_refused():
    both = ["early_stop.stopping_threshold=0.5", "early_stop.divergence_threshold=0.3"]
    with pytest.raises(UsageError, match=r"^early_stop.divergence_threshold=0.3: must be worse than"):
        notes_of(*both)
    assert Patience(metric="val/accuracy", stopping_threshold=0.9, divergence_threshold=0.1)


def test_min_epochs_beyond_the_training_is_named_as_such():
    with pytest.raises(UsageError, match=r"^early_stop.min_epochs=200: must be below the 100 epochs"):
        notes_of("early_stop.min_epochs=200")


def test_the_library_says_so_too():
    x = torch.arange(40.0).numpy()[:, None]
    parts = build(
        data=split(Arrays("line", x, (x[:, 0] > 20).astype("int64"), classes=2), batch_size=8),
        model=lambda: torch.nn.Linear(1, 2),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=partial(ReduceLROnPlateau, patience=10),
        early_stop=Patience(patience=10),
        settings=Settings(max_epochs=50, device="cpu"),
    )
    (note,) = parts.notes
    assert note == (
        "the plateau schedule never acts: it lowers the rate after 11 epochs without improvement of "
        "val/loss, and early stopping ends the training after 10; use scheduler.patience=8 or less, or "
        "early_stop.patience=12 or more, or early_stop=none"
    )
