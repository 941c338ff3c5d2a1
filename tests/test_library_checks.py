"""What `build` is given is held to what the command line refuses; numbers of numpy and torch are taken."""

import dataclasses
import functools
from fractions import Fraction
from functools import partial
from typing import Annotated

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from small import CONF, SMALL
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau, StepLR

from sweepwise import (
    Arrays,
    FlatOptimizer,
    Range,
    Regularizer,
    Schedule,
    Seeds,
    Settings,
    UsageError,
    build,
    fit,
    initialize_,
    split,
)
from sweepwise.data.digits import digits
from sweepwise.data.sklearn_sets import diabetes, wine
from sweepwise.early_stop.never import Never
from sweepwise.early_stop.patience import Patience
from sweepwise.model.mlp import mlp
from sweepwise.regularizer.input_noise import InputNoise
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.max_norm import MaxNorm
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.run import from_config
from sweepwise.store.request import Request


@functools.cache
def wines():
    return split(wine(), batch_size=16)


ONE_VALIDATED = ["data=diabetes", "data.validation=0.002"]


def one_validated():
    return split(diabetes(), validation=0.002)


def built(**changes):
    given = {
        "data": wines(),
        "model": partial(mlp, hidden=[8]),
        "optimizer": partial(SGD, lr=0.1),
        "settings": Settings(max_epochs=3, device="cpu"),
    }
    return build(**given | changes)


def refusal(**changes):
    with pytest.raises(UsageError) as refused:
        built(**changes)
    return str(refused.value)


def refusal_of_the_command_line(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", [*SMALL, *overrides]), resolve=True)
    with pytest.raises(UsageError) as refused:
        from_config.build(Request(config, overrides))
    return str(refused.value)


SAME = {
    "metric never logged": (
        {"early_stop": Patience(metric="val_loss", patience=1)},
        ["early_stop=patience", "early_stop.patience=1", "early_stop.metric=val_loss"],
    ),
    "metric of the test part": (
        {"early_stop": Never(metric="test/loss")},
        ["early_stop.metric=test/loss"],
    ),
    "metric of the best": ({"early_stop": Never(metric="val/r2")}, ["early_stop.metric=val/r2"]),
    "the worst weights as the best": ({"early_stop": Never(mode="max")}, ["early_stop.mode=max"]),
    "mode of early stopping": (
        {"early_stop": Patience(patience=1, mode="min", metric="val/accuracy")},
        [
            "early_stop=patience",
            "early_stop.patience=1",
            "early_stop.mode=min",
            "early_stop.metric=val/accuracy",
        ],
    ),
    "early stopping too late": (
        {"early_stop": Patience(patience=3)},
        ["early_stop=patience", "early_stop.patience=3", "trainer.max_epochs=3"],
    ),
    "metric of a plateau": (
        {"scheduler": partial(Schedule, ReduceLROnPlateau, metric="val_loss")},
        ["scheduler=plateau", "scheduler.metric=val_loss"],
    ),
    "mode of a plateau": (
        {"scheduler": partial(ReduceLROnPlateau, mode="max")},
        ["scheduler=plateau", "scheduler.mode=max"],
    ),
    "mode of a plateau that is left to its default": (
        {"scheduler": partial(Schedule, ReduceLROnPlateau, metric="val/accuracy")},
        ["scheduler=plateau", "scheduler.metric=val/accuracy"],
    ),
    "a best that is not defined": (
        {"data": one_validated(), "early_stop": Patience(metric="val/r2", patience=1)},
        ["early_stop=patience", "early_stop.patience=1", "early_stop.metric=val/r2", *ONE_VALIDATED],
    ),
    "a plateau of what is not defined": (
        {
            "data": one_validated(),
            "scheduler": partial(Schedule, partial(ReduceLROnPlateau, mode="max"), metric="val/r2"),
        },
        ["scheduler=plateau", "scheduler.metric=val/r2", "scheduler.mode=max", *ONE_VALIDATED],
    ),
    "batch norm, one example left": (
        {"data": split(digits(), batch_size=359), "model": partial(mlp, hidden=[8], norm="batch")},
        ["data=digits", "data.batch_size=359", "model.norm=batch", "model.hidden=[8]"],
    ),
    "weights that decay twice": (
        {"optimizer": partial(AdamW, lr=0.1), "regularizers": [WeightDecay()]},
        ["optimizer=adamw", "regularizer=weight_decay"],
    ),
    "a seed": ({"seed": -1}, ["seed.value=-1", "seed.data=0", "seed.init=0", "seed.noise=0"]),
    "a rate": ({"optimizer": partial(SGD, lr=-0.1)}, ["optimizer=sgd", "optimizer.lr=-0.1"]),
    "a rate that is no number": (
        {"optimizer": partial(SGD, lr="0.1")},
        ["optimizer=sgd", "optimizer.lr='0.1'"],
    ),
    "a rate that is not finite": (
        {"optimizer": partial(Adam, lr=float("inf"))},
        ["optimizer=adam", "optimizer.lr=inf"],
    ),
    "momentum": (
        {"optimizer": partial(SGD, lr=0.1, momentum=1.5)},
        ["optimizer=sgd", "optimizer.lr=0.1", "optimizer.momentum=1.5"],
    ),
    "what decays": (
        {"optimizer": partial(FlatOptimizer, partial(SGD, lr=0.1), decay="biases")},
        ["optimizer=sgd", "optimizer.decay=biases"],
    ),
    "a period": ({"scheduler": partial(StepLR, step_size=0)}, ["scheduler=step", "scheduler.step_size=0"]),
    "a warm-up": (
        {"scheduler": partial(Schedule, partial(CosineAnnealingLR, T_max=3), warmup=-1)},
        ["scheduler=cosine", "scheduler.warmup=-1"],
    ),
    "an init": (
        {"init": partial(nn.init.normal_, std=-1.0)},
        ["init=normal", "init.std=-1.0"],
    ),
    "the output's scale": (
        {"init": partial(initialize_, scheme=nn.init.ones_, output_scale=-1)},
        ["+init.output_scale=-1"],
    ),
    "a hidden layer": ({"model": partial(mlp, hidden=[0])}, ["model.hidden=[0]"]),
    "a norm": ({"model": partial(mlp, hidden=[8], norm="batches")}, ["model.norm=batches"]),
}


@pytest.mark.parametrize("case", SAME)
def test_refused_in_the_words_of_the_command_line(case):
    parts, overrides = SAME[case]
    assert refusal(**parts) == refusal_of_the_command_line(*overrides)


def test_a_metric_that_is_not_defined_is_told_with_a_way_out():
    metric = {"data": one_validated(), "early_stop": Patience(metric="val/r2", patience=1)}
    assert refusal(**metric) == (
        "early_stop.metric=val/r2: is not defined on the validation part, whose targets are all equal (1); "
        "use early_stop.metric=val/loss, or a larger data.validation"
    )
    assert built(data=split(diabetes(), validation=0.005), early_stop=Never(metric="val/r2"))  # of two


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Settings(max_epochs=0), "trainer.max_epochs=0: must be in [1, inf)"),
        (lambda: Settings(max_epochs=2.5), "trainer.max_epochs=2.5: must be a whole number in [1, inf)"),
        (lambda: Settings(ema=1), "trainer.ema=1: must be in [0, 1)"),
        (lambda: Settings(precision="fp8"), "trainer.precision=fp8: must be one of fp32, bf16, fp16"),
        (lambda: Settings(class_weights=[1, -1]), "trainer.class_weights=[1, -1]: must be "),
        (lambda: Seeds(0, 0, 0, 2**32), "seed.noise=4294967296: must be in [0, 4294967295]"),
        (lambda: Seeds(True, 0, 0, 0), "seed.value=true: must be a whole number in [0, 4294967295]"),
        (lambda: Patience(patience=-1), "early_stop.patience=-1: must be a whole number in [0, inf) or null"),
        (lambda: Patience(mode="maximum"), "early_stop.mode=maximum: must be one of auto, min, max"),
        (lambda: Never(mode="maximum"), "early_stop.mode=maximum: must be one of auto, min, max"),
        (lambda: MaxNorm(limit=0), "regularizer.MaxNorm.limit=0: must be in (0, inf)"),
        (
            lambda: MaxNorm(limit=np.ones(2)),
            "regularizer.MaxNorm.limit=[1.0, 1.0]: must be a number in (0, inf)",
        ),
        (lambda: L1(coefficient=float("nan")), "regularizer.L1.coefficient=nan: must be finite"),
        (lambda: split(wine(), batch_size=0), "data.batch_size=0: must be in [1, inf)"),
        (lambda: split((1, 2)), "data.arrays=(1, 2): must be Arrays"),
    ],
)
def test_an_object_is_held_to_its_annotations_when_it_is_made(make, message):
    with pytest.raises(UsageError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_a_rule_of_one_s_own_is_held_to_its_ranges():
    class Shrunk(Regularizer):
        def __init__(self, by: Annotated[float, Range(0, 1)], whatever: int = 1) -> None:
            self.by, self.whatever = by, whatever

    assert type(Shrunk(np.float32(0.5)).by) is float
    assert Shrunk(0.5, whatever="as it is").whatever == "as it is"
    with pytest.raises(UsageError, match=r"regularizer\.Shrunk\.by=2: must be in \[0, 1\]"):
        Shrunk(2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'by'"):
        Shrunk()


class Bare:
    metric = "val/loss"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stop": Patience}, "early_stop: must be an object such as Patience(patience=5), with metric"),
        ({"early_stop": Bare()}, "a Bare has no mode, least_epochs, update"),
        ({"regularizers": MaxNorm()}, "regularizers: must be a list, not a MaxNorm; use regularizers=[...]"),
        (
            {"regularizers": [MaxNorm]},
            "must hold objects of kinds of Regularizer, and holds the class MaxNorm",
        ),
        ({"settings": {"max_epochs": 3}}, "settings: must be Settings(...), not a dict"),
        (
            {"data": wine()},
            "data: must be what split(...) returns, or a function that returns it, not a Arrays",
        ),
        ({"data": wine}, "data: must return what split(...) returns, not a Arrays"),
        ({"model": lambda features, outputs: None}, "model: must be a torch.nn.Module, not a NoneType"),
        (
            {"model": "mlp"},
            "model: must be a class or function, with its options bound by partial, not a str",
        ),
        ({"model": partial(mlp, hiden=[8])}, "unexpected keyword argument 'hiden'"),
        ({"optimizer": SGD([nn.Parameter(torch.ones(1))], lr=0.1)}, "optimizer: must be a class or function"),
        ({"optimizer": lambda params: SGD(params, lr=0.1)}, "optimizer: needs a learning rate: partial("),
        ({"optimizer": FlatOptimizer}, "optimizer: FlatOptimizer must be given its build, bound by partial"),
        ({"optimizer": partial(FlatOptimizer, SGD, decays="all")}, "unexpected keyword argument 'decays'"),
        ({"init": initialize_}, "init: initialize_ must be given its scheme"),
        ({"scheduler": "cosine"}, "scheduler: must be a class or function"),
        (
            {"scheduler": partial(CosineAnnealingLR, T_max="whole")},
            "scheduler.T_max=whole: must be a whole",
        ),
        ({"seed": "0"}, "seed.value=0: must be a whole number"),
        ({"seed": np.float64(0)}, "seed.value=0.0: must be a whole number"),
        ({"seed": np.bool_(True)}, "seed.value=true: must be a whole number"),
        ({"data": None}, "data: must be what split(...) returns, or a function that returns it, not None"),
        ({"model": None}, "model: must be a class or function, with its options bound by partial, not None"),
        ({"optimizer": None}, "optimizer: must be a class or function, with its options bound by partial, n"),
        ({"regularizers": [None]}, "must hold objects of kinds of Regularizer, and holds None"),
        *(
            ({name: None}, f"{name}: must not be None; leave the argument out for its default")
            for name in ("init", "scheduler", "regularizers", "early_stop", "settings", "seed")
        ),
        ({"seed": torch.tensor([0])}, "seed.value=[0]: must be a whole number"),
        ({"optimizer": partial(SGD, lr=np.longdouble(1) / 3)}, "optimizer.lr=0.33333333333333333"),
        ({"optimizer": partial(SGD, lr=Fraction(1, 3))}, "optimizer.lr=1/3: must be a number"),
        (
            {"regularizers": [Mixup(), Mixup()]},
            "Mixup is there 2 times, which would draw the same random numbers",
        ),
    ],
)
def test_what_is_something_else_is_refused(changes, message):
    assert message in refusal(**changes)


def test_all_faults_are_listed_at_once():
    lines = refusal(
        optimizer=partial(SGD, lr=-1),
        seed=-1,
        model=partial(mlp, hidden=[-1]),
        scheduler=partial(StepLR, step_size=0),
    ).splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "seed.value",
        "optimizer.lr",
        "scheduler.step_size",
        "model.hidden",
    ]


def test_different_augmentations_and_the_same_penalty_go_together():
    assert len(built(regularizers=[Mixup(), InputNoise(), L1(), L1()]).regularizers) == 4


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.array, torch.tensor, np.int32])
def test_whole_numbers_of_numpy_and_torch(number):
    given = {
        "seed": number(3),
        "settings": Settings(max_epochs=number(3), device=torch.device("cpu"), threads=number(1)),
        "model": partial(mlp, hidden=[number(8)]),
        "scheduler": partial(StepLR, step_size=number(2)),
        "early_stop": Patience(patience=number(2)),
        "data": split(wine(), batch_size=number(16)),
    }
    plain = built(
        seed=3, scheduler=partial(StepLR, step_size=2), early_stop=Patience(patience=2), data=wines()
    )
    assert fit(built(**given)).metrics == fit(plain).metrics


@pytest.mark.parametrize(
    "lr",
    [np.float32(1e-3), np.array(1e-3, np.float32), torch.tensor(1e-3), np.float16(1e-3), Fraction(1, 8), 1],
)
@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_a_rate_is_the_float_of_the_same_value(optimizer, lr):
    parts = built(optimizer=partial(optimizer, lr=lr))
    (rate,) = set(parts.schedule.rates)
    assert rate == float(lr)
    assert {type(group["lr"]) for group in parts.learner.optimizer.optimizer.param_groups} <= {float, int}


QUARTER = np.float32(0.25)


class Own(SGD):
    """An optimizer without annotations."""

    def __init__(self, params, lr=QUARTER):
        super().__init__(params, lr)


def test_the_default_rate_of_an_optimizer_of_one_s_own_may_be_numpy_s():
    assert set(built(optimizer=Own).schedule.rates) == {0.25}
    assert set(built(optimizer=partial(Own, lr=torch.tensor(0.5))).schedule.rates) == {0.5}


def test_arrays_where_a_list_is_wanted():
    weights = np.array([1.0, 2.0, 3.0])
    models = [
        built(model=partial(mlp, hidden=hidden), settings=Settings(max_epochs=2, class_weights=given))
        for hidden, given in ((np.array([8, 4]), weights), ([8, 4], weights.tolist()))
    ]
    assert fit(models[0]).metrics == fit(models[1]).metrics


def test_tensors_that_a_function_of_one_s_own_takes_stay_tensors():
    seen = []

    def net(features, outputs, *, scale, weights):
        seen.extend([scale, weights])
        return nn.Linear(*features, outputs)

    scale, weights = torch.tensor(2.0), torch.ones(3)
    built(model=partial(net, scale=scale, weights=weights))
    assert seen[0] is scale and seen[1] is weights


def test_options_without_a_rule_pass():
    assert len(built(scheduler=partial(LambdaLR, lr_lambda=lambda epoch: 0.5**epoch)).schedule.rates) == 21
    built(data=split(diabetes(), batch_size=64), early_stop=Never(metric="val/r2", mode="max"))
    built(model=nn.Linear(13, 3), init=partial(nn.init.normal_, generator=torch.Generator()))
    arrays = Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), 0)
    assert built(data=partial(split, arrays, batch_size=4), model=nn.Linear(1, 1)).steps == 6


def test_what_has_no_effect_is_noted(capsys, monkeypatch):
    parts = built(scheduler=partial(StepLR, step_size=10))
    (note,) = parts.notes
    assert note.startswith("the rate first changes after 10 epochs, the training has 3")
    assert fit(parts).notes == parts.notes
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sweepwise.library.fitting.on_terminal", lambda: True)
    fit(parts, progress=False)
    assert capsys.readouterr().out == ""
    fit(parts)
    assert "note          the rate first changes after 10 epochs" in capsys.readouterr().out


@dataclasses.dataclass
class Filled:
    """An init that is an object, which cannot be hashed."""

    value: float = 0.5

    def __call__(self, tensor):
        with torch.no_grad():
            return tensor.fill_(self.value)


def test_objects_that_are_called_pass():
    parts = built(init=Filled(0.25), model=lambda features, outputs: nn.Linear(*features, outputs))
    assert parts.model.weight.unique().tolist() == [0.25 * 0.10000000149011612]


def test_annotations_that_cannot_be_read_are_not_held_to():
    class Odd(Regularizer):
        def __init__(self, by: "torch.NoSuchThing" = 1) -> None:
            self.by = by

    assert Odd(by=np.float64(2)).by == 2
