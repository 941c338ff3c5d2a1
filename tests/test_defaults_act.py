"""Every default acts in a training of any length: it has a share of it where a number would suit one only."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from small import CONF, composed
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau, StepLR

from sweepwise import Arrays, Settings, build, run, split
from sweepwise.early_stop.after import After
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.parts import Parts
from sweepwise.run.from_config import bind_all
from sweepwise.scheduler import Schedule

EPOCHS = (3, 5, 10, 20, 50, 100, 300)
NEEDED = {"scheduler/other", "regularizer/dropout"}  # need more than their name
IMAGES = {"cutout", "flip", "rotation", "shift_crop"}  # of which the data set here has none
OPTIONS = [
    f"{group}/{path.stem}"
    for group in ("scheduler", "early_stop", "regularizer", "checkpoint", "monitor")
    for path in sorted((CONF / group).glob("*.yaml"))
    if f"{group}/{path.stem}" not in NEEDED and path.stem not in IMAGES
]
# Three epochs are too few for both: the plateau that was chosen acts, and early stopping does not.
TOO_SHORT = {("scheduler/plateau", 3): ["early_stop.patience=2 never acts"]}


def built(*overrides: str) -> Parts:
    return run.build(composed("data=wine", "model.hidden=[4]", *overrides))


def stands_still(parts: Parts) -> tuple[list[float], int]:
    """The rate of each epoch that is trained if no metric ever moves, and how many epochs there are."""
    stride, epochs = parts.data.steps_per_epoch, -(-parts.steps // parts.data.steps_per_epoch)
    used = []
    for epoch in range(epochs):
        used.append(float(parts.schedule.rates[epoch * stride + stride - 1]))
        parts.schedule.observe((epoch + 1) * stride, 1.0)
        if parts.early_stop.update(epoch, 1.0):
            break
    return used, epochs


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("epochs", EPOCHS)
def test_no_default_is_noted_as_one_that_never_acts(option, epochs):
    notes = built(option.replace("/", "="), f"trainer.max_epochs={epochs}").notes
    expected = TOO_SHORT.get((option, epochs), [])
    assert [note[: len(start)] for note, start in zip(notes, expected, strict=True)] == expected


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("scheduler/") and "constant" not in o])
@pytest.mark.parametrize("epochs", EPOCHS)
def test_every_schedule_moves_the_rate_before_the_training_ends(option, epochs):
    parts = built(option.replace("/", "="), f"trainer.max_epochs={epochs}")
    used = parts.schedule.rates.tolist() if parts.schedule.metric is None else stands_still(parts)[0]
    assert len(set(used)) > 1


@pytest.mark.parametrize("option", ["early_stop=patience", "early_stop=after"])
@pytest.mark.parametrize("epochs", EPOCHS)
def test_every_early_stopping_ends_a_training_that_stands_still(option, epochs):
    used, longest = stands_still(built(option, f"trainer.max_epochs={epochs}"))
    assert 1 <= len(used) < longest


@pytest.mark.parametrize("wait", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("warmup", [0, 12])
def test_a_plateau_acts_before_an_early_stopping_that_was_set(wait, every, warmup):
    told = [f"early_stop.patience={wait}", f"trainer.validate_every={every}", f"scheduler.warmup={warmup}"]
    parts = built("scheduler=plateau", *told, f"early_stop.min_epochs={warmup + 1}")
    possible = wait > every
    assert any("plateau schedule never acts" in note for note in parts.notes) != possible


@pytest.mark.parametrize("bears", [0, 4, 9, 10, 30])
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 5, 20])
def test_early_stopping_waits_for_a_plateau_that_was_set_and_for_the_warmup(bears, every, warmup):
    told = [f"scheduler.patience={bears}", f"trainer.validate_every={every}", f"scheduler.warmup={warmup}"]
    assert list(built("scheduler=plateau", *told).notes) == []


def test_a_plateau_on_another_metric_waits_for_none():
    told = ["scheduler=plateau", "early_stop.metric=val/accuracy", "early_stop.patience=2"]
    assert built(*told).taken == {"scheduler.patience": 4}


# --- shares of the training


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ("scheduler=step trainer.max_epochs=20", "scheduler.step_size", 6),
        ("scheduler=step trainer.max_epochs=22 scheduler.warmup=2", "scheduler.step_size", 6),
        ("scheduler=step scheduler.step_size=50% scheduler.per=step", "scheduler.step_size", 350),
        ("scheduler=step scheduler.step_size=0.1%", "scheduler.step_size", 1),
        ("scheduler=step scheduler.step_size=100%", "scheduler.step_size", 100),
        ("scheduler=multistep trainer.max_epochs=40", "scheduler.milestones", [12, 24, 32]),
        ("scheduler=multistep trainer.max_epochs=3", "scheduler.milestones", [1, 2]),
        ("scheduler=multistep scheduler.milestones=[10%,40]", "scheduler.milestones", [10, 40]),
        ("scheduler=cosine scheduler.T_max=75%", "scheduler.T_max", 75),
        ("scheduler=cosine scheduler.end=75%", "scheduler.end", 75),
        ("scheduler=step scheduler.step_size=30", "scheduler.step_size", None),
    ],
)
def test_a_share_is_one_of_the_epochs_or_steps_after_the_warmup(overrides, key, value):
    parts = built(*overrides.split())
    assert parts.taken.get(key) == value
    if key == "scheduler.step_size" and value not in (None, 100):
        stride = 1 if "per=step" in overrides else parts.data.steps_per_epoch
        first = parts.schedule.warmup_steps
        assert np.flatnonzero(np.diff(parts.schedule.rates[first:]))[0] + 1 == value * stride


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        (
            "scheduler.step_size=0%",
            "scheduler.step_size=0%: must be in (0, 100] % of the training, or a number",
        ),
        ("scheduler.step_size=101%", "scheduler.step_size=101%: must be in (0, 100] % of the training, or"),
        ("scheduler.step_size=-1%", "scheduler.step_size=-1%: must be a whole number in [1, inf)"),
        ("scheduler.gamma=50%", "scheduler.gamma=50%: must be a number in (0, inf)"),
        ("scheduler.warmup=5%", "scheduler.warmup=5%: must be a number in [0, inf)"),
    ],
)
def test_what_is_no_share_is_refused_before_the_data_are_loaded(override, fault):
    with pytest.raises(UsageError) as refused:
        bind_all(composed("scheduler=step", override).config)
    assert [found[: len(fault)] for found in refused.value.faults] == [fault]


def test_a_factor_is_no_length():
    with pytest.raises(UsageError, match="T_mult=50%: must be a whole number"):
        bind_all(composed("scheduler=cosine_restarts", "scheduler.T_mult=50%").config)


def test_milestones_that_meet_are_refused_once_the_length_is_known():
    with pytest.raises(UsageError, match=r"^scheduler.milestones=\[60, 40\]: must increase"):
        built("scheduler=multistep", "scheduler.milestones=[60%,40]")


# --- in Python


def in_python(scheduler, epochs=20, **options) -> Parts:
    x = np.arange(40.0)[:, None]
    return build(
        data=split(Arrays("line", x, (x[:, 0] > 20).astype("int64"), classes=2), batch_size=8),
        model=lambda: torch.nn.Linear(1, 2),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=scheduler,
        settings=Settings(max_epochs=epochs, device="cpu"),
        **options,
    )


@pytest.mark.parametrize(
    ("scheduler", "taken"),
    [
        (partial(StepLR, step_size="30%"), {"scheduler.step_size": 6}),
        (partial(StepLR, step_size=6), {}),
        (partial(MultiStepLR, milestones=("30%", "60%")), {"scheduler.milestones": [6, 12]}),
        (partial(CosineAnnealingLR, T_max="horizon"), {"scheduler.T_max": 20}),
        (
            partial(Schedule, partial(CosineAnnealingLR, T_max="horizon"), warmup=2, end="50%"),
            {"scheduler.T_max": 18, "scheduler.end": 9},
        ),
    ],
)
def test_a_share_may_be_given_in_python(scheduler, taken):
    parts = in_python(scheduler)
    assert parts.taken == taken
    if isinstance(scheduler.keywords.get("step_size"), str):
        assert (
            parts.schedule.rates.tolist() == in_python(partial(StepLR, step_size=6)).schedule.rates.tolist()
        )


def test_a_share_of_what_counts_nothing_is_refused_in_python():
    with pytest.raises(UsageError, match="gamma=50%: must be a number"):
        in_python(partial(StepLR, step_size="30%", gamma="50%"))


@pytest.mark.parametrize(
    ("scheduler", "rule", "taken"),
    [
        (ReduceLROnPlateau, Patience(), {"early_stop.patience": 12}),  # torch's own default is 10
        (partial(ReduceLROnPlateau, patience=None), Patience(patience=6), {"scheduler.patience": 2}),
        (partial(StepLR, step_size=9), Patience(), {"early_stop.patience": 10}),
        (partial(StepLR, step_size=9), After(), {"early_stop.epochs": 10}),
        (partial(StepLR, step_size=9), After(epochs=3), {}),
    ],
)
def test_rules_follow_each_other_in_python(scheduler, rule, taken):
    parts = in_python(scheduler, early_stop=rule)
    assert parts.taken == taken and list(parts.notes) == []


def test_one_rule_serves_trainings_of_several_lengths():
    rule = Patience()
    waits = [
        in_python(partial(StepLR, step_size=1), n, early_stop=rule).early_stop.patience for n in (50, 4, 9)
    ]
    assert waits == [10, 2, 4]


# --- what a person sees of it


def test_the_record_and_the_first_lines_say_what_the_length_has_decided(tmp_path, capsys):
    chosen = ["data=wine", "model.hidden=[4]", "scheduler=step", "trainer.max_epochs=4", "monitor=none"]
    request = composed(*chosen, "progress=false", f"output_dir={tmp_path}")
    run.train(request)
    assert json.loads((request.folder / "record.json").read_text())["taken"] == {
        "scheduler.step_size": 1,
        "early_stop.patience": 2,
    }
    said = " ".join(capsys.readouterr().out.split())
    assert "horizon scheduler.step_size=1, early_stop.patience=2: by the length of 4 epochs, 28 steps" in said
