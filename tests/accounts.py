"""Accounts of guided searches, made up: of all stages, and of few values."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sweepwise.search.guided.account import Account, Chapter, Compared, Cost

FOUND = (
    "init=kaiming",
    "scheduler=cosine",
    "optimizer.lr=0.0123",
    "regularizer=[l2,dropout]",
    "regularizer.l2.coefficient=0.001",
    "early_stop=patience",
    "early_stop.patience=5",
)
FRESH = (100, 101, 102, 103, 104, 105)


def values(mean: float, seeds: Iterable[int], spread: float = 0.01) -> dict[int, float]:
    """Values of a metric about a mean, by seed."""
    dice = random.Random(f"{mean} {spread}")
    return {seed: mean + dice.gauss(0, spread) for seed in seeds}


def account(**changes: Any) -> Account:
    """An account of a search through all stages, whose result is better than the default."""
    both = {"chosen": (0.39, 0.93), "default": (0.46, 0.86)}
    made = Account(
        metric="val/loss",
        sign=1,
        chapters=chapters(),
        base=("data=wine", "trainer.device=cpu"),
        found=FOUND,
        fresh=FRESH,
        chosen=values(0.383, FRESH),
        default=values(0.452, FRESH),
        test={
            who: {"test/loss": values(loss, FRESH), "test/accuracy": values(accuracy, FRESH)}
            for who, (loss, accuracy) in both.items()
        },
        ended="all stages are over",
        cost=Cost(1071, 31_890, 37_414.0),
    )
    return replace(made, **changes)


def chapters() -> tuple[Chapter, ...]:
    """The stages: one of a setting alone, one whose runs failed, one of a thousand settings, two of none."""
    inits = [
        *(
            Compared((f"init={name}",), values(mean, range(5)))
            for name, mean in (("kaiming", 0.41), ("xavier", 0.414))
        ),
        Compared((), values(0.45, range(5))),
        Compared(("init=normal",), {0: 2.3}, note="diverged with 2 of 3 seeds"),
        Compared(("init=zeros",), {}, note="failed with each seed"),
    ]
    rates = [Compared((f"optimizer.lr={10**-at}",), values(0.4 + at / 50, range(3)), 10) for at in range(4)]
    return (
        Chapter(
            "seed",
            "How many seeds does a comparison need?",
            "3 seeds a setting",
            "by the spread of 5 runs of the default: 0.011",
            "differences below 0.02",
            compared=(Compared((), values(0.45, range(5))),),
            cost=Cost(5, 150, 64.0),
        ),
        Chapter(
            "init",
            "Which initialisation?",
            "init=kaiming",
            "by a race of 5 settings with 3 to 5 seeds",
            "xavier is within 0.004 of it",
            ("init=kaiming",),
            tuple(inits),
            Cost(30, 900, 400.0),
        ),
        Chapter(
            "scheduler",
            "Which schedule?",
            "scheduler=cosine optimizer.lr=0.0123",
            "by halving among 5 settings",
            "",
            ("scheduler=cosine", "optimizer.lr=0.0123"),
            (Compared(("scheduler=cosine", "optimizer.lr=0.0123"), values(0.39, range(3))), *rates),
            Cost(24, 480, 800.0),
        ),
        Chapter(
            "regularizer",
            "Which regularizers, and how strong?",
            "regularizer=[l2,dropout]",
            "by random search over 1,000 settings",
            "dropout alone is as good with 5 seeds",
            ("regularizer=[l2,dropout]", "regularizer.l2.coefficient=0.001"),
            thousand(),
            Cost(1000, 30_000, 36_000.0),
        ),
        Chapter("early_stop", "How long is waited?", "early_stop.patience=5", "by replay of 12 rules"),
        Chapter("final", "Is it better than the default?", "yes", "by 6 pairs", cost=Cost(12, 360, 150.0)),
    )


def thousand() -> tuple[Compared, ...]:
    """A thousand settings; the decided one is the fortieth, and what was decided before the last."""
    drawn = [
        Compared((f"regularizer.l2.coefficient={at}e-6",), values(0.38 + at / 2000, range(3)))
        for at in range(998)
    ]
    decided = Compared(
        ("regularizer=[l2,dropout]", "regularizer.l2.coefficient=0.001"), values(0.4, range(5))
    )
    return (*drawn[:39], decided, *drawn[39:], Compared((), values(0.89, range(5))))


def hostile(text: str) -> Account:
    """An account whose every text holds a text that could do harm."""
    setting = Compared((f"data.path={text}",), {0: 1.0, 1: 2.0}, note=text)
    chapter = Chapter(text, text, text, text, text, (f"data.path={text}",), (setting,))
    metrics = {text: {100: 0.1, 101: 0.2}}
    return Account(
        text,
        1,
        (chapter,),
        (f"data.path={text}",),
        (f"init={text}",),
        (100, 101),
        {100: 0.1, 101: 0.3},
        {100: 0.3, 101: 0.7},
        {"chosen": metrics, "default": metrics},
        text,
    )


def several() -> dict[str, Account]:
    """Accounts of few values, and of many."""
    nan, inf = float("nan"), float("inf")
    few = tuple(replace(one, compared=()) for one in chapters())
    valueless = replace(
        chapters()[1], compared=tuple(replace(one, values={}) for one in chapters()[1].compared)
    )
    same = values(0.45, FRESH)
    return {
        "whole": account(),
        "nothing": Account("val/loss", 1, ()),
        "no final stage": account(fresh=(), chosen={}, default={}, test={}, chapters=chapters()[:-1]),
        "nothing compared": account(chapters=few),
        "no values": account(chapters=(valueless,), chosen={}, default={}, test={}),
        "no value of the result": account(chosen={}),
        "no value of the default": account(default={100: nan, 101: inf}),
        "one fresh seed": account(
            fresh=(100,),
            chosen={100: 0.4},
            default={100: 0.5},
            test={"chosen": {"test/loss": {100: 0.41}}, "default": {"test/loss": {100: 0.52}}},
        ),
        "the default": account(found=(), chosen=same, default=dict(same)),
        "refused": account(found=(), chosen=values(0.46, FRESH)),
        "higher is better": account(metric="val/accuracy", sign=-1),
        "negative r2": account(
            metric="val/r2",
            sign=-1,
            chosen=values(-0.2, FRESH),
            default=values(-7.0, FRESH, 3.0),
            chapters=(Chapter("init", "?", "?", "?", compared=(Compared((), {0: -1e9, 1: -0.5, 2: -0.4}),)),),
        ),
        "equal values": account(
            chosen=dict.fromkeys(FRESH, 0.5),
            default=dict.fromkeys(FRESH, 0.5),
            chapters=(Chapter("init", "?", "?", "?", compared=(Compared((), {0: 0.5, 1: 0.5}),)),),
        ),
        "long": account(
            found=tuple(f"regularizer.a_long_name_{at}.coefficient={at}" for at in range(500)),
            chapters=tuple(
                replace(
                    one,
                    decided="regularizer.l2.coefficient=1e-3 " * 300,
                    how="by comparison " * 300,
                    left_open="open " * 900,
                    overrides=tuple(f"model.a_{at}={at}" for at in range(500)),
                    compared=(Compared(tuple(f"model.a_{at}={at}" for at in range(500)), {0: 1.0}),),
                )
                for one in chapters()
            ),
            test={who: {f"test/metric{at}": {100: 1.0} for at in range(30)} for who in ("chosen", "default")},
            ended="the budget is spent " * 100,
        ),
    }
