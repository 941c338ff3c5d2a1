"""The critique of a search space: planted faults are found, sweeps without them are left alone."""

import dataclasses
import itertools
import json
import math
import re
import shlex
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import planted
import pytest
import sweeps
from hydra.core.override_parser.overrides_parser import OverridesParser
from planted import GRIDS, RANDOM, Shape
from scipy import stats
from small import CONF, ROOT, TRAIN, WINE, composed, option_of

from sweepwise.config import schema
from sweepwise.config.ranges import Range
from sweepwise.results import words
from sweepwise.results.answer import answer
from sweepwise.results.critique import as_content, critique, passages, scale
from sweepwise.results.critique.coarse import gaps
from sweepwise.results.critique.contrast import contrast
from sweepwise.results.critique.curves import Curve, is_still
from sweepwise.results.critique.cut_off import cut_off
from sweepwise.results.critique.design import along
from sweepwise.results.critique.divergence import boundary
from sweepwise.results.critique.edge import edges
from sweepwise.results.critique.finding import ORDER
from sweepwise.results.critique.no_effect import idle
from sweepwise.results.critique.patience import impatience
from sweepwise.results.loading import from_records, load
from sweepwise.run import build

LR = "optimizer.lr"


def kinds(table, **options: Any) -> list[str]:
    return [one.kind for one in critique(answer(table, thorough=False), **options)]


def one(table, kind: str, **options: Any):
    (found,) = [one for one in critique(answer(table, thorough=False), **options) if one.kind == kind]
    return found


def rates(values: Mapping[Any, float], key: str = LR, seeds: int = 3, metric: str = "val/loss"):
    """A sweep along one key, with the same small noise at each of its values."""
    noise = [0.01, -0.01, 0.003, -0.004, 0.012][:seeds]
    rows = {
        (value,): [cost + noise[(seed + place) % seeds] for seed in range(seeds)]
        for place, (value, cost) in enumerate(values.items())
    }
    return sweeps.table(rows, (key,), metric)


def test_the_best_value_at_an_edge_is_found_and_values_beyond_are_named():
    found = one(rates({0.001: 0.9, 0.01: 0.6, 0.1: 0.3}), "edge")
    assert found.text == (
        "optimizer.lr=0.1, the largest value that was tried, is the best one: "
        "the optimum may lie beyond; add 1, 10"
    )
    assert "optimizer.lr=0.1 是试过的最大值" in found.text.zh and "1, 10" in found.text.zh
    assert found.command == ""  # not trained by a command
    assert "smallest" in one(rates({0.001: 0.3, 0.01: 0.6, 0.1: 0.9}), "edge").text
    assert "edge" not in kinds(rates({0.001: 0.6, 0.01: 0.3, 0.1: 0.6}))
    assert "edge" not in kinds(rates({0.001: 0.303, 0.01: 0.302, 0.1: 0.301}))  # within the noise


def test_markdown_has_the_findings_below_the_answer():
    found = answer(rates({0.001: 0.9, 0.01: 0.6, 0.1: 0.3}))
    text = words.markdown(found, passages(critique(found)))
    assert text.startswith("# ") and text.index("- **best**") < text.index(
        "- **edge** optimizer.lr=0.1, the largest"
    )


def test_the_better_direction_is_the_metrics():
    values = {0.001: 0.3, 0.01: 0.6, 0.1: 0.9}
    assert "largest" in one(rates(values, metric="val/accuracy"), "edge").text
    assert "smallest" in one(rates(values), "edge").text


def test_an_edge_where_the_range_of_a_key_ends_is_none():
    assert "edge" not in kinds(rates({0.0: 0.1, 0.3: 0.5, 0.6: 0.9}, "regularizer.dropout.p"))
    assert (
        "add 0.3, 0.2" not in one(rates({0.0: 0.9, 0.3: 0.5, 0.6: 0.1}, "regularizer.dropout.p"), "edge").text
    )
    assert "edge" not in kinds(rates({0.1: 0.9, 0.2: 0.1}))  # of two values each is at an edge
    assert "edge" not in kinds(rates({"0.1": 0.9, "0.2": 0.5, "0.3": 0.1}))  # text, not numbers
    assert "edge" not in kinds(rates({True: 0.9, False: 0.5}))


def test_nothing_is_beyond_a_perfect_value():
    most = {0.001: 0.5, 0.01: 0.7, 0.1: 0.9}
    values = {(rate,): [share - 0.01, share, share + 0.02] for rate, share in most.items()}
    assert "edge" in kinds(sweeps.table(values, (LR,), "val/accuracy"))
    values[0.1,] = [1.0, 1.0, 1.0]
    assert "edge" not in kinds(sweeps.table(values, (LR,), "val/accuracy"))


def test_a_last_value_that_fails_is_no_edge():
    table = sweeps.table(
        {
            (0.001,): [0.9, 0.91, 0.92],
            (0.01,): [0.6, 0.62, 0.61],
            (0.1,): [0.3, 0.31, 0.32],
            (1.0,): [None, None, None],
        },
        (LR,),
    )
    assert "edge" not in kinds(table)
    found = one(table, "divergence")
    assert found.text.startswith("runs fail at optimizer.lr >= 1: leave those out")
    assert found.evidence.startswith("3 of the 3 runs there failed, and 0 elsewhere; p = ")
    exact = 2 / math.comb(12, 3)  # all three failures at one end, or at the other
    assert boundary(table).p == pytest.approx(exact, abs=4 * math.sqrt(exact / 999))


def test_the_edge_of_a_random_search_is_that_of_all_that_was_tried():
    g = np.random.default_rng(0)
    rates_drawn = 10 ** g.uniform(-4, 0, 60)
    records = [
        {LR: float(rate), "seed": seed, "loss": -math.log10(rate) + g.normal() / 10}
        for rate in rates_drawn
        for seed in range(2)
    ]
    (found,) = [one for one in critique(answer(from_records(records, "loss"))) if one.kind == "edge"]
    assert found.text == (
        "the largest values of optimizer.lr that were tried, up to 0.975, are the best ones: "
        "the optimum may lie beyond; add 3.3, 12"
    )
    assert "places (standard error) better" in found.evidence
    failing = [{**one, "loss": None if one[LR] > 0.1 else one["loss"]} for one in records]
    assert "edge" not in kinds(from_records(failing, "loss"))


def test_a_range_that_is_too_coarse_is_found_with_values_between():
    # a parabola in log10 of the rate with its optimum at 10^-1.6, 0.36 of a decade's square below the best
    values = {10.0**place: 3 * (place + 1.6) ** 2 for place in (-4, -3, -2, -1, 0)}
    found = one(rates(values), "coarse")
    assert "one between 0.001 and 0.1 is likely better; add 0.0032, 0.032" in found.text
    assert "gains 0.48 ±" in found.evidence  # 3 * 0.4^2
    assert "coarse" not in kinds(rates({10.0**place: 3 * (place + 2) ** 2 for place in (-4, -3, -2, -1, 0)}))
    cliff = {0.001: 0.31, 0.01: 0.305, 0.1: 0.3, 1.0: 9.0}
    assert "coarse" not in kinds(rates(cliff))
    assert "coarse" not in kinds(rates({1: 3.0, 2: 0.2, 3: 1.0}, "model.layers"))  # nothing lies between


def test_a_key_without_effect_is_found_if_all_its_runs_say_so():
    g = np.random.default_rng(0)
    table = planted.sweep(Shape(3, 4), planted.idle(g, 0), g)
    found = one(table, "no effect")
    assert found.text.startswith("optimizer.weight_decay has no effect that matters: fix it")
    few = planted.sweep(Shape(3, 1), planted.idle(g, 0), g)
    assert "no effect" not in kinds(few)
    equal = rates({0.1: 0.5}, seeds=3)
    same = {(value,): [row.value for row in equal.rows] for value in (0.1, 0.2)}
    assert "to the bit" in one(sweeps.table(same, ("model.never",)), "no effect").evidence


def test_equal_accuracies_are_no_identity_unless_losses_are_equal_too():
    accuracies = {(init,): [1.0, 0.98, 0.96] for init in ("xavier", "kaiming")}
    table = sweeps.table(accuracies, ("init",), "val/accuracy")
    losses = [0.1, 0.21, 0.42]

    def found(shift: float):
        logged = [
            dataclasses.replace(row, best={"val/loss": loss + shift * (row.setting == ("xavier",))})
            for row, loss in zip(table.rows, losses * 2, strict=True)
        ]
        return idle([along(dataclasses.replace(table, rows=tuple(logged)), "init")])

    assert not idle([along(table, "init")])
    assert [one.identical for one in found(0.0)] == [True]
    assert not found(1e-3)


def test_the_noise_of_a_contrast_is_that_of_seeds_where_their_runs_are_alike():
    g = np.random.default_rng(0)
    common = {value: g.normal(size=5) for value in "ab"}
    blocks = [{value: by_seed(common[value] + 0.1 * g.normal(size=5)) for value in "ab"} for _ in range(6)]
    seen = contrast(blocks, "a", "b", (), 0.0)
    first, second = (np.mean([list(block[value].values()) for block in blocks], axis=0) for value in "ab")
    assert seen.df == 4 and seen.p == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)
    (block,) = alone = [{value: by_seed(g.normal(size=5)) for value in "ab"}]
    expected = stats.ttest_rel(list(block["a"].values()), list(block["b"].values()))
    assert contrast(alone, "a", "b", (), 0.0).p == pytest.approx(expected.pvalue, rel=1e-9)


def test_seeds_of_their_own_in_each_block_count_as_independent():
    g = np.random.default_rng(0)
    blocks = [{value: by_seed(g.normal(size=3), 10 * at) for value in "ab"} for at in range(40)]
    seen = contrast(blocks, "a", "b", (), 0.0)
    assert seen.error == pytest.approx(math.sqrt(2 / 120), rel=0.2)


def by_seed(costs, first: int = 0):
    return {(first + seed,): float(cost) for seed, cost in enumerate(costs)}


def test_a_boundary_is_told_by_the_key_that_it_depends_on():
    limits = {"xavier": 9.0, "normal": 1.0, "uniform": 0.1}
    values = {
        (init, rate): [None if rate >= limit else 0.5 + seed / 100 for seed in range(3)]
        for init, limit in limits.items()
        for rate in (0.01, 0.1, 1.0, 10.0)
    }
    found = boundary(sweeps.table(values, ("init", LR)))
    assert found and (found.key, found.high, found.by) == (LR, True, "init")
    assert found.failing == {"normal": 1.0, "uniform": 0.1, "xavier": 10.0}
    assert (found.failed, found.beyond, found.runs) == (18, 18, 18)
    apart = {
        (init, rate): [None if init == "normal" else 0.5] * 3 for init in limits for rate in (0.01, 0.1, 1.0)
    }
    told = boundary(sweeps.table(apart, ("init", LR)))
    assert told and (told.key, told.failing) == ("init", {None: "normal"})
    assert boundary(sweeps.table({(rate,): [None] * 3 for rate in (0.1, 1.0)}, (LR,))) is None


def failures(fails, status="diverged", seeds=3):
    """A sweep of five rates and three inits in which some runs fail."""
    inits, rates = ("xavier", "kaiming", "lecun"), planted.RATES
    return from_records(
        [
            {LR: rate, "init": init, "seed.value": seed, "loss": seed + len(init)}
            | ({"loss": None, "status": status} if fails(rate, seed) else {})
            for rate, init, seed in itertools.product(rates, inits, range(seeds))
        ],
        "loss",
        ["seed.value"],
    )


def test_a_single_value_that_fails_is_found_wherever_it_is():
    for rate in planted.RATES[1:4]:
        found = one(failures(lambda at, seed, rate=rate: at == rate), "divergence")
        assert found.text.startswith(f"runs fail at {LR}={rate:g}: leave those out")
        assert found.evidence.startswith("9 of the 9 runs there failed, and 0 elsewhere")
    ends = one(failures(lambda at, seed: at in (0.001, 10.0)), "divergence")
    assert f"{LR}=0.001" in ends.text and "9 elsewhere" in ends.evidence


def test_failures_of_less_than_half_of_the_runs_are_told_by_their_count():
    found = one(failures(lambda at, seed: at == 10.0 and seed < 4, seeds=10), "divergence")
    assert found.text.startswith(f"12 of 30 runs fail at {LR} >= 10: leave those out")
    assert f"{LR} ≥ 10 时 30 次运行中有 12 次失败" in found.text.zh
    assert found.evidence.startswith("12 of the 30 runs there failed, and 0 elsewhere")


def test_runs_that_failed_together_count_once():
    """A machine that was lost takes all seeds of a setting; a divergence is of a run's own."""
    values = {(rate,): None if rate == 10 else 0.5 for rate in planted.RATES}
    records = [
        {LR: rate, "seed.value": seed, "loss": value, **({"status": status} if value is None else {})}
        for status in ("diverged",)
        for (rate,), value in values.items()
        for seed in range(5)
    ]
    assert boundary(from_records(records, "loss", ["seed.value"]))
    lost = [one | ({"status": "failed"} if one["loss"] is None else {}) for one in records]
    assert boundary(from_records(lost, "loss", ["seed.value"])) is None  # one of five settings, at an end
    assert boundary(failures(lambda at, seed: at == 10.0, "failed"))  # in each of three inits


def test_training_that_still_improves_at_its_end_is_found():
    g = np.random.default_rng(0)
    table, curves = planted.trained(Shape(1, 3), planted.falling(30, 8), g)
    found = one(table, "cut off", curves=curves)
    assert "trainer.max_epochs=60" in found.text and "trainer.max_epochs=60" in found.text.zh
    table, curves = planted.trained(Shape(1, 3), planted.settled(0, 30), g)
    assert "cut off" not in kinds(table, curves=curves)
    assert "cut off" not in kinds(table, curves=lambda row: [])


def test_a_key_without_effect_is_fixed_at_a_value_of_its_own(tmp_path):
    """Not at the best setting's, where that is one of an option that does not have the key."""
    home, values = tmp_path / "outputs" / "main", [0.2113, 0.3071, 0.25391]
    steps = {("scheduler=step", f"scheduler.gamma={gamma}"): values for gamma in (0.1, 0.5)}
    sweeps.grid(home, {**steps, ("scheduler=constant",): [0.1113, 0.2071, 0.15391]})
    found = one(load(home), "no effect", curves=lambda row: [])
    assert found.text.startswith(
        "scheduler.gamma has no effect that matters: fix it, such as scheduler.gamma=0.1,"
    )
    assert "scheduler=step scheduler.gamma=0.1 " in found.command


def test_worse_settings_that_still_improve_say_nothing_where_the_best_one_stopped_early():
    table, curves = planted.trained(Shape(1, 3), planted.falling(30, 8), np.random.default_rng(0))
    best = answer(table).ranking[0].setting
    rows = [replace(row, status="stopped early") if row.setting == best else row for row in table.rows]
    assert "cut off" in kinds(table, curves=curves)
    assert "cut off" not in kinds(replace(table, rows=tuple(rows)), curves=curves)


def without_nan(curves, row):
    """Epochs as they are where no step of some of them was logged."""
    return [{tag: value for tag, value in line.items() if value == value} for line in curves(row)]


def test_training_whose_rate_changed_is_not_judged(tmp_path):
    """Neither by what was logged beside the curves nor in the folder, nor by the name of a schedule alone."""
    g = np.random.default_rng(0)
    still, dropped = np.full(30, 0.1), np.where(np.arange(30) < 20, 0.1, 0.01)
    early, ended = np.where(np.arange(30) < 5, 0.1, 0.01), np.where(np.arange(30) < 5, 0.1, 1e-9)
    for scheduler, logged, judged in (
        ("constant", (), True),
        ("plateau", still, True),
        ("step", early, True),
        ("plateau", (), False),
        ("step", dropped, False),
        ("constant", dropped, False),
        ("cosine", ended, False),
        ("plateau", [*still[:25], *[math.nan] * 5], False),
    ):
        table, curves = planted.trained(Shape(1, 3), planted.falling(30, 8), g, 0, scheduler, logged)
        found = kinds(table, curves=partial(without_nan, curves))
        assert ("cut off" in found) == judged, (scheduler, logged)

    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": e, "epoch": e, "lr/lr": r}) + "\n" for e, r in enumerate(dropped))
    )
    table, curves = planted.trained(Shape(1, 3), planted.falling(30, 8), g)
    one = Curve(replace(table.rows[0], folder=tmp_path), tuple(range(30)), (0.0,) * 30)
    assert not is_still(one, curves, 9) and is_still(one, curves, 25)


def test_what_longer_training_may_bring_stays_within_the_metric():
    g = np.random.default_rng(1)
    costs = {(s, k): 0.9 + 0.08 * np.arange(1, 13) / 12 + 0.001 * g.normal() for s in "ab" for k in range(3)}
    table = sweeps.table(
        {(s,): [max(costs[s, k]) for k in range(3)] for s in "ab"}, ("init",), "val/accuracy"
    )
    found = one(
        table,
        "cut off",
        curves=lambda row: [
            {"epoch": e, "val/accuracy": c} for e, c in enumerate(costs[row.setting[0], row.replicate[0]])
        ],
    )
    best = sum(map(max, costs.values())) / 6  # of at most 1; a straight line would bring 0.04
    assert found.evidence.endswith(f"may bring {1 - best:.2g}")


def test_patience_is_judged_by_runs_that_had_more():
    """Two seeds, each with a patience of 3 and of 20, on a curve that rests for 6 epochs before it falls."""
    costs = [1.0] * 7 + [0.9 - 0.1 * step for step in range(8)] + [0.2] * 21
    records, lines = [], {}
    for patience, seed in itertools.product((3, 20), range(4)):
        kept = [cost + seed / 100 for cost in (costs[:4] if patience == 3 else costs)]
        records.append(
            {
                "early_stop.patience": patience,
                "seed.value": seed,
                "val/loss": min(kept),
                "status": "stopped early",
            }
        )
        lines[patience, seed] = [{"epoch": at, "val/loss": cost} for at, cost in enumerate(kept)]
    table = from_records(records, "val/loss", ["seed.value"])
    found = one(table, "patience", curves=lambda row: lines[row.setting[0], row.replicate[0]])
    assert found.text.startswith("a patience of 3 epochs ended runs that would have improved")
    assert found.evidence.startswith("4 of 8 runs") and "up to 7 epochs" in found.evidence


def test_too_few_seeds_are_found_with_the_number_that_would_do():
    table = sweeps.table({("a",): [0.5, 0.7, 0.61], ("b",): [0.62, 0.58, 0.66]}, ("init",))
    found = one(table, "few seeds")
    (first,) = answer(table).comparisons["init"]
    assert f"about {first.verdict.needed.n} would settle it" in found.text
    assert "few seeds" not in kinds(rates({"a": 0.1, "b": 0.9}, "init"))
    single = sweeps.table({("a",): [0.5], ("b",): [0.6]}, ("init",))
    assert one(single, "few seeds").text.startswith("each setting has one run")


# --- folders, and the commands


def made(home, grid: Mapping[str, Iterable[Any]], costs, seeds: int = 3, lines=None, **fields: Any):
    """Writes a sweep of run folders; `costs(values, seed)` gives each value, None for a run that diverged."""
    for values in itertools.product(*grid.values()):
        for seed in range(seeds):
            given = [f"{key}={value}" for key, value in zip(grid, values, strict=True)]
            value = costs(values, seed)
            status = "diverged" if value is None else fields.get("status", "finished")
            curve = lines(values, seed) if lines else None
            value = min(curve) if curve else value
            folder = sweeps.run(home, *given, f"seed.value={seed}", value=value, status=status)
            if curve:
                text = [
                    json.dumps({"epoch": e, "step": e, "train/loss": c, "val/loss": c})
                    for e, c in enumerate(curve)
                ]
                (folder / "metrics.jsonl").write_text("\n".join(text) + "\n")
    return critique(answer(load(home), thorough=False))


def stopped_early(values, seed: int) -> list[float]:
    start = 12 if seed % 2 else 5
    whole = [1.0 + seed / 100] * start + [0.2 + seed / 100 - step / 1000 for step in range(10)]
    return whole[:9] if seed % 2 else whole


FAULTS = {
    "edge": ({LR: (0.001, 0.01, 0.1)}, lambda v, s: 3 + math.log10(1 / v[0]) + s / 100, 3, None, {}),
    "edge of dropout": (
        {"regularizer": ("dropout",), "regularizer.dropout.p": (0.3, 0.5, 0.7)},
        lambda v, s: 3 - v[1] + ((s * 7 + int(v[1] * 10)) % 3) / 1000,
        3,
        None,
        {},
    ),
    "coarse": (
        {LR: (0.0001, 0.001, 0.01, 0.1), "scheduler": ("cosine",)},
        lambda v, s: (math.log10(v[0]) + 2.4) ** 2 + s / 1000,
        3,
        None,
        {},
    ),
    "divergence": (
        {"init": ("xavier", "kaiming", "zeros"), LR: (0.01, 0.1, 1.0)},
        lambda v, s: None if v[1] == 1 or (v[0] == "zeros" and v[1] > 0.01) else 0.5 + s / 100,
        3,
        None,
        {},
    ),
    "no effect": (
        {"init": ("xavier", "kaiming"), "early_stop.min_delta": (0.0, 1e-9)},
        lambda v, s: (v[0] == "xavier") + math.sin(s + 1) / 100,
        3,
        None,
        {},
    ),
    "cut off": (
        {"init": ("xavier", "kaiming"), "trainer.max_epochs": (12,)},
        lambda v, s: 0.5,
        3,
        lambda v, s: [(v[0] == "xavier") + 0.001 * s + (0.9 + 0.001 * s) ** epoch for epoch in range(12)],
        {},
    ),
    "patience": (
        {"init": ("xavier", "kaiming"), "early_stop.patience": (8,)},
        lambda v, s: 0.5,
        6,
        stopped_early,
        {"status": "stopped early"},
    ),
    "few seeds": (
        {"init": ("xavier", "kaiming")},
        lambda v, s: 0.5 + 0.1 * math.sin(5 * s + len(v[0])),
        3,
        None,
        {},
    ),
    "few seeds of one": ({"init": ("xavier", "kaiming")}, lambda v, s: 0.5 + len(v[0]), 1, None, {}),
    "no baseline": ({"init": ("xavier", "kaiming"), LR: (0.1, 0.2)}, lambda v, s: v[1] + s, 2, None, {}),
}


ADVISED = {
    "edge": ("optimizer.lr=1,10", "seed.value=0,1,2"),
    "edge of dropout": ("regularizer.dropout.p=0.85,0.925",),
    "coarse": ("optimizer.lr=0.0032,0.032", "scheduler=cosine"),
    "divergence": ("init=kaiming,xavier,zeros", "optimizer.lr=0.01", "seed.value=3,4,5"),
    "cut off": ("trainer.max_epochs=24", "seed.value=0,1,2"),
    "patience": ("early_stop.patience=16",),
    "no effect": ("early_stop.min_delta=0.0", "seed.value=3,4,5"),
    "few seeds": ("init=kaiming,xavier", "seed.value=range(3,"),
    "few seeds of one": ("seed.value=1,2,3,4",),
    "no baseline": ("seed.value=0,1",),
}


def runs_of(command: str) -> list[tuple[str, ...]]:
    """The overrides of each run of a command, as Hydra reads it."""
    words = shlex.split(command)
    assert words[:3] == ["python", "train.py", "-m"], command
    if "&&" in words:
        at = words.index("&&")
        return [*runs_of(shlex.join(words[:at])), *runs_of(shlex.join(words[at + 1 :]))]
    sides = []
    for override in OverridesParser.create().parse_overrides(words[3:]):
        head = override.input_line.partition("=")[0]
        values = list(override.sweep_string_iterator()) if override.is_sweep_override() else None
        sides.append([f"{head}={value}" for value in values] if values else [override.input_line])
    return list(itertools.product(*sides))


def composes(command: str) -> int:
    """Composes the runs of a command as the program would; how many there are."""
    runs = runs_of(command)
    for run in runs[:24]:
        composed(*run)
    return len(runs)


@pytest.mark.parametrize("name", FAULTS)
def test_the_command_of_every_kind_composes(tmp_path, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    grid, costs, seeds, lines, fields = FAULTS[name]
    found = made(tmp_path / "outputs" / "main", grid, costs, seeds, lines, **fields)
    kind = next(kind for kind in ORDER if name.startswith(kind))
    mine = [one for one in found if one.kind == kind]
    assert mine, [one.kind for one in found]
    for each in found:
        assert each.command and composes(each.command), each
    words = shlex.split(mine[0].command)
    assert all(any(word.startswith(advised) for word in words) for advised in ADVISED[name]), words
    assert kind != "no baseline" or not any(word.startswith(("init", "optimizer")) for word in words)
    assert json.loads(json.dumps(as_content(found)))[0]["text"].keys() == {"en", "zh"}
    assert len(passages(found)) == 2 * len(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_runs_of_every_command_can_be_built(tmp_path, name):
    """The values are in their ranges, and no two settings exclude each other."""
    grid, costs, seeds, lines, fields = FAULTS[name]
    for each in made(tmp_path / "main", grid, costs, seeds, lines, **fields):
        runs = runs_of(each.command)
        for run in (runs[0], runs[-1]):
            build(composed(*run))


def test_the_command_for_more_seeds_trains_both_sides(tmp_path):
    """Also where the best settings of both differ in all keys, so that they are no grid."""
    values = {("kaiming", 0.01, 0.001): 0.0, ("xavier", 0.001, 0.0): 0.02, ("kaiming", 0.001, 0.0): 0.05}
    grid = {"init": ("xavier", "kaiming"), LR: (0.001, 0.01), "optimizer.weight_decay": (0.0, 0.001)}
    noise = itertools.cycle([0.3, -0.2, 0.1, -0.25, 0.05])
    home = tmp_path / "main"
    made(home, grid, lambda v, s: 2 + values.get(v, 0.1) + next(noise), 2)
    said = answer(load(home), thorough=False)
    (found,) = [each for each in critique(said) if each.kind == "few seeds"]
    (key,) = [key for key in said.comparisons if f"tell {key}=" in found.text]
    first = said.comparisons[key][0]
    trained = {
        tuple(sorted(override for override in run if not override.startswith(("seed", "output_dir", "name"))))
        for run in runs_of(found.command)
    }
    for setting in (*first.better.where, *first.other.where):
        named = zip(said.table.settings, setting, strict=True)
        assert tuple(sorted(f"{key}={value}" for key, value in named)) in trained, (setting, found.command)


def test_more_seeds_than_one_command_adds_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sweepwise.results.critique.few_seeds.MOST_SEEDS", 5)
    noise = {"xavier": (0.0, 0.9, 0.0), "kaiming": (0.8, 0.0, 0.0)}
    found = made(tmp_path / "main", {"init": tuple(noise)}, lambda v, s: 1 + noise[v[0]][s])
    (few,) = [each for each in found if each.kind == "few seeds"]
    assert re.search(r"about \d\d would settle it; add 5 first$", few.text)
    assert few.text.zh.endswith("个；先增加 5 个")
    assert len(runs_of(few.command)) == 2 * 5


def test_without_its_conf_no_default_is_missed(tmp_path, monkeypatch):
    grid = {"init": ("default", "xavier"), LR: (0.003, 0.01)}
    for folder in (tmp_path, ROOT):  # the program, and conf/ beside it, are named as from where it was called
        monkeypatch.chdir(folder)
        found = made(tmp_path / folder.name / "main", grid, lambda v, s: v[1] + s, 2)
        assert ("no baseline" in [each.kind for each in found]) == (folder == ROOT)


def test_a_default_counts_however_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # where the runs say that train.py is, and with it conf/
    grid = {"init": ("default", "xavier"), LR: (0.001, 0.01)}
    found = made(tmp_path / "main", grid, lambda v, s: v[1] + s, 2)
    assert "no baseline" not in [one.kind for one in found]
    found = made(tmp_path / "two", {**grid, LR: (0.003, 0.01)}, lambda v, s: v[1] + s, 2)
    (missing,) = [one for one in found if one.kind == "no baseline"]
    assert missing.evidence == "the default of optimizer.lr is not among the values of 4 settings"
    assert "optimizer.lr=0.001" in missing.text


# --- whatever a sweep is


@pytest.mark.parametrize(
    "records",
    [
        [{"lr": 0.1, "seed": 0, "loss": 1.0}],
        [{"seed": seed, "loss": 1.0} for seed in range(3)],
        [{"lr": lr, "seed": seed, "loss": 1.0} for lr in (0.1, 0.2, 0.3) for seed in range(3)],  # ties
        [{"lr": lr, "seed": seed, "loss": None} for lr in (0.1, 0.2, 0.3) for seed in range(3)],
        [
            {"lr": lr, "seed": 0, "loss": 1.0 * place}
            for place, lr in enumerate((None, 0.1, "0.1", True, (1, 2)))
        ],
        [{"lr": lr, "seed": seed, "loss": seed + (lr or 0)} for lr in (None, 0.1, 0.2) for seed in range(2)],
        [
            {"lr": lr, "seed": seed + 10 * lr, "loss": seed} for lr in (1, 2, 3) for seed in range(3)
        ],  # unshared
        [
            {"lr": 1e300 * lr, "seed": seed, "loss": 1e300 * lr + seed}
            for lr in (1, 2, 3)
            for seed in range(3)
        ],
        [{"lr": -lr, "seed": seed, "loss": float(lr)} for lr in (1, 2, 3) for seed in range(3)],
        [{"lr": lr, "seed": 0, "loss": float(lr), "status": "running"} for lr in (1, 2, 3)],
        [{"lr": f"<b>{lr}</b>", "seed": seed, "loss": float(lr)} for lr in (1, 2, 3) for seed in range(2)],
    ],
)
def test_no_sweep_breaks_the_critique(records):
    found = critique(answer(from_records(records, "loss"), thorough=False))
    assert json.loads(json.dumps(as_content(found), allow_nan=False)) is not None
    assert all("nan" not in one.text + one.evidence for one in found)


def test_damaged_curves_are_left_out():
    table, _ = planted.trained(Shape(1, 2), planted.falling(30, 8), np.random.default_rng(0))
    lines: list[dict[str, Any]] = [{}, {"epoch": "x"}, {"val/loss": None, "epoch": 1}, {"val/loss": math.nan}]
    assert "cut off" not in kinds(table, curves=lambda row: lines)


def test_keys_that_only_some_runs_have_are_judged_among_those():
    values = {
        ("adam", None): [0.9, 0.91],
        ("sgd", 0.1): [0.5, 0.51],
        ("sgd", 0.5): [0.4, 0.41],
        ("sgd", 0.9): [0.1, 0.11],
    }
    found = one(sweeps.table(values, ("optimizer", "optimizer.momentum")), "edge")
    assert "optimizer.momentum=0.9, the largest" in found.text and "add 0.95, 0.975" in found.text


# --- scales


@pytest.mark.parametrize(
    ("key", "values", "high", "expected"),
    [
        ("optimizer.lr", [0.001, 0.003, 0.01], True, [0.033, 0.11]),
        ("optimizer.lr", [0.001, 0.01, 0.1], False, [0.0001, 1e-05]),
        ("optimizer.momentum", [0.5, 0.7, 0.9], True, [0.95, 0.975]),
        ("optimizer.weight_decay", [0, 0.0001, 0.001], False, []),
        ("optimizer.weight_decay", [0, 0.0001, 0.001], True, [0.01, 0.1]),
        ("trainer.accumulate", [1, 2, 4], False, []),
        ("trainer.accumulate", [1, 2, 4], True, [8, 16]),
        ("model.width", [16, 64, 256], True, [1024, 4096]),
        ("data.batch_size", [16, 32, 64], True, [128, 256]),
        ("data.batch_size", [32, 64, 128], False, [16, 8]),
        ("optimizer.lr", [0.1, 0.2, 0.4], True, [0.8, 1.6]),
        ("scheduler.gamma", [0.1, 0.5, 0.9], True, [0.95, 0.975]),
        ("optimizer.rho", [0.9, 0.95, 0.99], True, [0.995, 0.998]),
        ("scheduler.total_iters", [1, 2, 3], False, []),
        ("scheduler.warmup", [1, 2, 3], False, [0]),
        ("regularizer.rotation.degrees", [60, 120, 180], True, []),
    ],
)
def test_values_beyond_an_edge_stay_in_the_range_of_the_key(key, values, high, expected):
    assert scale.beyond(key, values, high=high) == expected


def test_scales_are_told_from_the_values():
    assert scale.is_log([0.001, 0.01, 0.1]) and scale.is_log([16, 64, 256]) and scale.is_log([0, 1e-4, 1e-3])
    assert not scale.is_log([0.1, 0.2, 0.3]) and not scale.is_log([-1, 1, 10]) and not scale.is_log([10, 20])
    assert math.isnan(scale.positions([0.0, 0.1, 1.0])[0])


def test_values_between_powers_of_two_are_powers_of_two_if_there_are_any():
    assert scale.between([16, 64, 256], 16, 64, 1) == [32]
    assert scale.between([16, 32, 64], 32, 64, 1) == [45]
    assert scale.is_log([16, 32, 64]) and scale.is_log([0.1, 0.2, 0.4]) and not scale.is_log([1, 2, 3])


def test_no_value_beyond_leaves_the_range_of_a_signature():
    """Of each parameter of all options but seeds, torch's too, from values at either end of its range."""
    import torch  # noqa: F401

    tried = 0
    for path in CONF.glob("*/*.yaml"):
        node = composed_option(path)
        if "." not in str(node.get("_target_", "")) or path.parent.name == "seed":
            continue
        target = schema.locate("any", node["_target_"])
        for name in schema._parameters(target):
            hint = schema._hint(target, name)
            for note in getattr(hint, "__metadata__", ()):
                if isinstance(note, Range) and (kind := typing.get_args(hint)[0]) in (int, float):
                    tried += stays_within(note, f"{path.parent.name}.{name}", kind is int)
    assert tried > 100


def stays_within(note: Range, key: str, whole: bool) -> int:
    """How many values were tried."""
    step: float = 1 if whole else 0.1
    low = note.low if math.isfinite(note.low) else 0
    samples = [[low + place * step for place in (1, 2, 3)]]
    if math.isfinite(note.high):
        samples.append([note.high - place * step for place in (3, 2, 1)])
    added = [
        value
        for values in samples
        for high in (False, True)
        for value in scale.beyond(key, values, high=high)
    ]
    assert all(value in note for value in added), (key, added)
    return len(added)


def test_the_ranges_are_those_of_the_signatures():
    """Every range that is named here is that of each parameter of that name."""
    import torch  # noqa: F401

    found: dict[str, set[Range]] = {}
    for path in CONF.glob("*/*.yaml"):
        node = composed_option(path)
        for name, hint in schema_hints(node).items():
            for note in getattr(hint, "__metadata__", ()):
                if isinstance(note, Range):
                    found.setdefault(name, set()).add(note)
    known = {name: note for name, note in scale.OWN_RANGES.items() if name in found}
    assert len(known) > 9
    for name, note in known.items():
        assert note in found[name] and all(
            one.low <= note.low and one.high >= note.high for one in found[name]
        )


def composed_option(path) -> Mapping[str, Any]:
    return option_of(path)


def schema_hints(node: Mapping[str, Any]) -> Mapping[str, Any]:
    if "_target_" not in node or not str(node["_target_"]).startswith("sweepwise"):
        return {}
    target = schema.locate("any", node["_target_"])
    return {name: schema._hint(target, name) for name in schema._parameters(target)}


# --- simulated: at least 95 of 100 planted faults, at most 5 of 100 false alarms


def keys(table):
    return [along(table, key) for key in table.settings]


def counted(find, make, shapes, times: int = 100) -> dict[str, int]:
    return {
        str(shape): sum(bool(find(make(shape, np.random.default_rng(i)))) for i in range(times))
        for shape in shapes
    }


def by_edges(table):
    return list(edges(planted.answered(table), keys(table)))


def by_gaps(table):
    return list(gaps(planted.answered(table), keys(table)))


def by_idle(table):
    wanted = planted.KEYS[2:] if len(table.settings) == 3 else planted.KEYS[:2]
    return [one for one in idle(keys(table)) if one.key in wanted]


def by_boundary(table):
    found = boundary(table)
    return found and found.key != "init"  # which makes runs fail in some sweeps without a boundary


def by_cut_off(trained):
    table, curves = trained
    return list(cut_off(planted.answered(table), curves))


def by_impatience(trained):
    table, curves = trained
    return list(impatience(planted.answered(table), curves))


REPEATED = [Shape(1, 2), Shape(1, 3, noise=0.01), Shape(1, 5)]
ALIKE = [Shape(2, 2), Shape(2, 3), Shape(2, 5)]
MANY = [Shape(3, 3, noise=0.01), Shape(3, 5)]
SMALL = [Shape(1, 5), Shape(2, 2), Shape(2, 3), Shape(2, 5)]
SWEPT = [shape for shape in GRIDS if shape.keys < 3] + [Shape(3, 2), RANDOM[2]]
SIMULATED = {
    "edge": (
        by_edges,
        {"8 deviations": ([*GRIDS, RANDOM[2]], lambda s, g: planted.sweep(s, planted.beyond(g, 8), g))},
        {
            "inside": ([*GRIDS, *RANDOM], lambda s, g: planted.sweep(s, planted.inside(g), g)),
            "noise with cost": (
                [*REPEATED, Shape(2, 3)],
                lambda s, g: planted.sweep(s, planted.inside(g), g, 0.05),
            ),
            "alike": (ALIKE, lambda s, g: planted.alike(s, lambda rate, decay: 0.0, g)),
            "unequal noise": (
                [Shape(1, 2), Shape(2, 2), Shape(2, 3), Shape(1, 5), Shape(2, 5)],
                lambda s, g: planted.unequal(s, g),
            ),
        },
    ),
    "coarse": (
        by_gaps,
        {
            "gain 8": (
                [s for s in GRIDS if s.seeds > 2],
                lambda s, g: planted.sweep(s, planted.coarse(g, 8), g),
            )
        },
        {
            "fine": (GRIDS, lambda s, g: planted.sweep(s, planted.fine(g), g)),
            "kinked": (REPEATED[1:], lambda s, g: planted.sweep(s, planted.kinked(g), g)),
            "alike, gain 0.94": (
                ALIKE,
                lambda s, g: planted.alike(s, lambda rate, decay: 0.94 / 0.3**2 * (rate - 2.3) ** 2, g),
            ),
        },
    ),
    "no effect": (
        by_idle,
        {"none": ([Shape(3, 5)], lambda s, g: planted.sweep(s, planted.idle(g, 0), g))},
        {
            "0.95": (MANY, lambda s, g: planted.sweep(s, planted.idle(g, 0.95), g)),
            "0.95, small": (SMALL, lambda s, g: planted.sweep(s, planted.slight(g), g)),
            "0.95, alike": (
                [Shape(3, 3), Shape(3, 5)],
                lambda s, g: planted.alike(s, lambda rate, decay: 3 * rate + 0.95 * decay, g),
            ),
            "accuracies": ([Shape(1, 2), Shape(1, 3)], lambda s, g: planted.stepped(s, g)),
        },
    ),
    "divergence": (
        by_boundary,
        {"by init": (SWEPT, lambda s, g: planted.failing(s, g, True))},
        {
            "unrelated": (SWEPT, lambda s, g: planted.failing(s, g, False)),
            "whole settings": ([Shape(1, 3), Shape(2, 3), Shape(3, 2)], planted.accidents),
        },
    ),
    "cut off": (
        by_cut_off,
        {
            f"{epochs} epochs": (
                REPEATED,
                lambda s, g, e=epochs: planted.trained(s, planted.falling(e, 4), g),
            )
            for epochs in (8, 30, 100)
        },
        {
            f"{epochs}, {kind}": (
                REPEATED,
                lambda s, g, e=epochs, k=kind: planted.trained(s, planted.settled(k, e), g),
            )
            for epochs in (8, 30)
            for kind in range(3)
        }
        | {
            "annealed": (
                REPEATED,
                lambda s, g: planted.trained(s, planted.settled(3, 100), g, 0, "cosine"),
            )
        }
        | {
            f"{name}, {size} deviations": (
                REPEATED,
                lambda s, g, r=rates, z=size: planted.trained(
                    s, planted.following(r, z, 0.5), g, 0, "other", r
                ),
            )
            for name, rates in planted.SCHEDULES.items()
            for size in (2, 6)
        }
        | {
            f"noise of all runs, {correlation}": (
                REPEATED,
                lambda s, g, c=correlation: planted.trained(s, planted.moving_together(g, c), g),
            )
            for correlation in (0.5, 0.9)
        },
    ),
    "patience": (
        by_impatience,
        {
            f"{wait} epochs": (
                [Shape(1, 5), Shape(1, 10)],
                lambda s, g, w=wait: planted.trained(s, planted.stairs(0.5, 10, w), g, w),
            )
            for wait in (5, 10)
        },
        {
            f"{kind}": (
                REPEATED[1:],
                lambda s, g, k=kind: planted.trained(
                    s, planted.settled(k, 80) if k < 3 else planted.stairs(0, 10, 10), g, 10
                ),
            )
            for kind in range(4)
        }
        | {
            f"noise {noise}, correlation {correlation}, rise {rise}, patience {wait}": (
                REPEATED[1:],
                lambda s, g, n=noise, c=correlation, r=rise, w=wait: planted.trained(
                    s, planted.resting(n, c, r), g, w
                ),
            )
            for noise, correlation, rise, wait in (
                (0.6, 0.0, 0.0, 3),
                (1.0, 0.0, 0.0, 3),
                (1.0, 0.7, 0.0, 5),
                (0.6, 0.0, 0.1, 3),
                (1.0, 0.0, 0.1, 3),
            )
        }
        | {
            f"learnt, correlation {correlation}": (
                REPEATED[1:],
                lambda s, g, c=correlation: planted.trained(s, planted.slowing(c), g, 10),
            )
            for correlation in (0.0, 0.9)
        },
    ),
    "few seeds": (
        lambda table: "few seeds" in kinds(table),
        {
            "half a deviation": (
                [Shape(2, 2), Shape(2, 3)],
                lambda s, g: planted.sweep(s, lambda rate, init, decay: 0.5 * rate + 0.5 * init, g),
            )
        },
        {
            "decided": (
                [Shape(1, 5), Shape(2, 5)],
                lambda s, g: planted.sweep(s, lambda rate, init, decay: 12 * rate + 12 * init, g),
            )
        },
    ),
}


# --- real sweeps

QUICK = [*WINE, "model.hidden=[8]", "progress=false", "monitor=none", "checkpoint=end"]
REAL = {
    "edge": (
        ["optimizer=sgd", "optimizer.lr=0.00003,0.0003,0.003", "early_stop=none", "trainer.max_epochs=5"],
        5,
    ),
    "cut off": (
        [
            "optimizer=sgd",
            "init=xavier,kaiming",
            "optimizer.lr=0.0003",
            "early_stop=none",
            "trainer.max_epochs=8",
        ],
        3,
    ),
    "divergence": (
        [
            "data=diabetes",
            "optimizer=sgd",
            "init=xavier,kaiming",
            "optimizer.lr=0.001,0.01,10,100",
            "early_stop=none",
            "trainer.max_epochs=5",
        ],
        2,
    ),
    "no effect": (["init=xavier,kaiming", "early_stop.patience=3,4", "trainer.max_epochs=5"], 2),
    "coarse": (
        [
            "data=digits",
            "model.hidden=[32]",
            "optimizer.lr=0.002,0.005,0.05,0.1",
            "early_stop=none",
            "trainer.max_epochs=5",
        ],
        3,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", REAL)
def test_planted_faults_of_real_sweeps_are_found(as_command, empty_folder, kind):
    words, seeds = REAL[kind]
    code, _out, complaint = as_command(
        TRAIN, "-m", *QUICK, *words, f"seed.value={','.join(map(str, range(seeds)))}"
    )
    assert code == 0 or kind == "divergence", complaint
    found = critique(answer(load(empty_folder / "outputs" / "main"), thorough=False))
    for each in found:
        print(kind, "|", each.kind, "|", each.text, "|", each.evidence, "|", each.command)
        assert composes(each.command.replace(TRAIN, "train.py"))
    assert kind in [each.kind for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIMULATED)
def test_planted_faults_are_found_and_false_alarms_are_rare(kind):
    find, faults, nulls = SIMULATED[kind]
    for name, (shapes, make) in faults.items():
        found = counted(find, make, shapes)
        print(f"{kind}: found, {name}: {found}")
        assert min(found.values()) >= 95 - 4 and sum(found.values()) >= 95 * len(found), found
    total, n = 0, 0
    for name, (shapes, make) in nulls.items():
        found = counted(find, make, shapes)
        print(f"{kind}: false alarms, {name}: {found}")
        total, n = total + sum(found.values()), n + 100 * len(found)
        assert max(found.values()) <= stats.binom.ppf(0.999, 100, 0.05), found
    assert total <= stats.binom.ppf(0.975, n, 0.05), (total, n)


POWER = {  # sizes of a fault: how often it is found
    "cut off": (
        by_cut_off,
        [Shape(1, 2), Shape(1, 3), Shape(1, 5)],
        (1, 2, 4),
        lambda s, g, size: planted.trained(s, planted.falling(30, size), g),
    ),
    "patience": (
        by_impatience,
        [Shape(1, 3), Shape(1, 5), Shape(1, 10)],
        (2, 5, 10),
        lambda s, g, size: planted.trained(s, planted.stairs(0.5, size, 5), g, 5),
    ),
    "divergence": (
        by_boundary,
        [Shape(1, 2), Shape(1, 5), Shape(2, 2), Shape(2, 3)],
        (0.25, 0.5, 1),
        lambda s, g, size: planted.partly(s, g, size),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", POWER)
def test_larger_faults_are_found_more_often(kind):
    find, shapes, sizes, make = POWER[kind]
    found = [counted(find, lambda s, g, z=size: make(s, g, z), shapes) for size in sizes]
    for size, counts in zip(sizes, found, strict=True):
        print(f"{kind}: size {size}: {counts}")
    assert all(
        after[shape] >= before[shape] - 10 for before, after in itertools.pairwise(found) for shape in after
    )
