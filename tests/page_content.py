"""The content of a page, made up: settings of lr x init x weight decay, some of which fail."""

import math
import random
from itertools import product
from statistics import fmean, stdev
from typing import Any

HTML = '</script><img src=x onerror="document.title=1">${alert(1)}\'`&amp;{a|b}'  # a name that could do harm
LONG = "regularizer.a_setting_whose_name_has_no_end." + "x" * 160
INITS = ("xavier", "kaiming", "orthogonal", "lsuv")
TAGS = ("val/loss", "train/loss")


def both(text: str) -> dict[str, str]:
    return {"en": text, "zh": f"中文：{text}"}


def content(
    settings: int = 24, seeds: int = 5, *, failures: bool = False, names: tuple[str, ...] = INITS
) -> dict[str, Any]:
    """A sweep of `settings` settings with `seeds` runs each; with `failures` high rates make runs diverge."""
    dice = random.Random(0)
    rates = [round(10 ** (-3 + 3 * at / max(settings // 8, 2)), 5) for at in range(max(settings // 8, 2) + 1)]
    decays = (0, 1e-4)
    grid = list(product(rates, names, decays))
    grid = grid[:: max(len(grid) // settings, 1)][:settings]
    keys = ["optimizer.lr", "init", "optimizer.weight_decay"]
    measured = [(setting, _values(setting, names, seeds, failures, dice)) for setting in grid]
    measured.sort(key=lambda one: (any(v is None for v in one[1]), _mean(one[1]) or math.inf))
    ranking, runs = _ranking(measured, keys, seeds)
    epochs = list(range(1, 31))
    return {
        "title": "outputs/main",
        "made": "2026-01-02T03:04:05Z",
        "sweepwise": "0.1.0",
        "metric": {"tag": "val/loss", "better": "lower", "percent": False},
        "counts": {status: runs["status"].count(status) for status in sorted(set(runs["status"]))},
        "complete": True,
        "automatic": False,
        "keys": keys,
        "replicates": ["seed.value"],
        "confidence": 0.95,
        "about": both(f"{settings} settings of {', '.join(keys)} x {seeds} seeds; val/loss, lower is better"),
        "remarks": [both("the data's split is the same in all runs")],
        "verdicts": [_verdicts(key) for key in keys],
        "ranking": ranking,
        "expected": both("new seeds may give 0.30 [0.28, 0.32]"),
        "runs": runs,
        "effects": {
            "method": "anova",
            "scale": "rank" if failures else "value",
            "noise": 0.08,
            "value": [
                {"knobs": [keys[0]], "share": 0.61, "low": 0.5, "high": 0.7, "p": 1e-9},
                {"knobs": [keys[0], keys[1]], "share": 0.17, "low": 0.1, "high": 0.26, "p": 1e-4},
                {"knobs": [keys[1]], "share": 0.1, "low": None, "high": None, "p": 0.01},
                {"knobs": [keys[2]], "share": 0.0, "low": 0.0, "high": 0.02, "p": 0.8},
            ],
            "failing": [{"knobs": [keys[0]], "share": 0.8, "p": 1e-6}] if failures else [],
        },
        "sources": {
            "shares": {"seed.value": 0.7, "data.split_seed": 0.3},
            "levels": {"seed.value": seeds, "data.split_seed": 2},
            "not_varied": [],
        },
        "curves": [_curve(tag, ranking[:60], epochs) for tag in TAGS],
        "curves_left_out": both("60 of the settings have curves here") if settings > 60 else None,
        "rates": [
            {
                "ranking": at,
                "rankings": [at, at + 1],
                "name": "lr",
                "steps": list(range(0, 300, 10)),
                "lr": _cosine(0.1 / (1 + at)),
            }
            for at in range(min(6, len(ranking) - 1))
        ],
        "depth": [_depth(name, at) for at, name in enumerate(names)],
        "stopping": [
            {
                "ranking": at,
                "stopped": [dice.randint(12, 30) for _ in range(seeds)],
                "best": [dice.randint(5, 12) for _ in range(seeds)],
                "early": [seed != 1 for seed in range(seeds)],
                "max_epochs": 30,
            }
            for at in range(min(len(ranking), 60))
        ],
        "heatmaps": [_heatmap(keys[x], keys[y], x, y, ranking) for x, y in ((1, 0), (0, 2), (2, 1))],
        "parallel": {
            "axes": [
                {"key": keys[0], "values": None, "numeric": True, "log": True},
                {"key": keys[1], "values": list(names), "numeric": False, "log": False},
                {"key": keys[2], "values": ["0", "0.0001"], "numeric": False, "log": False},
            ],
            "lines": [
                {
                    "ranking": at,
                    "values": [
                        float(one["setting"][0]),
                        names.index(one["setting"][1]),
                        ["0", "0.0001"].index(one["setting"][2]),
                    ],
                }
                for at, one in enumerate(ranking)
            ],
        },
        "failures": _failures(runs, ranking, keys, failures),
        "cost": {
            "seconds": sum(runs["seconds"]),
            "runs": len(runs["status"]),
            "epochs": sum(runs["epochs"]),
            "by_setting": [
                {"ranking": at, "seconds": sum(runs["seconds"][run] for run in one["runs"])}
                for at, one in enumerate(ranking)
            ],
        },
        "critique": [
            {
                "kind": "edge",
                "text": both(f"the best value of {keys[0]} is the largest that was tried"),
                "evidence": both("0.31 [0.30, 0.32] at 1, 0.35 [0.34, 0.36] at 0.3"),
                "command": "python train.py -m optimizer.lr=1,3,10 seed.value=0,1,2,3,4",
            },
            {
                "kind": "few seeds",
                "text": both("two seeds a setting cannot tell these apart"),
                "evidence": both("the intervals are 12 times a standard deviation wide"),
                "command": "python train.py -m 'seed.value=range(2,8)'",
            },
        ],
        "replay": _replay(dice),
        "repeat": both(
            "Each row of the leaderboard opens its runs: the command of a run repeats it, to the bit."
        ),
        "next": ["python train.py -m init=xavier,kaiming 'seed.value=range(5,10)'"],
    }


def begun() -> dict[str, Any]:
    """A sweep of which one run of each of three settings has ended, and one run is still going on."""
    begun = content(4, 1)
    for ranked in begun["ranking"]:
        ranked |= {"low": None, "high": None}
    begun["ranking"][3] |= {"mean": None, "n": 0}
    unknown = dict.fromkeys(("value", "best_epoch", "epochs", "seconds"))
    for column, cell in (unknown | {"status": "running"}).items():
        begun["runs"][column][3] = cell
    for series in (series for curve in begun["curves"] for series in curve["series"]):
        series |= {"low": [None] * len(series["mean"]), "high": [None] * len(series["mean"])}
    begun["expected"] = {"en": "", "zh": ""}
    return begun | {"complete": False, "verdicts": [], "sources": None, "critique": [], "replay": None}


def _values(setting, names, seeds, failures, dice) -> list[float | None]:
    rate, init, decay = setting
    place = names.index(init)
    if failures and rate > 0.4 / (1 + place):
        return [None if dice.random() < 0.8 else 2.0 + dice.random() for _ in range(seeds)]
    best = 0.3 + 0.1 * (math.log10(rate) + 1) ** 2 + 0.03 * place - 100 * decay
    return [best + dice.gauss(0, 0.02) for _ in range(seeds)]


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _ranking(measured, keys, seeds):
    runs: dict[str, list] = {
        key: []
        for key in (
            "ranking",
            "replicate",
            "status",
            "value",
            "best_epoch",
            "epochs",
            "seconds",
            "folder",
            "command",
        )
    }
    ranking = []
    for at, (setting, values) in enumerate(measured):
        shown = [f"{value:g}" if isinstance(value, float | int) else value for value in setting]
        name = ", ".join(f"{key}={value}" for key, value in zip(keys, shown, strict=True))
        known = [value for value in values if value is not None]
        mean, half = _mean(values), 2.8 * stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
        start = len(runs["value"])
        for seed, value in enumerate(values):
            row = {"ranking": at, "replicate": str(seed)}
            row |= {
                "status": "diverged" if value is None else ("stopped early", "finished")[seed % 2],
                "value": value,
            }
            row |= {
                "best_epoch": None if value is None else 10 + seed,
                "epochs": 2 if value is None else 20 + seed,
            }
            parts = name.split(", ")
            row |= {"seconds": 1.5 + at % 7 + seed / 10, "folder": [*parts, f"seed.value={seed}-{at:08x}"]}
            row |= {"command": ["python", "train.py", *parts, f"seed.value={seed}"]}
            for key, cell in row.items():
                runs[key].append(cell)
        ranking.append(
            {"name": name, "setting": shown, "mean": mean, "low": None if half is None else mean - half}
            | {"high": None if half is None else mean + half, "n": seeds, "failed": seeds - len(known)}
            | {"runs": list(range(start, start + seeds))}
        )
    runs |= {"folder": compact(",", runs["folder"]), "command": compact(" ", runs["command"])}
    return ranking, runs


def compact(separator: str, texts: list[list[str]]) -> dict[str, Any]:
    """Texts whose words are stored once."""
    words = {word: place for place, word in enumerate(dict.fromkeys(word for text in texts for word in text))}
    rows = [[words[word] for word in text] for text in texts]
    return {"separator": separator, "words": list(words), "rows": rows}


def _verdicts(key) -> dict[str, Any]:
    kinds = ("better", "equivalent", "undecided", "identical", "valueless", "unclaimed", "better", "better")
    items = [
        {
            "kind": kind,
            "text": both(
                f"{key}=a {kind} than b{at} by {0.1 * at:.1f} [{0.1 * at - 0.1:.1f}, {0.1 * at + 0.1:.1f}]"
            ),
            "first": "a",
            "second": "b",
        }
        | (
            {"mean": None, "low": None, "high": None, "margin": None}
            if kind == "valueless"
            else {"mean": 0.1 * at, "low": 0.1 * at - 0.1, "high": 0.1 * at + 0.1, "margin": 0.05}
        )
        for at, kind in enumerate(kinds)
    ]
    return {"key": key, "how": both("paired by seed"), "items": items, "left_out": 3}


def _curve(tag, ranking, epochs) -> dict[str, Any]:
    series = []
    for at, one in enumerate(ranking):
        level = one["mean"] if one["mean"] is not None else 3.0
        mean = [round(level + 2 * math.exp(-epoch / (4 + at / 4)), 5) for epoch in epochs]
        half = [0.3 / math.sqrt(epoch) for epoch in epochs]
        low, high = ([round(m + sign * h, 5) for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
        series.append(
            {
                "ranking": at,
                "epochs": epochs,
                "mean": mean,
                "low": low,
                "high": high,
                "n": [one["n"]] * len(epochs),
            }
        )
    return {"tag": tag, "series": series}


def _cosine(peak) -> list[float]:
    return [round(peak * (1 + math.cos(math.pi * step / 30)) / 2, 6) for step in range(30)]


def _depth(name, at) -> dict[str, Any]:
    layers = [f"layers.{layer}.linear" for layer in range(8)]
    return {
        "name": f"init={name}",
        "n": 5,
        "layers": layers,
        "std": [(0.7 + at / 5) ** layer for layer in range(8)],
        "gradient": [(1.2 - at / 5) ** layer for layer in range(8)],
    }


def _heatmap(x_key, y_key, x, y, ranking) -> dict[str, Any]:
    def order(shown):
        return (0, float(shown), "") if shown.replace(".", "").replace("e-", "").isdigit() else (1, 0, shown)

    xs, ys = (sorted({one["setting"][place] for one in ranking}, key=order) for place in (x, y))
    cells = []
    for xi, yi in product(range(len(xs)), range(len(ys))):
        inside = [one for one in ranking if one["setting"][x] == xs[xi] and one["setting"][y] == ys[yi]]
        means = [one["mean"] for one in inside if one["mean"] is not None]
        if inside:
            cells.append(
                [
                    xi,
                    yi,
                    min(means, default=None),
                    sum(one["n"] for one in inside),
                    sum(one["failed"] for one in inside),
                ]
            )
    boundary = [[xi, yi] for xi, yi, _, n, failed in cells if failed > n / 2] or None
    return {"x_key": x_key, "y_key": y_key, "x": xs, "y": ys, "cells": cells, "boundary": boundary}


def _failures(runs, ranking, keys, failures) -> dict[str, Any]:
    by = []
    for place, key in enumerate(keys):
        for value in sorted({one["setting"][place] for one in ranking}):
            inside = [one for one in ranking if one["setting"][place] == value]
            bad = sum(one["failed"] for one in inside)
            by += (
                [{"key": key, "value": value, "ended_badly": bad, "n": sum(one["n"] for one in inside)}]
                if bad
                else []
            )
    return {
        "diverged": runs["status"].count("diverged"),
        "failed": 0,
        "by": by,
        "boundary": {"place": 0, "text": both("from lr 0.1 on runs diverge"), "evidence": both("p = 0.001")}
        if failures
        else None,
        "messages": [{"reason": "loss is nan at step 12", "n": 5, "example": runs["folder"]["words"][0]}]
        if failures
        else [],
    }


def _replay(dice) -> dict[str, Any]:
    rows = [
        {
            "metric": metric,
            "patience": patience,
            "min_delta": delta,
            "saved_share": saved,
            "saved_low": saved - 0.05,
            "saved_high": saved + 0.05,
        }
        | {
            "lost": 0.02 / patience,
            "lost_low": 0.0,
            "lost_high": 0.04 / patience,
            "censored": 2 if patience == 20 else 0,
            "n": 60,
        }
        for metric in TAGS
        for patience in (1, 2, 5, 10, 20)
        for delta in (0.0, 0.01)
        for saved in [0.8 / math.sqrt(patience) + dice.random() / 50]
    ]
    halving = [
        {
            "rungs": [3, 9, 27],
            "eta": 3,
            "kept_winner": 0.8,
            "kept_in_draws": 0.75,
            "runs": 60,
            "saved_share": 0.55,
        }
    ]
    return {
        "rows": rows,
        "halving": halving,
        "text": both("a patience of 5 would have saved 36 % of the epochs"),
    }
